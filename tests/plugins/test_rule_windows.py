"""Aggregates over windows of time."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.host.entry import INGRESS, Entry
from plugins.host.frame import Fields
from plugins.host.limits import Limits
from plugins.host.pipeline import Rule
from plugins.host.reasons import ModuleRefused
from tests.plugins.rules import NOON, Rules, Shop

FUNCTIONS = ["count", "min", "max", "mean", "last", "sum"]


def step(**more: Any) -> dict[str, Any]:
    return {
        "action": "aggregate",
        "window": "60s",
        "values": {"v": FUNCTIONS},
        "topic": "{topic}/minute",
        **more,
    }


def documents(rules: Rules) -> list[dict[str, Any]]:
    found = [json.loads(emitted.payload) for emitted in rules.emitted]
    rules.emitted.clear()
    return found


def test_window_is_emitted_when_it_is_over(make: Shop) -> None:
    rules = make(step())
    rules.now += 5
    assert [rules.passes(f'{{"v":{v}}}', "a") for v in (1, 2.5, -1)] == [False] * 3
    assert not rules.passes('{"v":"no number"}', "a")
    assert not rules.passes('{"v":7}', "b")
    rules.now += 54.9
    rules.tick()
    assert rules.emitted == []
    rules.now += 0.2
    rules.tick()
    assert [emitted.topic for emitted in rules.emitted] == ["a/minute", "b/minute"]
    assert documents(rules) == [
        {
            "from": "2026-01-01T11:00:00.000Z",
            "to": "2026-01-01T11:01:00.000Z",
            "by": {"topic": "a"},
            "messages": 4,
            "values": {"v": {"count": 3, "min": -1, "max": 2.5, "mean": 2.5 / 3, "last": -1, "sum": 2.5}},
        },
        {
            "from": "2026-01-01T11:00:00.000Z",
            "to": "2026-01-01T11:01:00.000Z",
            "by": {"topic": "b"},
            "messages": 1,
            "values": {"v": {"count": 1, "min": 7, "max": 7, "mean": 7, "last": 7, "sum": 7}},
        },
    ]
    rules.tick()
    assert rules.emitted == []


def test_numbers_without_end_do_not_count(make: Shop) -> None:
    rules = make(step())
    for number in ("1", "1e400", "-1e999", "3"):
        rules.one(f'{{"v":{number}}}')
    rules.now += 61
    rules.tick()
    (told,) = documents(rules)
    assert told["messages"] == 4
    assert told["values"] == {"v": {"count": 2, "min": 1, "max": 3, "mean": 2, "last": 3, "sum": 4}}


def test_message_of_the_next_window_ends_the_last_one(make: Shop) -> None:
    rules = make(step(values={"v": ["last", "count"]}, keep=True, qos=1, retain=True))
    assert rules.passes('{"v":1}')
    rules.now += 60
    assert rules.passes('{"v":2}')
    assert [(e.topic, e.qos, e.retain) for e in rules.emitted] == [("t/minute", 1, True)]
    assert documents(rules)[0]["values"] == {"v": {"count": 1, "last": 1}}
    rules.now += 60
    rules.tick()
    assert documents(rules)[0]["values"] == {"v": {"count": 1, "last": 2}}


def test_keys_and_several_values(make: Shop) -> None:
    rules = make(
        step(
            by=["site", "client"],
            values={"v": ["sum"], "list.*": ["count", "sum"]},
            topic="minute/{path:site}",
        )
    )
    for site, client in ((1, b"x"), (1, b"y"), (2, b"x"), (1, b"x")):
        payload = json.dumps({"site": site, "v": 2, "list": [1, 2, "no"]})
        assert not rules.passes(payload, "any", client_id=client)
    rules.now += 60
    rules.tick()
    topics = [emitted.topic for emitted in rules.emitted]
    found = documents(rules)
    assert topics == ["minute/1", "minute/1", "minute/2"]
    assert [one["by"] for one in found] == [
        {"site": 1, "client": "x"},
        {"site": 1, "client": "y"},
        {"site": 2, "client": "x"},
    ]
    assert found[0]["values"] == {"v": {"sum": 4}, "list.*": {"count": 4, "sum": 6}}


def test_nothing_but_messages_counted(make: Shop) -> None:
    rules = make({"action": "aggregate", "window": "10s", "topic": "n", "by": []})
    rules.run(*[Fields(b"t", b"not JSON")] * 5, Fields(b"x", b""))
    rules.now += 10
    rules.tick()
    assert documents(rules) == [
        {
            "from": "2026-01-01T11:00:00.000Z",
            "to": "2026-01-01T11:00:10.000Z",
            "by": {},
            "messages": 6,
            "values": {},
        }
    ]


def test_window_without_numbers(make: Shop) -> None:
    rules = make(step())
    rules.passes('{"w":1}')
    rules.now += 60
    rules.tick()
    (found,) = documents(rules)
    assert found["values"]["v"] == {name: 0 if name == "count" else None for name in FUNCTIONS}


@pytest.mark.parametrize("comes_again", [True, False])
def test_windows_survive_a_restart(make: Shop, comes_again: bool) -> None:
    rules = make(step(keys=50))
    names = [f"t{i}" for i in range(20)]
    for name in names:
        rules.passes('{"v":1}', name)
    rules.now += 30
    rules.restart()
    if comes_again:
        for name in reversed(names):
            rules.passes('{"v":2}', name)
        rules.restart()
    rules.now += 30
    rules.tick()
    assert sorted(emitted.topic for emitted in rules.emitted) == sorted(f"{name}/minute" for name in names)
    assert {one["values"]["v"]["sum"] for one in documents(rules)} == {3 if comes_again else 1}
    rules.restart()
    rules.tick()
    assert rules.emitted == [], "a window is emitted once"
    rules.passes('{"v":5}', "t3")
    rules.now += 60
    rules.tick()
    assert [one["values"]["v"]["sum"] for one in documents(rules)] == [5]


def test_more_keys_than_there_is_room_for(make: Shop) -> None:
    rules = make(step(keys=4))
    batch = [Fields(f"t{i}".encode(), b'{"v":1}') for i in range(10)]
    assert rules.run(*batch) == [None] * 10
    assert [emitted.topic for emitted in rules.emitted] == [f"t{i}/minute" for i in range(6)]
    assert rules.metrics == {"windows_early": 6}
    rules.restart()
    rules.now += 60
    rules.tick()
    assert sorted(emitted.topic for emitted in rules.emitted) == sorted(f"t{i}/minute" for i in range(10))
    assert all(one["messages"] == 1 for one in documents(rules))
    assert rules.metrics == {"windows_early": 6}, "those that were over are none of them"


def test_window_that_went_early_has_a_second_part(make: Shop) -> None:
    rules = make(step(keys=1))
    for topic in ("a", "b", "a"):
        rules.run(Fields(topic.encode(), b'{"v":1}'))
        rules.now += 10
    rules.now += 60
    rules.tick()
    assert [emitted.topic for emitted in rules.emitted] == ["a/minute", "b/minute", "a/minute"]
    spans = [(one["from"][17:19], one["to"][14:19]) for one in documents(rules)]
    assert spans == [("00", "00:10"), ("00", "00:20"), ("00", "01:00")]
    assert rules.metrics == {"windows_early": 2}


def test_many_windows_are_closed_little_by_little(make: Shop) -> None:
    rules = make(step(keys=1000))
    for first in range(0, 1000, 250):
        rules.run(*(Fields(f"t{i}".encode(), b'{"v":1}') for i in range(first, first + 250)))
    rules.now += 60
    counts = []
    for _ in range(4):
        rules.tick()
        counts.append(len(rules.emitted))
    assert counts == [400, 800, 1000, 1000]


def test_windows_wait_where_a_batch_ends_too_many() -> None:
    """The host takes 1,000 extra messages of a result; three steps would make 1,536 of this batch."""
    steps = [step(topic=f"{{topic}}/{name}", keys=1100) for name in "abc"]
    config = {"steps": [{**one, "keep": True} for one in steps]}
    # A machine that is busy must not have the batch handed over in parts.
    rule = Rule(Entry("many", INGRESS, "rules", ("#",), config, limits=Limits(deadline_ms=60_000)))
    emitted = []
    for minute in range(2):
        batch = [Fields(f"t{i}".encode(), b'{"v":%d}' % minute) for i in range(512)]
        emitted += rule.run(batch, NOON + 60 * minute).emitted
    assert 400 <= len(emitted) < 3 * 512, "400 for each call, of which there are more on a slow machine"
    for second in range(1, 4):
        emitted += rule.tick(NOON + 60 + second).emitted
    assert len(emitted) == 3 * 512
    assert {one.topic for one in emitted} == {f"t{i}/{name}".encode() for i in range(512) for name in "abc"}
    for one in map(json.loads, (one.payload for one in emitted)):
        assert (one["messages"], one["values"]["v"]["last"]) == (1, 0)
        assert one["to"] == "2026-01-01T11:01:00.000Z"
    later = [one for second in range(4) for one in rule.tick(NOON + 120 + second).emitted]
    assert [json.loads(one.payload)["values"]["v"]["sum"] for one in later] == [1] * 3 * 512
    assert rule.counts["traps"] == 0
    rule.close()


def test_windows_keep_to_what_the_host_takes() -> None:
    """`limits.emits` of 50: a tick tells no more, nor does a batch of few messages; none is lost."""
    config = {"steps": [step(keys=1000)]}
    rule = Rule(Entry("few", INGRESS, "rules", ("#",), config, limits=Limits(emits=50, deadline_ms=60_000)))
    emitted = []
    for first in range(0, 200, 20):
        emitted += rule.run(
            [Fields(f"t{i}".encode(), b'{"v":1}') for i in range(first, first + 20)], NOON
        ).emitted
    assert emitted == []
    counts = []
    for second in range(5):
        told = rule.tick(NOON + 60 + second).emitted
        counts.append(len(told))
        emitted += told
    assert counts == [50, 50, 50, 50, 0]
    assert {one.topic for one in emitted} == {f"t{i}/minute".encode() for i in range(200)}
    assert (rule.counts["traps"], rule.counts["failed"]) == (0, 0)
    rule.close()


def test_windows_that_wait_survive_a_restart(make: Shop) -> None:
    rules = make(step(keys=1000))
    names = [f"t{i}" for i in range(450)]
    for value in (1, 2):
        rules.run(*(Fields(name.encode(), b'{"v":%d}' % value) for name in names))
        rules.now += 60
    assert len(rules.emitted) == 400
    rules.restart()
    rules.now -= 60
    rules.tick()
    assert [one["values"]["v"]["sum"] for one in documents(rules)] == [1] * 450
    rules.restart()
    rules.now += 60
    for _ in range(3):
        rules.tick()
    assert sorted(emitted.topic for emitted in rules.emitted) == sorted(f"{name}/minute" for name in names)
    assert [one["values"]["v"]["sum"] for one in documents(rules)] == [2] * 450


def test_clock_set_back(make: Shop) -> None:
    rules = make(step())
    rules.passes('{"v":1}')
    rules.now -= 30
    rules.passes('{"v":1}')
    assert rules.emitted == []
    rules.now -= 3600
    rules.passes('{"v":1}')
    assert documents(rules)[0]["messages"] == 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_figures_agree_with_python(numbers: list[float]) -> None:
    rules = Rules(step(by=[]))
    rules.now = NOON
    rules.run(*(Fields(b"t", json.dumps({"v": number}).encode()) for number in numbers))
    rules.now += 60
    rules.tick()
    figures = documents(rules)[0]["values"]["v"]
    rules.close()
    found = {name: value if value is None else float(value) for name, value in figures.items()}
    total = 0.0
    for number in numbers:
        total += number
    assert found["count"] == len(numbers)
    assert (found["min"], found["max"], found["last"]) == (min(numbers), max(numbers), numbers[-1])
    if math.isfinite(total):
        assert found["sum"] == total
        assert found["mean"] == total / len(numbers)
    else:
        assert found["sum"] is None


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"window": None}, ".window: null is not a duration"),
    ({"topic": ""}, '.topic: "" is not a text'),
    ({"values": []}, ".values: [] is not an object of paths"),
    ({"values": {"a": "min"}}, '.values: "min" is not a list of functions'),
    (
        {"values": {"a": ["median"]}},
        '.values[0]: "median" is not one of count, min, max, mean, last, sum',
    ),
    ({"values": {"a..b": ["min"]}}, ".values: a..b has an empty level"),
    ({"values": {f"a{i}": ["min"] for i in range(17)}}, ".values: has more than 16 paths"),
]


@pytest.mark.parametrize(("more", "words"), MISTAKES)
def test_mistakes(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ModuleRefused) as caught:
        Rules(step(**more))
    assert str(caught.value).startswith(f"steps[0]{words}")
