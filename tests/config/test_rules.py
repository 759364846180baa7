"""The built-in rules in a configuration: mistakes are told with their line, and as the module would find them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.config import rules
from broker.config.read import ConfigError, load_text
from broker.config.schema import schema
from plugins.builtin import build
from plugins.host.engine import Instance, Program
from plugins.host.limits import Limits
from plugins.host.reasons import ModuleRefused
from tests.plugins import test_rule_filters, test_rule_masks, test_rule_shapes, test_rule_windows, test_rules

HEAD = """plugins:
  egress:
    - name: a
      topics: ["x/#"]
      module: rules
      config:
"""
"""Six lines."""


def problems(config: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(HEAD + config, "node.yaml")
    return [
        str(problem).replace("plugins.egress[0].config.", "").removeprefix("node.yaml:")
        for problem in caught.value.problems
    ]


STEPS = "        steps:\n"
ALL = ", ".join(rules.ACTIONS)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            "        formt: json\n        steps: []\n",
            "7: formt: is not a key; did you mean 'format'? allowed: format, on_undecodable",
        ),
        (
            "        format: xml\n        steps: []\n",
            "7: format: 'xml': allowed: 'json', 'cbor', 'msgpack', 'text', 'auto'",
        ),
        (STEPS + "          - {path: a}\n", f"8: steps[0].action: is required; allowed: {ALL}"),
        (
            STEPS + "          - when: {retain: true}\n            action: hsh\n",
            f"9: steps[0].action: 'hsh': did you mean 'hash'? allowed: {ALL}",
        ),
        (
            STEPS + '          - {action: topic, to: "a/#"}\n',
            "8: steps[0].to: 'a/#': # cannot be: a topic is expected",
        ),
        (
            STEPS + '          - {action: emit, topic: "a/{pth:site}"}\n',
            "8: steps[0].topic: 'a/{pth:site}': {pth: cannot be: a topic is expected, with places such as",
        ),
        (STEPS + "          - 5\n", "8: steps[0]: 5: keys and values are expected here"),
        (
            STEPS + "          - action: redact\n            path: a\n            wth: b\n",
            "10: steps[0].wth: is not a key; did you mean 'with'? allowed: when, path, paths, action, with",
        ),
        (
            STEPS
            + "          - steps:\n              - action: drop\n                when: {path: a, above: x}\n",
            "10: steps[0].steps[0].when.above: 'x': allowed: a number",
        ),
        (
            STEPS
            + "          - action: keep\n            when:\n              time: {from: 22:00, to: '06:00'}\n",
            '10: steps[0].when.time.from: 1320: allowed: a time from "00:00" to "23:59", in quotes',
        ),
        (STEPS + "          - {action: keep}\n", "8: steps[0].when: is required"),
        (
            STEPS + "          - {action: drop, when: {equals: 5}}\n",
            "8: steps[0].when: asks of one thing; allowed: path, topic, topic_level",
        ),
        (
            STEPS + "          - {action: drop, when: {topic: a, equals: 5}}\n",
            "8: steps[0].when: `equals` goes with `path` and `topic_level` only",
        ),
        (
            STEPS + "          - {action: set, path: a, to: 2026-01-01}\n",
            '8: steps[0].to: datetime.date(2026, 1, 1): allowed: a text (dates stand in quotes: "2026-01-01")',
        ),
        (
            STEPS + "          - {action: aggregate, window: 5w, topic: t}\n",
            "8: steps[0].window: '5w': allowed: a duration such as 500ms",
        ),
        (
            STEPS + "          - {action: redact, path: $.driver.name}\n",
            "8: steps[0].path: '$.driver.name': JSONPath is not understood; paths here are driver.name,",
        ),
        (
            STEPS + '          - {action: drop, when: {path: "items[0].id", exists: true}}\n',
            "8: steps[0].when.path: 'items[0].id': JSONPath is not understood; paths here are driver.name,",
        ),
        (
            "        format: text\n" + STEPS + "          - {action: redact, path: name}\n",
            "9: steps[0].path: 'name': leads nowhere in a text, whose only path is $",
        ),
        (
            "        format: text\n" + STEPS + '          - {action: topic, to: "a/{path:site}"}\n',
            "9: steps[0].to: 'a/{path:site}': leads nowhere in a text, whose only path is $",
        ),
        (
            STEPS + "          - {action: drop, when: {path: t, above: 1, below: 2}}\n",
            "8: steps[0].when: needs one comparison, not above and below (`all` joins conditions): exists,",
        ),
        (
            STEPS + "          - {action: drop, when: }\n",
            "8: steps[0].when: None: a value is expected; leave the key out for the default",
        ),
        (
            STEPS + '          - {action: topic, to: "a/{1"}\n',
            "8: steps[0].to: 'a/{1': {1 cannot be: a topic is expected",
        ),
    ],
)
def test_mistakes_name_their_line(config: str, words: str) -> None:
    (found,) = problems(config)
    assert found.startswith(words)


def test_secret_is_not_told() -> None:
    (found,) = problems(STEPS + "          - {action: hash, path: a, key: c0ffee}\n")
    assert found == "8: steps[0].key: at least 16 hexadecimal digits are expected, or `key_file`"


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(
        "        format: x\n" + STEPS + "          - {action: x}\n          - {action: remove}\n"
    )
    assert [line.split(":")[0] for line in found] == ["7", "9", "10"]


# -- as the module has it ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program() -> Program:
    return Program(build.MODULE.read_bytes())


def refusal(program: Program, config: dict[str, Any]) -> str:
    try:
        Instance(program, json.dumps(config).encode(), Limits(), lambda key: None).close()
    except ModuleRefused as refused:
        return str(refused)
    return ""


def test_actions_are_those_of_the_module(program: Program) -> None:
    names = refusal(program, {"steps": [{"action": "?"}]}).split("one of: ")[1].split()
    assert sorted(names) == sorted(rules.ACTIONS)


@pytest.mark.parametrize("action", rules.ACTIONS)
def test_settings_are_those_of_the_module(program: Program, action: str) -> None:
    allowed = refusal(program, {"steps": [{"action": action, "?": 1}]}).split("allowed: ")[1].split()
    fields = rules.ACTIONS[action].model_fields
    assert sorted(allowed) == sorted({field.alias or name for name, field in fields.items()} - {"key_file"})


CASES = [
    *test_rules.MISTAKES,
    *({"steps": [step]} for step, _ in test_rule_filters.MISTAKES),
    *({"steps": [step]} for step, _ in test_rule_shapes.MISTAKES),
    *({"steps": [step]} for step, _ in test_rule_masks.MISTAKES),
    *({"steps": [test_rule_windows.step(**more)]} for more, _ in test_rule_windows.MISTAKES),
]


@pytest.mark.parametrize("config", CASES, ids=lambda config: json.dumps(config)[:70])
def test_what_the_module_refuses_is_a_mistake_here(program: Program, config: dict[str, Any]) -> None:
    assert refusal(program, config)
    assert rules.mistakes(config)


def test_schema_has_the_grammar() -> None:
    text = json.dumps(schema())
    names = set(schema()["$defs"])
    assert {reference.split('"')[0] for reference in text.split('"#/$defs/')[1:]} <= names
    assert schema()["$defs"]["Rule"]["then"]["properties"]["config"]["properties"]["steps"]
    for action in rules.ACTIONS:
        assert f'"const": "{action}"' in text
