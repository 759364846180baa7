"""`geomq plugin test` and `bench`, on the examples and on the built-in rules."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from broker.cli import app
from plugins.host.engine import Instance
from plugins.host.entry import BUILTIN, INGRESS, Entry
from plugins.host.frame import Fields, Place, decode_result, encode_request
from plugins.host.limits import Limits
from plugins.tools.effects import as_json, in_words
from plugins.tools.trial import Trial
from tests.plugins import modules
from tests.plugins.sdk.toolchains import built

RUN = CliRunner()
BINARY = BUILTIN / "rules.wasm"


def plugin(*arguments: object) -> Result:
    return RUN.invoke(app, ["plugin", *map(str, arguments)])


def tried(*arguments: object) -> list[dict[str, Any]]:
    """What `--json` says, line by line."""
    result = plugin("test", *arguments, "--json")
    assert not result.stderr, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(
        f"name: mask\ntopics: [vehicles/#]\nmodule: {built('c', 'mask')}\nconfig: {{member: driver, prefix: d-}}\n"
    )
    return path


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    path = tmp_path / "sample.jsonl"
    lines = [
        {"topic": "vehicles/1", "payload": '{"driver":"Magdalena"}', "qos": 2, "retain": True},
        {"topic": "elsewhere", "payload": '{"driver":"Magdalena"}'},
        {"topic": "vehicles/1", "payload": '{"driver":'},
        {"topic": "vehicles/1", "payload": '{"driver":"Magdalena"}'},
        {"topic": "vehicles/1", "payload": '{"speed":1}'},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_what_people_see(mask: Path, messages: Path) -> None:
    result = plugin("test", mask, "--file", messages)
    assert result.exit_code == 1
    assert result.stderr == ("5 messages: 1 passed, 2 changed, 0 dropped, 1 failed, 1 that no entry is for\n")
    assert "\x1b" not in result.stdout
    text = result.stdout.splitlines()
    assert text[:2] == ["1  vehicles/1  QoS 2, retained", '   {"driver":"Magdalena"}']
    assert text[2].startswith("   ingress mask: replace  ")
    assert text[2].endswith(" us")
    assert text[3:7] == [
        '     - driver: "Magdalena"',
        '     + driver: "d-1"',
        "     remembers last = 1",
        '     remembers is:"Magdalena" = 1',
    ]
    assert not any("elsewhere" in line for line in text), "the entry is not for this topic"
    coloured = RUN.invoke(
        app, ["plugin", "test", str(mask), "--file", str(messages)], env={"FORCE_COLOR": "1", "TERM": "xterm"}
    )
    assert '\x1b[31m     - driver: "Magdalena"\x1b[0m\n' in coloured.stdout
    rejected = "ingress mask: fail, the payload is no object that can be read; the message is dropped"
    assert rejected in result.stdout


def test_what_scripts_see(mask: Path, messages: Path) -> None:
    first, *others = tried(mask, "--file", messages, "--stage", "egress")
    assert (first["message"], first["entry"], first["stage"], first["verdict"]) == (
        1,
        "mask",
        "egress",
        "replace",
    )
    assert first["before"] == {
        "topic": "vehicles/1",
        "payload": '{"driver":"Magdalena"}',
        "qos": 2,
        "retain": True,
    }
    assert first["after"]["payload"] == '{"driver":"d-1"}'
    assert first["effects"] == [
        {"kind": "state", "key": "last", "value": "1", "lifetime_ms": 0},
        {"kind": "state", "key": 'is:"Magdalena"', "value": "1", "lifetime_ms": 0},
    ]
    assert first["fuel"] > 100
    assert [(one["message"], one["verdict"]) for one in others] == [(3, "fail"), (4, "replace"), (5, "pass")]
    assert (others[0]["after"], others[0]["effects"]) == (None, [])
    assert others[0]["reason"] == "the payload is no object that can be read"
    assert others[1]["after"]["payload"] == '{"driver":"d-1"}'


def test_a_message_on_the_command_line(tmp_path: Path) -> None:
    module = built("c", "filter")
    config = tmp_path / "config.yaml"
    config.write_text("member: speed\nat_least: 5\n")
    options = ["--config", config, "--topic", "any/topic"]
    assert [one["verdict"] for one in tried(module, *options, "--payload", '{"speed":5}')] == ["pass"]
    payload = tmp_path / "payload"
    payload.write_bytes(b'{"speed":4}\xff')
    (one,) = tried(module, *options, "--payload-file", payload, "--qos", "1", "--retain")
    assert (one["verdict"], one["before"]["qos"], one["before"]["retain"]) == ("drop", 1, True)
    assert one["before"]["payload_base64"]
    assert one["effects"] == [{"kind": "metric", "name": "dropped", "add": 1.0}]


def test_time_of_the_recording_passes(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text(
        '{"time": "2026-01-31T12:00:00Z", "topic": "hall", "payload": "{\\"t\\": 1}"}\n'
        '{"time": "2026-01-31T12:00:59Z", "topic": "hall", "payload": "{\\"t\\": 2}"}\n'
        '{"time": "2026-01-31T12:01:00Z", "topic": "hall", "payload": "{\\"t\\": 4}"}\n'
    )
    config = '{"member": "t", "seconds": 60, "topic": "sum"}'
    found = tried(built("c", "aggregate"), "--config", config, "--file", recorded, "--later", "61")
    assert [one["verdict"] for one in found] == ["drop", "drop", "tick", "drop", "tick"]
    (emitted,) = found[2]["effects"]
    assert emitted == {
        "kind": "emit",
        "topic": "sum/hall",
        "payload": '{"count":2,"min":1.000,"max":2.000,"mean":1.500}',
        "qos": 0,
        "retain": False,
    }
    assert found[4]["effects"][0]["payload"] == '{"count":1,"min":4.000,"max":4.000,"mean":4.000}'
    text = plugin("test", built("c", "aggregate"), "--config", config, "--file", recorded).stdout
    assert re.search(
        r"^time passes\n   ingress .*: tick  [\d,]+ fuel, [\d,]+ us\n     emits sum/hall ", text, re.M
    )


def test_what_a_rule_emits_goes_through_those_behind_it(tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(
        """
plugins:
  ingress:
    - {name: first, topics: [t], module: rules, config: {steps: [{action: emit, topic: copy}]}}
    - name: sums
      topics: [t]
      module: rules
      config: {steps: [{action: aggregate, window: 60s, topic: sum, by: [name]}]}
  egress:
    - {name: mask, topics: ["#"], module: rules, config: {steps: [{action: redact, path: "**.name"}]}}
  store:
    - {name: kept, topics: [copy, sum]}
"""
    )
    message = ["--topic", "t", "--payload", '{"name":"x"}']
    found = tried(config, *message, "--later", "120")
    assert [(one["entry"], one["verdict"], one["emitted"]) for one in found] == [
        ("first", "pass", False),
        ("sums", "drop", False),
        ("mask", "replace", True),
        ("kept", "pass", True),
        ("sums", "tick", False),
        ("mask", "replace", True),
        ("kept", "pass", True),
    ]
    assert found[2]["before"]["topic"] == "copy"
    assert found[2]["after"]["payload"] == '{"name":"***"}'
    assert '"by":{"name":"***"}' in found[5]["after"]["payload"]
    assert re.search(r"^   egress mask of copy: replace ", plugin("test", config, *message).stdout, re.M)


def test_a_node_s_rules_follow_one_another(tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(
        f"""
plugins:
  ingress:
    - {{name: sieve, topics: ["#"], module: {built("c", "filter")}, config: {{member: speed, at_least: 1}}}}
  egress:
    - {{name: mask, topics: [a/#], module: {built("c", "mask")}, config: {{member: driver, prefix: d}}}}
  store:
    - {{name: raw, topics: [a/b]}}
"""
    )
    payload = '{"driver":"x","speed":5}'
    found = tried(config, "--topic", "a/b", "--payload", payload)
    assert [(one["stage"], one["entry"], one["verdict"]) for one in found] == [
        ("ingress", "sieve", "pass"),
        ("egress", "mask", "replace"),
        ("store", "raw", "pass"),
    ]
    assert found[1]["after"]["payload"] == '{"driver":"d1","speed":5}'
    assert found[2]["after"]["payload"] == payload, "the history keeps what was heard here"
    found = tried(config, "--topic", "a/b", "--payload", '{"driver":"x","speed":0}')
    assert [one["entry"] for one in found] == ["sieve"]
    assert [one["entry"] for one in tried(config, "--entry", "mask", "--topic", "a", "--payload", "{}")] == [
        "mask"
    ]


def test_rules_see_the_node_of_the_configuration(tmp_path: Path) -> None:
    entry = f"{{name: all, topics: [a], module: {built('c', 'everything')}}}"
    node = tmp_path / "node.yaml"
    node.write_text(f"node: {{name: gate, region: eu}}\nplugins: {{ingress: [{entry}]}}")
    options = ["--topic", "a", "--payload", "p", "--client", "dev", "--user", "ann"]
    (one,) = tried(node, *options)
    assert one["effects"][0]["text"].startswith("gate|eu|")
    assert one["effects"][1] == {"kind": "log", "level": "debug", "text": "a|p||dev|ann|0|0|0|"}
    (one,) = tried(node, *options, "--node", "other", "--region", "us")
    assert one["effects"][0]["text"].startswith("other|us|")


def test_failures_are_told(tmp_path: Path) -> None:
    module = tmp_path / "traps.wasm"
    module.write_bytes(modules.module(modules.TRAPS_ON_BANG))
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"topic": "a", "payload": "!"}\n{"topic": "a", "payload": "x"}\n')
    result = plugin("test", module, "--file", lines)
    assert result.exit_code == 1
    assert "fail, trapped; the message is dropped" in result.stdout
    assert result.stderr == "2 messages: 1 passed, 0 changed, 0 dropped, 1 failed\n"
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"- {{name: a, topics: [a], module: {module}, on_error: pass}}")
    assert "the message passes unchanged" in plugin("test", rules, "--file", lines).stdout
    result = plugin("bench", module, "--topic", "a", "--payload", "!", "--seconds", "0.01")
    assert result.exit_code == 1
    assert result.stderr == "geomq: rule traps fails for 1 of a batch of 1: trapped\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.wasm"], "nothing to try: --topic"),
        (["x.wasm", "--payload", "x"], "--topic is missing"),
        (["x.wasm", "--topic", "a/#"], "--topic 'a/#': "),
        (["x.wasm", "--topic", "a"], "x.wasm: No such file"),
        (["x.wat", "--topic", "a"], "`geomq plugin assemble`"),
        (["x.yaml", "--topic", "a"], "x.yaml: cannot be read: No such file"),
        (["x.yaml", "--topic", "a", "--config", "{}"], "--config is for a module"),
        (["x.wasm", "--topic", "a", "--config", "{"], "--config: it is not JSON: Expecting"),
        (["x.wasm", "--topic", "a", "--config", "[1]"], "--config: an object is expected"),
        (["x.wasm", "--topic", "a", "--config", "y"], "--config: y: No such file or directory"),
        (["rules", "--topic", "a"], "--config is missing: without steps the built-in module"),
        (["x.wasm", "--file", "/dev/null"], "/dev/null has no messages"),
        (["x.wasm", "--file", str(BINARY)], f"{BINARY}: it is not UTF-8"),
        (["x.wasm", "--topic", "a", "--stage", "exit"], "--stage 'exit': allowed: ingress, egress, store"),
        (["x.wasm", "--topic", "a", "--file", "y"], "--file has its own topics"),
        (["x.wasm", "--file", "/nowhere/y"], "/nowhere/y: No such file"),
    ],
)
def test_mistakes_are_told(arguments: list[str], words: str) -> None:
    result = plugin("test", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_mistakes_in_entries_name_their_line(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("- name: a\n  topics: [a]\n  module: rules\n  on_eror: pass\n")
    result = plugin("test", rules, "--topic", "a")
    assert result.exit_code == 1
    assert f"{rules}:4: plugins.ingress[0].on_eror: is not a key; did you mean 'on_error'?" in result.stderr
    rules.write_text("topics: [a]\nname: 'a b'\nmodule: rules\n")
    assert (
        f"{rules}:2: plugins.egress[0].name: "
        in plugin("test", rules, "--topic", "a", "--stage", "egress").stderr
    )
    rules.write_text("just text")
    assert (
        f"{rules}:1: holds no rules, nor a node's configuration"
        in plugin("test", rules, "--topic", "a").stderr
    )
    rules.write_text("name: a\nmodule: rules\nconfig: {steps: []}\n")
    result = plugin("test", rules, "--topic", "a")
    assert result.stderr == f"{rules}:1: plugins.ingress[0].topics: is required\n"
    rules.write_text("steps: [{action: redact, path: a}]\n")
    assert (
        f"{rules}:1: steps: stands in the `config` of an entry"
        in plugin("test", rules, "--topic", "a").stderr
    )
    assert plugin("test", "rules", "--config", rules, "--topic", "a", "--payload", "{}").exit_code == 0
    rules.write_bytes(b"\xff")
    assert plugin("test", rules, "--topic", "a").stderr == f"{rules}: cannot be read: it is not UTF-8\n"
    rules.write_text("a: [\n")
    told = plugin("test", "rules", "--config", rules, "--topic", "a").stderr
    assert told.startswith(f"geomq: --config: {rules}: it is not JSON or YAML: ")
    assert told.endswith(", line 2\n")


def test_the_section_of_a_configuration_is_rules_too(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    text = "  - name: NAME\n    topics: [a]\n    module: rules\n    config: {steps: [{action: redact, path: a}]}\n"
    rules.write_text(f"ingress:\n{text.replace('NAME', 'first')}egress:\n{text.replace('NAME', 'second')}")
    found = tried(rules, "--topic", "a", "--payload", '{"a":1}')
    assert [(one["stage"], one["entry"]) for one in found] == [("ingress", "first"), ("egress", "second")]
    told = plugin("test", rules, "--topic", "a", "--entry", "third").stderr
    assert told == f"geomq: {rules} has no entry 'third'; it has first, second\n"
    rules.write_text(rules.read_text().replace("redact", "redct"))
    told = plugin("test", rules, "--topic", "a").stderr
    assert f"{rules}:5: plugins.ingress[0].config.steps[0].action: 'redct': did you mean 'redact'?" in told


def test_module_of_any_name_is_one(tmp_path: Path) -> None:
    path = tmp_path / "module"
    path.write_bytes(built("c", "filter").read_bytes())
    assert plugin("inspect", path).exit_code == 0
    for content, words in (
        (b"", "not a wasm module: it is empty"),
        (b"(module)", "not a wasm module: it does not begin as one"),
        (path.read_bytes()[:500], "not a wasm module: unexpected end-of-file"),
    ):
        cut = tmp_path / "cut.wasm"
        cut.write_bytes(content)
        for command in ("inspect", "bench"):
            assert plugin(command, cut).stderr.startswith(f"geomq: {cut}: {words}")


def test_entries_that_do_not_start_name_the_line_that_is_to_blame(tmp_path: Path) -> None:
    """A key that is missing, a module that is, one that takes not its configuration: all of them are told at once."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "- name: hide\n  topics: [a]\n  module: rules\n  config:\n    steps:\n    - {action: remove, path: a}\n"
        "    - action: hash\n      path: b\n      key_file: gone.key\n"
        "- name: gone\n  topics: [a]\n  module: gone.wasm\n"
        f"- name: picky\n  topics: [a]\n  module: {built('c', 'filter')}\n  config: {{at_least: high}}\n"
    )
    key = f"{rules}:9: plugins.ingress[0].config.steps[1].key_file: {tmp_path}/gone.key: No such file or directory"
    gone = f"{rules}:12: plugins.ingress[1].module: {tmp_path}/gone.wasm: No such file or directory"
    result = plugin("test", rules, "--topic", "a")
    assert result.exit_code == 1
    *known, picky = result.stderr.splitlines()
    assert known == [key, gone]
    assert picky.startswith(f"{rules}:16: plugins.ingress[2].config: {built('c', 'filter')}: ")
    for command in ("bench", "check"):
        result = plugin(command, rules)
        assert (result.exit_code, result.stderr) == (1, f"{key}\n")
        assert plugin(command, rules, "--entry", "gone").stderr == f"{gone}\n"
    assert plugin("inspect", rules, "--entry", "gone").stderr == f"{gone}\n"
    (tmp_path / "node.yaml").write_text(f"plugins:\n  egress:\n{textwrap.indent(rules.read_text(), '  ')}")
    result = plugin("test", tmp_path / "node.yaml", "--topic", "a")
    assert result.stderr.startswith(f"{tmp_path}/node.yaml:11: plugins.egress[0].config.steps[1].key_file: ")


def test_bench_tells_how_many_messages_a_module_rejects(tmp_path: Path) -> None:
    lines = tmp_path / "sample.jsonl"
    lines.write_text('{"topic": "a", "payload": "{}"}\n{"topic": "a", "payload": "no JSON"}\n')
    options = ["--config", '{"member": "driver", "prefix": "d-"}', "--file", lines, "--seconds", "0.01"]
    result = plugin("bench", built("c", "mask"), *options)
    assert result.exit_code == 0
    assert re.fullmatch(r"rule c-mask-\w+ rejects 256 of a batch of 512\n", result.stderr)
    assert [
        row["rejected"] for row in json.loads(plugin("bench", built("c", "mask"), *options, "--json").stdout)
    ] == [
        *(0, 32, 256),
    ]


def test_bench() -> None:
    config = '{"member": "speed", "at_least": 5}'
    rows = json.loads(
        plugin("bench", built("c", "filter"), "--config", config, "--seconds", "0.05", "--json").stdout
    )
    assert [row["size"] for row in rows] == [1, 64, 512]
    assert all(row["per_second"] > 100 and row["fuel"] > 100 and 0 < row["share"] < 1 for row in rows)
    assert not any(row["rejected"] for row in rows)
    table = plugin("bench", built("c", "filter"), "--config", config, "--seconds", "0.01")
    assert table.exit_code == 0
    assert "us a message" in table.stdout


def test_the_document_shows_what_is_printed(tmp_path: Path) -> None:
    document = (Path(__file__).resolve().parents[3] / "docs" / "plugin-tools.md").read_text()
    found = re.search(r"^```\n\$ geomq plugin test rules.yaml (.*?)\n(.*?)^```$", document, re.M | re.S)
    assert found
    rules = tmp_path / "rules.yaml"
    config = "{member: driver, prefix: driver-}"
    rules.write_text(f"{{name: hide, topics: [vehicles/#], module: {built('c', 'mask')}, config: {config}}}")
    printed = plugin("test", rules, *shlex.split(found[1])).stdout
    figures = re.compile(r"[\d,]+ fuel, [\d,]+ us")
    assert figures.sub("", printed) == figures.sub("", found[2])


def test_every_effect_has_its_words() -> None:
    code = built("c", "everything")
    messages = [Fields(b"a", b"p")] * 5
    instance = Instance(code.read_bytes(), b"{}", Limits(deadline_ms=5000), {b"long": b"x" * 300}.get)
    answer = instance.process(encode_request(messages, 1, 1, 1), 5)
    instance.close()
    assert answer is not None
    effects = decode_result(answer, messages).effects[6:]
    assert [in_words(effect) for effect in effects] == [
        "emits emitted e (QoS 1, retained)",
        "stores stored s",
        "remembers key = value for 1.5 s",
        "metric metric -2.5",
        "logs warning: w",
        "logs error: e",
        "alert alert/topic: a",
        "logs warning: why",
        "logs info: value|300|xxx|",
    ]
    assert [as_json(effect)["kind"] for effect in effects] == [
        *("emit", "store", "state", "metric", "log", "log", "alert", "log", "log"),
    ]


@pytest.mark.parametrize("on_error", ["drop", "pass"])
def test_what_a_module_rejects_has_failed_and_is_dropped(on_error: str) -> None:
    entry = Entry(
        "r", INGRESS, "rules", ("#",), {"steps": [{"action": "remove", "path": "a"}]}, on_error=on_error
    )
    trial = Trial(entry, Place())
    attempt = trial.work_on(Fields(b"t", b"{"), 1.0)
    trial.close()
    assert (attempt.verdict, attempt.after, attempt.reason) == ("fail", None, "the payload is not JSON")
