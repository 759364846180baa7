"""What a configuration may say, and that each mistake names the key, what stood there and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.access.acl import parse_acl
from broker.config import ConfigError, NodeConfig, load, load_text
from broker.config.reference import reference
from broker.config.units import parse_duration, parse_size
from broker.ports import Action, Credentials

ROOT = Path(__file__).resolve().parents[2]


def mistakes(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "node.yaml", environment)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("mesh", "alone"),
    [
        ("{}", True),
        ("{listen: ['tcp/[::1]:7447', 'tcp/localhost:1?x=y']}", True),
        ("{listen: [tcp/127.0.0.1:7447, tcp/0.0.0.0:7447]}", False),
        ("{connect: [tcp/192.0.2.1:7447]}", False),
        ("{scouting: true}", False),
    ],
)
def test_node_that_no_other_machine_reaches(mesh: str, alone: bool) -> None:
    assert load_text(f"mesh: {mesh}", "node.yaml", {}).mesh.is_alone is alone


def test_nothing_said_is_safe() -> None:
    config = load_text("")
    assert [listener.bind for listener in config.listeners] == ["127.0.0.1:1883"]
    assert config.mesh.enabled is False
    assert all(endpoint.startswith("tcp/127.0.0.1:") for endpoint in config.mesh.listen)
    assert config.durability == "commit"


def test_access_list_of_the_examples_is_valid() -> None:
    acl = parse_acl((ROOT / "config" / "acl.txt").read_text())
    device = Credentials("d", "device-7", None, "192.0.2.1", "devices")
    assert acl.verdict(device, Action.PUBLISH, "plant1/device-7/temperature").allowed
    assert not acl.verdict(device, Action.PUBLISH, "plant1/device-8/temperature").allowed


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_valid_and_explained(path: Path) -> None:
    load(path, {})
    lines = path.read_text().splitlines()
    assert sum("#" in line for line in lines) > len(lines) // 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "mesh:\n  mod: x",
            "node.yaml:2: mesh.mod: is not a key; did you mean 'mode'? allowed: enabled, namespace",
        ),
        ("mesh:\n  mode: hub", "node.yaml:2: mesh.mode: 'hub': allowed: 'router', 'peer', 'client'"),
        (
            "mesh:\n  connect: [tcp/eu:99999]",
            "node.yaml:2: mesh.connect[0]: 'tcp/eu:99999': not a Zenoh endpoint such as tcp/192.0.2.1:7447",
        ),
        (
            "mesh:\n  listen: [tcp/e u:7447]",
            "node.yaml:2: mesh.listen[0]: 'tcp/e u:7447': not a Zenoh endpoint such as tcp/192.0.2.1:7447",
        ),
        (
            "mesh:\n  outbox_bytes: 0",
            "node.yaml:2: mesh.outbox_bytes: 0: allowed: greater than or equal to 65536",
        ),
        ("mesh:\n  retention: 0", "node.yaml:2: mesh.retention: 0.0: allowed: greater than or equal to 1"),
        ("listeners:\n  - bind: 12", "node.yaml:2: listeners[0].bind: 12: allowed: string"),
        ("listeners:\n  - bind: 'x'", "node.yaml:2: listeners[0].bind: 'x': not host:port"),
        (
            "listeners:\n  - bind: '::1:1883'",
            "node.yaml:2: listeners[0].bind: '::1:1883': an IPv6 address stands",
        ),
        (
            "plugins: {ingress: [{name: r, topics: [], module: rules, config: {steps: []}}]}",
            "node.yaml:1: plugins.ingress[0].topics: []: allowed: at least 1 of them",
        ),
        ("listeners: []", "node.yaml:1: listeners: []: allowed: at least 1 of them"),
        (
            "mqtt: {connect_timeout: soon}",
            "node.yaml:1: mqtt.connect_timeout: 'soon': not a duration such as 500ms",
        ),
        (
            "mqtt: {max_packet_size: 1XB}",
            "node.yaml:1: mqtt.max_packet_size: '1XB': not a size such as 64KiB",
        ),
        (
            "mqtt: {max_packet_size: 1GiB}",
            "node.yaml:1: mqtt.max_packet_size: 1073741824: allowed: less than or equal",
        ),
        (
            "mqtt: {keep_alive_max: 1.5s}",
            "node.yaml:1: mqtt.keep_alive_max: '1.5s': not a whole number of seconds",
        ),
        ("mesh: {enabled: yess}", "node.yaml:1: mesh.enabled: 'yess': allowed: boolean"),
        ("node: {name: a b}", "node.yaml:1: node.name: 'a b': allowed: 1 to 64 letters"),
        ("log: 5", "node.yaml:1: log: 5: keys and values are expected here"),
        ("mesh: {listen: [7447]}", "node.yaml:1: mesh.listen[0]: 7447: allowed: string"),
        ("mesh: {listen: ['7447']}", "node.yaml:1: mesh.listen[0]: '7447': not a Zenoh endpoint such as"),
        (
            "mesh: {listen: [tls/h:1]}",
            "node.yaml:1: mesh: the endpoint tls/h:1 needs the certificates of mesh.tls",
        ),
        ("mesh: {tls: {key: a, ca: b}}", "node.yaml:1: mesh.tls.certificate: is required"),
        ("a: 1\na: 2", "node.yaml:2: a: stands there twice"),
        ("mesh: [", "node.yaml:2: is not YAML: "),
        ("- a", "node.yaml:1: is not a mapping of keys"),
        (
            "plugins:\n  ingress:\n    - {name: a, topics: ['a/#/b'], module: rules}",
            "node.yaml:3: plugins.ingress[0].topics[0]: 'a/#/b': not a topic filter: # must be the last level",
        ),
        ("plugins: {ingress: [{name: a, topics: [a]}]}", "node.yaml:1: plugins.ingress: "),
        (
            "plugins: {egress: [{name: a, topics: [a], module: rule}]}",
            "node.yaml:1: plugins.egress[0].module: 'rule': allowed: `rules`, or the path of a .wasm file",
        ),
        (
            "plugins:\n  egress:\n    - {name: a, topics: [a], module: rules}",
            "node.yaml:3: plugins.egress[0].config.steps: is required",
        ),
        (
            "plugins: {egress: [{name: a, topics: [a], module: rules, on_error: pass}]}",
            "node.yaml:1: plugins.egress: ",
        ),
        (
            "plugins: {store: [{name: a, topics: [a]}, {name: a, topics: [b]}]}",
            "node.yaml:1: plugins: two rules are called 'a'",
        ),
    ],
)
def test_mistake_names_key_value_and_what_is_allowed(text: str, expected: str) -> None:
    assert any(found.startswith(expected) for found in mistakes(text)), mistakes(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[**.name]", 'a text that begins with * or & stands in quotes: "**.name"'),
        ("{to: {region}/x}", 'a text with braces stands in quotes: "{region}/x"'),
        ("\n\tc: 5", "spaces indent, not tabs"),
        ("c: 5", "a text with a colon and a space stands in quotes"),
    ],
)
def test_what_is_no_yaml_has_a_hint(text: str, hint: str) -> None:
    (found,) = mistakes(f"a:\n  b: {text}")
    assert re.match(r"node.yaml:[23]: is not YAML: ", found)
    assert hint in found


def test_all_mistakes_are_told_at_once() -> None:
    assert len(mistakes("mesh: {mode: x, lease: y}\nlog: {level: z}")) == 3


def test_exposure_has_to_be_asked_for() -> None:
    (found,) = mistakes("listeners: [{bind: 127.0.0.1:1}, {bind: 0.0.0.0:1883}]")
    assert "listeners[1].bind: 0.0.0.0:1883 is reached by other machines" in found
    load_text("listeners: [{bind: 0.0.0.0:1883}]\naccess: {anonymous: everywhere}")
    load_text("listeners: [{bind: '[::1]:1883'}, {bind: localhost:1884}]")


def test_environment_overrides() -> None:
    config = load_text(
        "mesh: {namespace: a}\nlisteners: [{bind: 127.0.0.1:1}]",
        environment={
            "GEOMQ_MESH__NAMESPACE": "b",
            "GEOMQ_MESH__CONNECT": "[tcp/192.0.2.1:7447]",
            "GEOMQ_LISTENERS__0__BIND": "127.0.0.1:2",
            "GEOMQ_LOG__LEVEL": "debug",
            "GEOMQ_CONFIG": "node.yaml",
            "OTHER": "x",
        },
    )
    assert config.mesh.namespace == "b"
    assert config.mesh.connect == ["tcp/192.0.2.1:7447"]
    assert config.listeners[0].bind == "127.0.0.1:2"
    assert config.log.level == "debug"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (
            "GEOMQ_MESH__NAMESPASE",
            "b",
            "GEOMQ_MESH__NAMESPASE: mesh.namespase: is not a key; did you mean",
        ),
        ("GEOMQ_LISTENERS__7__BIND", "b", "GEOMQ_LISTENERS__7__BIND: listeners[7].bind: does not exist"),
        ("GEOMQ_DURABILITY", "maybe", "GEOMQ_DURABILITY: durability: 'maybe': allowed: 'commit', 'memory'"),
        ("GEOMQ_MESH__LISTEN", "[", "GEOMQ_MESH__LISTEN:1: is not YAML: "),
    ],
)
def test_mistakes_in_the_environment(variable: str, value: str, expected: str) -> None:
    (found,) = mistakes("", **{variable: value})
    assert found.startswith(expected)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("node: {data: here}\nplugins: {ingress: [{name: a, topics: [a], module: ./a.wasm}]}")
    config = load(path, {})
    assert config.node.data == tmp_path / "here"
    assert config.plugins.ingress[0].module == str(tmp_path / "a.wasm")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml", {})


def test_empty_sections_keep_their_defaults() -> None:
    assert load_text("mesh:\n  # namespace: x\n").mesh.namespace == "geomq"


def test_units() -> None:
    assert [parse_duration(text) for text in ("500ms", "2s", "1.5m", "7d", 3)] == [0.5, 2, 90, 604800, 3]
    assert [parse_size(text) for text in ("64KiB", "10MB", "1GiB", 5)] == [65536, 10_000_000, 1 << 30, 5]
    for text in ("1 year", "-1s", "", True, None):
        with pytest.raises(ValueError, match="not a duration"):
            parse_duration(text)


def test_schema_explains_every_key() -> None:
    schema = NodeConfig.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, value in section["properties"].items():
            assert value.get("description") or "$ref" in value, key


def test_reference_is_current() -> None:
    written = (ROOT / "docs" / "reference.md").read_text()
    assert written == reference(), "run `geomq config reference > docs/reference.md`"
    for name in ("limits", "listeners[].tls.names.NAME", "plugins.egress[].limits", "mesh.tls"):
        assert f"## {name}\n" in written
