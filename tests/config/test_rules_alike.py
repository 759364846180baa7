"""The models and the module take and refuse the same steps and conditions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from broker.config import rules
from plugins.builtin import build
from plugins.host.engine import Instance, Program
from plugins.host.limits import Limits
from plugins.host.reasons import ModuleRefused

KEY = "00112233445566778899aabbccddeeff"
STEPS: list[dict[str, Any]] = [
    {"action": "drop", "when": {"topic": "a"}},
    {"action": "keep", "when": {"topic": "a"}},
    {"action": "sample", "one_in": 2, "by": ["topic"], "keys": 5},
    {"action": "sample", "every": "1s"},
    {
        "action": "deadband",
        "path": "a",
        "change": 1,
        "at_most_every": "1s",
        "at_least_every": "1m",
        "by": [],
        "keys": 5,
    },
    {"action": "deadband", "path": "a", "percent": 1},
    {"action": "limit", "messages": 1, "per": "1s", "by": ["a.b"], "keys": 5},
    {"action": "unique", "within": "1s", "path": "a", "by": ["user"], "keys": 5},
    {"action": "unique", "within": "1s", "paths": ["a"]},
    {"action": "topic", "to": "a/{0}"},
    {"action": "topic", "to": "a/{0}", "hash": [0, 1], "key": KEY, "length": 16},
    {"action": "topic", "hash": [1], "key": KEY},
    {"action": "qos", "to": 1, "mode": "set"},
    {"action": "retain", "to": True},
    {"action": "properties", "keep": ["content_type"]},
    {"action": "properties", "remove": ["user_property"]},
    {"action": "set", "path": "a", "to": "{time}", "only_if_missing": True},
    {"action": "emit", "topic": "a", "payload": "message", "qos": 1, "retain": True},
    {
        "action": "alert",
        "name": "a",
        "text": "b",
        "topic": "c",
        "at_most_every": "1s",
        "by": ["client"],
        "keys": 5,
    },
    {
        "action": "aggregate",
        "window": "1s",
        "topic": "a",
        "values": {"a": ["min"]},
        "by": [],
        "keep": True,
        "keys": 5,
    },
    {"action": "aggregate", "window": "1s", "topic": "a", "qos": 1, "retain": True},
    {"action": "remove", "path": "a"},
    {"action": "redact", "paths": ["a"], "with": 1},
    {"action": "hash", "path": "a", "key": KEY, "length": 16},
    {"action": "search", "path": "a", "globs": ["a*"], "over_spaces": True},
    {"action": "search", "path": "a", "text": "b", "whole_words": True, "ignore_case": True},
    {"action": "truncate", "path": "a", "length": 1},
    {"action": "round", "path": "a", "to": 1},
    {"steps": [{"action": "drop"}], "when": {"retain": True}},
]
CONDITIONS: list[dict[str, Any]] = [
    {"topic": "a/+"},
    {"topic_level": 1, "equals": "x"},
    {"client": "a"},
    {"user": ["a"]},
    {"qos": 1},
    {"retain": True},
    {"time": {"from": "22:00", "to": "06:00", "days": ["mon"]}},
    {"all": [{"retain": True}]},
    {"any": [{"retain": True}]},
    {"not": {"retain": True}},
    *(
        {"path": "a", name: operand}
        for name, operand in [
            *(("exists", True), ("equals", 1), ("not_equals", None), ("above", 1), ("below", 1)),
            *(("at_least", 1), ("at_most", 1), ("in", [1]), ("not_in", ["a"]), ("starts_with", "a")),
            *(("ends_with", "a"), ("contains", "a"), ("matches_glob", "a*")),
        ]
    ),
]
JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 1.5, -0.5, 70_000, 2_000_000, 10**10, 1e300, 0.00001, 123456.123456),
    *(
        "",
        "x",
        "$",
        "a..b",
        "a.**",
        "a.*",
        "*",
        "a/#",
        "#/a",
        "+",
        "{0}",
        "{foo}",
        "{path:a}",
        "{path:a#+}/b",
        "a/{pth:a}",
        "a/+/{path:a}",
        "a/{{topic}",
        "{topic}}",
        "a{b{topic}:c}",
        "{path:a",
        "{a b:c}",
        "{path:}",
        "{path:a.}",
    ),
    *(
        "10s",
        "0s",
        "1.5s",
        "31d",
        "1w",
        "22:00",
        "24:00",
        "22:0",
        "set",
        "mon",
        "min",
        KEY,
        KEY[:15],
        "message",
    ),
    *(
        [],
        ["x"],
        [1],
        [None],
        [[]],
        ["a", ""],
        ["mon"],
        ["min"],
        [0, 1],
        ["topic", "a.b"],
        ["x"] * 17,
        {},
        {"x": 1},
    ),
    *(
        {"a": ["min", "max"]},
        {"a..b": ["min"]},
        {"from": "22:00"},
        {"from": "01:00", "to": "01:00"},
        {"days": ["sun"]},
    ),
    *(
        {"retain": True},
        {"path": "a"},
        {"path": "a", "equals": 1},
        [{"retain": True}],
        [{"action": "drop"}],
        [5],
    ),
    *(
        "$.a",
        "\\$.a",
        "a.$",
        "a[0]",
        "a\\[0]",
        "a.b[*].c",
        "a\\\\[",
        "$[0]",
        "$a",
        "{path:$.a}",
        "a/{1",
        "a{b",
    ),
    *("\\", "a\\.b", "\\.", "a\\", "**", "a" * 300, ".".join("a" * 31), "é", "{topic}/{9}/{99999}/{100000}"),
]


def changed(valid: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """It, without each of its members, and with something else in each place."""
    yield valid
    for name in valid:
        if name == "action":
            continue
        yield {key: value for key, value in valid.items() if key != name}
        for junk in JUNK:
            yield {**valid, name: junk}


def refusal(program: Program, config: dict[str, Any]) -> str:
    try:
        Instance(program, json.dumps(config).encode(), Limits(), lambda key: None).close()
    except ModuleRefused as refused:
        return str(refused)
    return ""


@pytest.fixture(scope="module")
def program() -> Program:
    return Program(build.MODULE.read_bytes())


def differences(program: Program, configs: Iterator[dict[str, Any]]) -> list[tuple[Any, str, str]]:
    found = []
    for config in configs:
        module, models = refusal(program, config), rules.mistakes(config)
        assert "geomq_init failed" not in module, config
        if bool(module) != bool(models):
            found.append((config, module, models[0]["msg"] if models else ""))
    return found


@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(step))
def test_steps(program: Program, step: dict[str, Any]) -> None:
    assert differences(program, ({"steps": [one]} for one in changed(step))) == []


@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(step))
def test_steps_on_texts(program: Program, step: dict[str, Any]) -> None:
    configs = ({"format": "text", "steps": [one]} for one in changed(step))
    assert differences(program, configs) == []


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: "-".join(condition))
def test_conditions(program: Program, condition: dict[str, Any]) -> None:
    steps = ({"steps": [{"action": "drop", "when": one}]} for one in changed(condition))
    assert differences(program, steps) == []


def test_the_whole(program: Program) -> None:
    whole = {"format": "json", "on_undecodable": "drop", "utc_offset": "+08:00", "steps": []}
    assert differences(program, changed(whole)) == []
