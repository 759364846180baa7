"""The trie against MQTT's own matching, and its cache against changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.limits import Limits
from broker.message import Message
from broker.protocol.topics import matches
from broker.retained import Retained
from broker.session import Session
from broker.stats import Stats
from broker.subscriptions import Held, Subscriptions
from broker.timers import Agenda, Wheel

LEVELS = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.tuples(st.lists(LEVELS | st.just("+"), min_size=1, max_size=4), st.booleans())
    .map(lambda found: "/".join(found[0] + (["#"] if found[1] else [])))
    .filter(bool)
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4), FILTERS), max_size=30), st.lists(TOPICS, max_size=6)
)
@pytest.mark.spec("MQTT-3.3.2-3", "MQTT-4.5.0-1")
def test_routes_are_what_the_filters_say(changes: list[tuple[bool, int, str]], topics: list[str]) -> None:
    subscriptions = Subscriptions(capacity=4)
    sessions = [Session(str(number), Stats(), Limits()) for number in range(5)]
    held: dict[tuple[int, str], Held] = {}
    routes = [subscriptions.route(topic) for topic in topics]
    for add, number, topic_filter in changes:
        key = (number, topic_filter)
        if number == 4:
            (subscriptions.add_node if add else subscriptions.remove_node)("node", topic_filter)
            held.pop(key, None) if not add else held.setdefault(key, Held(topic_filter, 0))
        elif add:
            held[key] = Held(topic_filter, 0)
            subscriptions.add(sessions[number], held[key])
        elif key in held:
            subscriptions.remove(sessions[number], held.pop(key))
        for topic, old in zip(topics, routes, strict=True):
            route = old if old.valid else subscriptions.route(topic)
            expected = {number for number, text in held if number < 4 and matches(text, topic)}
            assert {int(receiver.session.client_id) for receiver in route.receivers} == expected
            assert bool(route.nodes) == any(n == 4 and matches(text, topic) for n, text in held)
    assert set(subscriptions.local_filters()) == {text for number, text in held if number < 4}
    for (number, topic_filter), value in held.items():
        if number == 4:
            subscriptions.remove_node("node", topic_filter)
        else:
            subscriptions.remove(sessions[number], value)
    assert subscriptions._root.children == {}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TOPICS, st.booleans()), max_size=12), FILTERS)
def test_retained_messages_are_found_by_filter(changes: list[tuple[str, bool]], topic_filter: str) -> None:
    retained = Retained()
    known: set[str] = set()
    for stamp, (topic, there) in enumerate(changes, 1):
        retained.put(Message(topic, b"x" if there else b"", 0, True, stamp=stamp), 0.0)
        (known.add if there else known.discard)(topic)
    found = {message.topic for message in retained.match(topic_filter, 0.0)}
    assert found == {topic for topic in known if matches(topic_filter, topic)}
    assert len(retained) == len(known)


def test_last_writer_wins_and_deletions_are_remembered() -> None:
    retained = Retained()
    assert retained.put(Message("t", b"2", 0, True, stamp=2, origin="b"), 0.0)
    assert not retained.put(Message("t", b"1", 0, True, stamp=1, origin="z"), 0.0)
    assert not retained.put(Message("t", b"a", 0, True, stamp=2, origin="a"), 0.0)
    assert retained.put(Message("t", b"", 0, True, stamp=3), 0.0)
    assert not retained.put(Message("t", b"old", 0, True, stamp=2), 0.0)
    assert [message.topic for message in retained.tombstones()] == ["t"]
    retained.expire(1e9)
    assert list(retained.tombstones()) == []


def test_store_of_retained_messages_is_bounded() -> None:
    retained = Retained(capacity=1)
    assert retained.put(Message("a", b"x", 0, True), 0.0)
    assert not retained.put(Message("b", b"x", 0, True), 0.0)
    assert retained.put(Message("a", b"y", 0, True), 0.0)


def test_wheel_gives_back_within_a_second() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    wheel.schedule("a", 5.5)
    wheel.schedule("b", 0.0)
    assert wheel.due(1.0) == ["b"]
    assert wheel.due(5.9) == []
    assert wheel.due(6.5) == ["a"]
    wheel.schedule("late", 1.0)
    assert wheel.due(1000.0) == ["late"]


def test_agenda_replaces_and_cancels() -> None:
    agenda: Agenda[str, int] = Agenda()
    agenda.put("a", 1, 5.0)
    agenda.put("a", 2, 3.0)
    agenda.put("b", 3, 1.0)
    assert agenda.cancel("b") == 3
    assert agenda.due(10.0) == [2]
    assert agenda.due(10.0) == []
