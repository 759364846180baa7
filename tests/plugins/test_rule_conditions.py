"""What `when` can ask of a message, beside the values of JSON (test_rules.py)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.plugins.rules import Rules

BERLIN_NOON = 1_767_265_200.0
HOUR = 3600.0


def holds(condition: dict[str, Any], payload: str = "{}", now: float = BERLIN_NOON, **more: Any) -> bool:
    rules = Rules({"action": "keep", "when": condition})
    rules.now = now
    kept = rules.passes(payload, **more)
    rules.close()
    return kept


@pytest.mark.parametrize(
    ("condition", "meets", "fails"),
    [
        ({"topic": "a/+/c"}, ["a/b/c", "a//c"], ["a/b", "a/b/c/d", "b/b/c"]),
        ({"topic": "a/#"}, ["a", "a/b", "a/b/c"], ["b", "ab"]),
        ({"topic": "#"}, ["a", "/", "a/b"], ["$SYS/x"]),
        ({"topic": "+/x"}, ["a/x", "/x"], ["$SYS/x"]),
        ({"topic": ["a", "b/#"]}, ["a", "b/c"], ["c", "a/b"]),
        ({"topic_level": 1, "equals": "gps"}, ["a/gps", "b/gps/c"], ["gps/a", "a", "a/gpsx"]),
        ({"topic_level": 0, "in": ["x", "y"]}, ["x", "y/z"], ["z", "z/x"]),
        ({"topic_level": 1, "above": 16}, ["t/17", "t/16.5"], ["t/16", "t/x17", "t"]),
        ({"topic_level": 1, "equals": 7}, ["t/7", "t/7.0"], ["t/8", "t/"]),
        ({"topic_level": 2, "exists": True}, ["a/b/c", "a/b/"], ["a/b"]),
        ({"topic_level": 2, "exists": False}, ["a/b"], ["a/b/c"]),
        ({"topic_level": 0, "starts_with": "tr"}, ["truck", "tr/a"], ["t", "xtr"]),
    ],
)
def test_topics(condition: dict[str, Any], meets: list[str], fails: list[str]) -> None:
    assert [topic for topic in meets + fails if holds(condition, topic=topic)] == meets


@pytest.mark.parametrize(
    ("condition", "meets", "fails"),
    [
        ({"at_least": 5}, ["5", "5.00", "6"], ["4.9", '"6"', "null"]),
        ({"at_most": 5}, ["5", "-1"], ["5.000001"]),
        ({"not_in": [1, "x"]}, ["2", '"y"', "null"], ["1.0", '"x"']),
        ({"starts_with": "ab"}, ['"ab"', '"abc"', '"\\u0061bc"'], ['"a"', '"xab"', "5"]),
        ({"ends_with": "bc"}, ['"bc"', '"abc"'], ['"c"', '"bcd"']),
        ({"contains": "b"}, ['"b"', '"abc"'], ['""', '"ac"', '["b"]']),
        ({"matches_glob": "a*c?"}, ['"acx"', '"abcé"', '"accc"'], ['"ac"', '"bacx"', '"acxx"']),
        ({"matches_glob": "\\*?"}, ['"*x"'], ['"xx"', '"*"']),
        ({"matches_glob": "*a*b*"}, ['"ab"', '"xaxxbx"'], ['"ba"', '""']),
    ],
)
def test_values(condition: dict[str, Any], meets: list[str], fails: list[str]) -> None:
    asked = {"path": "a", **condition}
    assert [value for value in meets + fails if holds(asked, f'{{"a":{value}}}')] == meets


def test_who_sent_it() -> None:
    assert holds({"client": "truck-*"}, client_id=b"truck-17")
    assert not holds({"client": "truck-*"}, client_id=b"bus-17")
    assert holds({"client": ["bus-?", "truck-?"]}, client_id=b"bus-1")
    assert holds({"user": "ana"}, user=b"ana")
    assert not holds({"user": "ana"})
    assert holds({"user": ""})


def test_how_it_was_sent() -> None:
    assert holds({"qos": 1}, qos=1)
    assert not holds({"qos": 1}, qos=2)
    assert holds({"qos": [0, 2]}, qos=2)
    assert holds({"retain": True}, retain=True)
    assert not holds({"retain": True}, retain=False)
    assert holds({"retain": False}, retain=False)


def test_time_of_day() -> None:
    day = {"time": {"from": "08:00", "to": "13:00"}}
    assert holds(day)
    assert not holds(day, now=BERLIN_NOON + HOUR)
    assert holds(day, now=BERLIN_NOON - 4 * HOUR)
    assert not holds(day, now=BERLIN_NOON - 4 * HOUR - 1)


def test_time_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    thursday_night = {"time": {"from": "22:00", "to": "06:00", "days": ["thu"]}}
    assert not holds(thursday_night)
    assert holds(thursday_night, now=BERLIN_NOON + 10 * HOUR)
    assert holds(thursday_night, now=BERLIN_NOON + 17.9 * HOUR)
    assert not holds(thursday_night, now=BERLIN_NOON + 18 * HOUR)
    assert not holds(thursday_night, now=BERLIN_NOON - 7 * HOUR), "that is Wednesday's night"
    assert holds({"time": {"days": ["thu"]}})
    assert not holds({"time": {"days": ["fri", "sun"]}})
    assert holds({"time": {"days": ["sun"]}}, now=BERLIN_NOON + 3 * 24 * HOUR)


def test_offset_of_the_configuration_goes_before_the_nodes() -> None:
    step = {"action": "keep", "when": {"time": {"from": "19:00", "to": "19:01"}}}
    rules = Rules(step, utc_offset="+08:00")
    assert rules.passes()
    rules.close()
    rules = Rules(step, utc_offset="local")
    assert not rules.passes()
    rules.close()


def test_conditions_on_the_envelope_see_what_cannot_be_read() -> None:
    by_topic = {"action": "drop", "when": {"topic": "debug/#"}}
    rules = Rules(by_topic, on_undecodable="pass")
    assert not rules.passes("no JSON", "debug/1")
    assert not rules.passes("", "debug/1")
    assert rules.passes("no JSON", "x")
    rules.close()
    rules = Rules(by_topic, {"action": "redact", "path": "a"})
    assert not rules.passes("no JSON", "x")
    rules.close()
