"""Steps that let some messages through, and what they remember."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.host.frame import Fields
from plugins.host.reasons import ModuleRefused
from tests.plugins.rules import Rules, Shop


def value(number: float) -> str:
    return json.dumps({"v": number})


def test_sample_one_in(make: Shop) -> None:
    rules = make({"action": "sample", "one_in": 3})
    assert [rules.passes("1", "a") for _ in range(7)] == [True, False, False, True, False, False, True]
    assert rules.passes("1", "b"), "each topic by itself"
    assert not rules.passes("", "a"), "it needs no payload"


def test_sample_every(make: Shop) -> None:
    rules = make({"action": "sample", "every": "10s", "by": ["client"]})
    assert rules.passes(client_id=b"x")
    rules.now += 9.9
    assert not rules.passes(client_id=b"x")
    assert rules.passes(client_id=b"y")
    rules.now += 0.1
    assert rules.passes(client_id=b"x", topic="other")
    rules.now -= 3600
    assert rules.passes(client_id=b"x"), "a clock that was set back does not silence anybody"


def test_deadband(make: Shop) -> None:
    rules = make({"action": "deadband", "path": "v", "change": 0.1})
    assert [rules.passes(value(v)) for v in (0.2, 0.25, 0.3, 0.31, 0.2)] == [True, False, True, False, True]
    assert rules.passes('{"v":"no number"}')
    assert rules.passes("{}")
    assert rules.passes(value(5), "other")


def test_deadband_percent(make: Shop) -> None:
    rules = make({"action": "deadband", "path": "v", "percent": 5, "by": ["user", "id"]})
    assert [rules.passes(value(v)) for v in (100, 104.9, 105, 105, -105)] == [True, False, True, False, True]
    assert rules.passes('{"id":1,"v":-105}'), "another key"


def test_deadband_has_bounds_in_time(make: Shop) -> None:
    step = {"action": "deadband", "path": "v", "change": 1, "at_most_every": "5s", "at_least_every": "60s"}
    rules = make(step)
    assert rules.passes(value(0))
    rules.now += 4
    assert not rules.passes(value(10)), "too early"
    rules.now += 1
    assert rules.passes(value(10))
    rules.now += 59
    assert not rules.passes(value(10))
    rules.now += 1
    assert rules.passes(value(10)), "time for a sign of life"


def test_limit(make: Shop) -> None:
    rules = make({"action": "limit", "messages": 3, "per": "1s"})
    assert [rules.passes() for _ in range(5)] == [True, True, True, False, False]
    assert rules.passes(topic="other")
    rules.now += 0.34
    assert [rules.passes() for _ in range(2)] == [True, False]
    rules.now += 100
    assert [rules.passes() for _ in range(5)] == [True, True, True, False, False]
    rules.now -= 50
    assert rules.passes(), "a clock that was set back does not close the way"


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=60),
)
def test_limit_holds_over_any_time(messages: int, gaps: list[float]) -> None:
    rules = Rules({"action": "limit", "messages": messages, "per": "1s"})
    passed: list[float] = []
    for gap in gaps:
        rules.now += gap
        if rules.passes():
            passed.append(rules.now)
    rules.close()
    for first in passed:
        within = [at for at in passed if first <= at < first + 1]
        assert len(within) <= 2 * messages, "a burst, and what grew again meanwhile"
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= messages + (passed[last] - passed[first]) * messages + 1e-3


def test_unique(make: Shop) -> None:
    rules = make({"action": "unique", "within": "60s"})
    assert [rules.passes(text) for text in ('{"a":1}', '{"a":1}', '{"a":2}', '{"a":1}')] == [1, 0, 1, 0]
    assert rules.passes('{"a":1}', "other")
    rules.now += 60
    assert rules.passes('{"a":1}')
    assert [rules.passes("") for _ in range(2)] == [True, True], "retained messages are deleted"


def test_unique_by_values(make: Shop) -> None:
    rules = make({"action": "unique", "within": "1m", "paths": ["id", "n.*"], "by": []})
    assert rules.passes('{"id":1,"n":[1,2],"t":1}')
    assert not rules.passes('{"id":1,"n":[1,2],"t":2}', "elsewhere")
    assert rules.passes('{"id":"1","n":[1,2]}')
    assert rules.passes('{"id":1,"n":[12]}')
    assert rules.passes('{"id":1,"n":[]}')
    assert rules.passes('{"n":[1]}'), "the number is not the identifier"
    assert rules.passes('{"id":1}', "elsewhere") is False


def test_unique_passes_what_has_no_such_value(make: Shop) -> None:
    rules = make({"action": "unique", "within": "1m", "paths": ["id", "n.*"]})
    assert [rules.passes(text) for text in ('{"x":1}', '{"x":2}', "5", '{"x":1}')] == [True] * 4
    assert [rules.passes(text) for text in ('{"id":null}', '{"id":null}')] == [True, False]


def test_unique_sees_what_the_steps_before_left(make: Shop) -> None:
    rules = make({"action": "remove", "path": "t"}, {"action": "unique", "within": "1m"})
    assert [rules.passes(text) for text in ('{"a":1,"t":1}', '{"a":1,"t":2}')] == [True, False]


STEPS = [
    {"action": "sample", "one_in": 2},
    {"action": "sample", "every": "1h"},
    {"action": "deadband", "path": "v", "change": 1},
    {"action": "limit", "messages": 1, "per": "1h"},
    {"action": "unique", "within": "1h"},
]


@pytest.mark.parametrize("step", STEPS)
def test_memory_survives_a_restart(make: Shop, step: dict[str, Any]) -> None:
    rules = make(step)
    assert rules.passes(value(1), "t" * 100)
    rules.restart()
    assert not rules.passes(value(1), "t" * 100)
    rules.restart()
    assert rules.passes(value(1), "t" * 101)


@pytest.mark.parametrize("step", STEPS)
def test_memory_is_bounded_and_goes_on_at_the_host(make: Shop, step: dict[str, Any]) -> None:
    rules = make({**step, "keys": 3})
    for _ in range(2):
        topics = [f"t/{i}" for i in range(10)]
        passed = [rules.passes(value(1), topic) for topic in topics]
    assert passed == [False] * 10
    batch = [Fields(topic.encode(), b'{"v":1}') for topic in topics]
    assert len(rules.run(*batch)) == 10


def test_a_batch_puts_each_key_once(make: Shop) -> None:
    rules = make({"action": "limit", "messages": 100, "per": "1s"})
    rules.run(*[Fields(b"a", b"")] * 30, *[Fields(b"b", b"")] * 30)
    assert rules.puts == 3, "two keys, and the mark"


def test_steps_do_not_share_their_memory(make: Shop) -> None:
    rules = make({"action": "sample", "one_in": 2}, {"action": "sample", "one_in": 2})
    assert [rules.passes() for _ in range(5)] == [True, False, False, False, True]
    rules.restart()
    assert [rules.passes() for _ in range(4)] == [False, False, False, True]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"action": "sample"}, "needs either one_in or every"),
    ({"action": "sample", "one_in": 2, "every": "1s"}, "needs either one_in or every"),
    ({"action": "sample", "every": "soon"}, '.every: "soon" is not a duration'),
    ({"action": "sample", "every": "31d"}, '.every: "31d" is not a duration'),
    ({"action": "sample", "one_in": 2, "by": "topic"}, '.by: "topic" is not a list'),
    ({"action": "sample", "one_in": 2, "by": [5]}, ".by[0]: 5 is not topic, client, user or a path"),
    ({"action": "sample", "one_in": 2, "keys": 0}, ".keys: 0 is not a whole number from 1 to 65536"),
    ({"action": "deadband", "path": "v"}, "needs either change or percent"),
    ({"action": "deadband", "change": 1}, ".path: is not a path"),
    ({"action": "deadband", "path": "v", "change": -1}, ".change: -1 is not a number above 0"),
    ({"action": "limit", "per": "1s"}, ".messages: is required"),
    ({"action": "limit", "messages": 1}, ".per: is required"),
    ({"action": "unique"}, ".within: is required"),
]


@pytest.mark.parametrize(("step", "words"), MISTAKES)
def test_mistakes(step: dict[str, Any], words: str) -> None:
    with pytest.raises(ModuleRefused) as caught:
        Rules(step)
    assert str(caught.value).startswith(f"steps[0]{words if words[0] == '.' else ': ' + words}")


def test_memory_for_too_much_is_refused() -> None:
    with pytest.raises(ModuleRefused, match="more than 8 MiB"):
        Rules(*[{"action": "sample", "one_in": 2, "keys": 60000}] * 3)
