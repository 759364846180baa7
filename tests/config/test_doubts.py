"""Paths that look like misspelled words: no mistake, for a payload may have such a member, but told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker.cli import app
from broker.config import doubts_of_rules
from plugins.host.frame import Fields
from tests.plugins.rules import Rules

FILE = """\
plugins:
  ingress:
    - name: calm
      topics: [a]
      module: rules
      config:
        steps:
          - {action: sample, one_in: 2, by: [topic, site]}
          - when: {path: v, above: 1}
            steps:
              - action: unique
                within: 10s
                by:
                  - user
                  - cleint
"""
KEY = "plugins.ingress[0].config.steps[1].steps[0].by[1]"
WORDS = r"warning: 'cleint' is a path of the payload; did you mean 'client'? If not, write \cleint"


def geomq(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def told(*by: str) -> list[str]:
    """The words that are nearly these."""
    found = list(doubts_of_rules({"steps": [{"action": "sample", "one_in": 2, "by": list(by)}]}))
    assert all(key[:3] == ("steps", 0, "by") for key, _ in found)
    return [text.split("did you mean ")[1].split("?")[0].strip("'") for _, text in found]


@pytest.mark.parametrize(
    "by", ["cleint", "clients", "Client", "clientid", "usre", "users", "usr", "tpoic", "TOPIC"]
)
def test_near_words_are_asked_about(by: str) -> None:
    word = {"c": "client", "u": "user", "t": "topic"}[by[0].lower()]
    assert told(by) == [word]


@pytest.mark.parametrize(
    "by", ["topic", "client", "user", "site", "id", "v", "temperature", "device.users", "**.client", "*"]
)
def test_words_and_clear_paths_are_not(by: str) -> None:
    assert told(by, f"\\{by}") == []


def test_what_is_no_configuration_is_others_concern() -> None:
    for config in ({}, {"steps": 5}, {"steps": [5, {"by": "cleint"}, {"by": [5]}, {"steps": {}}]}):
        assert list(doubts_of_rules(config)) == []


def test_backslash_says_that_a_path_is_meant() -> None:
    """It is also how a member is named that is called as one of the words is."""
    rules = Rules({"action": "sample", "one_in": 2, "by": ["\\user"]})
    payloads = [json.dumps({"user": name}).encode() for name in ("a", "b", "a", "b")]
    after = rules.run(*(Fields(b"t", payload, user=b"one") for payload in payloads))
    rules.close()
    assert [one is not None for one in after] == [True, True, False, False]


def test_check_and_trial_tell_the_line(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(FILE)
    result = geomq("config", "check", file)
    assert (result.exit_code, result.stderr) == (0, f"{file}:15: {KEY}: {WORDS}\n")
    result = geomq("plugin", "test", file, "--topic", "a", "--payload", '{"v": 2}')
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == f"{file}:15: {KEY}: {WORDS}"
    file.write_text(FILE.replace("cleint", "\\cleint"))
    assert geomq("config", "check", file).stderr == ""
    config = '{"steps": [{"action": "sample", "one_in": 2, "by": ["cleint"]}]}'
    result = geomq("plugin", "test", "rules", "--config", config, "--topic", "a", "--payload", "{}")
    assert result.stderr.splitlines()[0] == f"--config: steps[0].by[0]: {WORDS}"
