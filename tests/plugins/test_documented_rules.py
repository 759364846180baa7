"""The examples of docs/rules.md, run from its own text: every action has one.

Steps in YAML are followed by a payload before and after, in JSON, or by a conversation: `> [qos=1 client=c] topic
payload` comes in; `=` goes on, `+` is another message, `! name: text` an alert, `~ 10s` time that passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.config.rules import ACTIONS, mistakes
from broker.config.units import parse_duration
from broker.protocol.constants import PUBLISH, Prop
from broker.protocol.properties import read_bare, write_bare
from plugins.host.frame import Fields
from tests.plugins.rules import Rules

TEXT = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
CHANGES = re.findall(r"```yaml\n(- [^`]*)```\n```json\n(.*?)\n(.*?)\n```", TEXT, re.DOTALL)
CONVERSATIONS = re.findall(r"```yaml\n(- [^`]*)```\n```text\n(.*?)```", TEXT, re.DOTALL)
CONFIGURATIONS = re.findall(r"```yaml\n(config:.*?)```", TEXT, re.DOTALL)
KEY = "00112233445566778899aabbccddeeff"
"""What stands in the files that the examples name."""


def with_key(step: dict[str, Any]) -> dict[str, Any]:
    return {
        "key" if name == "key_file" else name: KEY if name == "key_file" else v for name, v in step.items()
    }


def steps_of(text: str) -> list[dict[str, Any]]:
    return [with_key(step) for step in yaml.safe_load(text)]


@pytest.mark.parametrize(("steps", "before", "after"), CHANGES)
def test_change(steps: str, before: str, after: str) -> None:
    rules = Rules(*steps_of(steps))
    result = rules.one(before)
    rules.close()
    assert result is not None
    assert result.payload.decode() == after


def properties_of(said: dict[str, str]) -> bytes:
    found: dict[int, Any] = {}
    if "content_type" in said:
        found[Prop.CONTENT_TYPE] = said["content_type"]
    if "user_property" in said:
        found[Prop.USER_PROPERTY] = [tuple(said["user_property"].split(":"))]
    return write_bare(found)


def message(line: str) -> Fields:
    """`[qos=1 retain client=c user_property=name:value] topic payload`."""
    marks, topic, payload = re.fullmatch(r"(?:\[(.*?)\] )?(\S+) (.*)", line).groups()  # type: ignore[union-attr]
    said = dict(mark.partition("=")[::2] for mark in (marks or "").split())
    return Fields(
        topic.encode(),
        payload.encode(),
        properties_of(said),
        client_id=said.get("client", "").encode(),
        qos=int(said.get("qos", 0)),
        retain="retain" in said,
    )


def written(
    mark: str, topic: bytes | str, payload: bytes, qos: int, retain: bool, properties: bytes = b""
) -> str:
    found = read_bare(properties, PUBLISH)
    told = [f"content_type={found[Prop.CONTENT_TYPE]}"] if Prop.CONTENT_TYPE in found else []
    told += [f"user_property={name}:{value}" for name, value in found.get(Prop.USER_PROPERTY, [])]
    marks = " ".join(([f"qos={qos}"] if qos else []) + (["retain"] if retain else []) + told)
    name = topic.decode() if isinstance(topic, bytes) else topic
    return f"{mark} {f'[{marks}] ' if marks else ''}{name} {payload.decode()}"


def hear(rules: Rules) -> Iterator[str]:
    """What the rules told, alerts first."""
    yield from (f"! {name}: {text}" for name, text in rules.alerts)
    yield from (written("+", *emitted) for emitted in rules.emitted)
    rules.alerts.clear()
    rules.emitted.clear()


def play(rules: Rules, lines: list[str]) -> Iterator[str]:
    """The conversation as it goes."""
    for line in lines:
        if line.startswith("~ "):
            rules.now += parse_duration(line[2:])
            rules.tick()
        elif line.startswith("> "):
            yield line
            (after,) = rules.run(message(line[2:]))
            if after is not None:
                yield written("=", after.topic, after.payload, after.qos, after.retain, after.properties)
        else:
            continue
        if line.startswith("~ "):
            yield line
        yield from hear(rules)


@pytest.mark.parametrize(("steps", "conversation"), CONVERSATIONS)
def test_conversation(steps: str, conversation: str) -> None:
    lines = conversation.strip().splitlines()
    rules = Rules(*steps_of(steps))
    assert list(play(rules, lines)) == lines
    rules.close()


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_configuration(text: str) -> None:
    assert mistakes(yaml.safe_load(text)["config"]) == []


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_an_example(action: str) -> None:
    examples = [steps for steps, *_ in CHANGES + CONVERSATIONS]
    assert any(step["action"] == action for steps in examples for step in steps_of(steps))


def test_every_example_is_run() -> None:
    assert TEXT.count("```yaml") == len(CHANGES) + len(CONVERSATIONS) + len(CONFIGURATIONS)
