"""Interest, keys, clock and ledger: the pure parts of the mesh."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.topics import matches
from edge_mesh.clock import HybridClock, wall_seconds
from edge_mesh.interest import (
    FilterSet,
    InterestError,
    LocalInterest,
    RemoteInterest,
    bare_filter,
    decode_change,
    is_travelling,
)
from edge_mesh.keys import Keys
from edge_mesh.ledger import REASONS, Ledger

NAMES = st.sampled_from(["a", "b", ""])
TOPICS = st.lists(NAMES, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.tuples(st.lists(NAMES | st.just("+"), min_size=1, max_size=3), st.booleans())
    .map(lambda found: "/".join(found[0] + (["#"] if found[1] else [])))
    .filter(bool)
)
ALL_TOPICS = (
    ["/".join(names) for names in [(x,) for x in "ab"]]
    + [f"{x}/{y}" for x in ("a", "b", "") for y in ("a", "b", "")]
    + [f"{x}/{y}/{z}" for x in ("a", "") for y in ("a", "b", "") for z in ("a", "b", "")]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.booleans(), FILTERS), max_size=15), TOPICS)
def test_filter_set_matches_as_mqtt_does(changes: list[tuple[bool, str]], topic: str) -> None:
    filters, model = FilterSet(), set()
    for add, topic_filter in changes:
        if add:
            assert filters.add(topic_filter) == (topic_filter not in model)
            model.add(topic_filter)
        else:
            assert filters.discard(topic_filter) == (topic_filter in model)
            model.discard(topic_filter)
    assert set(filters) == model
    assert len(filters) == len(model)
    assert filters.matches(topic) == any(matches(held, topic) for held in model)


@settings(deadline=None, max_examples=300)
@given(st.sets(FILTERS, max_size=6), FILTERS)
def test_what_is_covered_needs_not_be_told(held: set[str], topic_filter: str) -> None:
    filters = FilterSet(held | {topic_filter})
    if filters.covers(topic_filter):
        others = held - {topic_filter}
        for topic in ALL_TOPICS:
            if matches(topic_filter, topic):
                assert any(matches(other, topic) for other in others)
    for covered in filters.covered_by(topic_filter):
        for topic in ALL_TOPICS:
            if matches(covered, topic):
                assert matches(topic_filter, topic)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.booleans(), FILTERS), max_size=20), st.sets(st.integers(0, 20)), st.integers(0, 20)
)
def test_others_know_what_is_wanted(changes: list[tuple[bool, str]], lost: set[int], joined: int) -> None:
    """Changes are told one by one; some are lost; whoever misses one asks for the snapshot."""
    local, remote = LocalInterest(7), RemoteInterest()
    held: set[str] = set()
    for number, (add, topic_filter) in enumerate(changes):
        (held.add if add else held.discard)(topic_filter)
        told = (local.add if add else local.remove)(topic_filter)
        if told:
            change = decode_change(local.take_change().encode())
            if number >= joined and number not in lost and remote.apply(change) is None:
                remote.apply_snapshot(decode_change(local.snapshot().encode()))
    if not remote.is_current(7, local.version):
        remote.apply_snapshot(local.snapshot())
    for topic in ALL_TOPICS:
        assert remote.matches(topic) == any(matches(topic_filter, topic) for topic_filter in held)


def test_shared_and_private_filters() -> None:
    local = LocalInterest(1)
    assert local.add("$share/g/a/b")
    assert not local.add("a/b"), "already told"
    assert not local.add("$SYS/#")
    assert local.take_change().added == ("a/b",)
    assert not local.remove("a/b"), "still held by the group"
    assert local.remove("$share/g/a/b")
    assert bare_filter("$share/g/a/b") == "a/b"
    assert not is_travelling("$share/g/a")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"incarnation":1}', b'{"incarnation":"1","version":1,"added":[],"removed":[]}']
)
def test_what_is_no_change_is_refused(data: bytes) -> None:
    with pytest.raises(InterestError):
        decode_change(data)
    with pytest.raises(InterestError):
        decode_change(b'{"incarnation":1,"version":1,"added":["a/#/b"],"removed":[]}')


def test_keys() -> None:
    keys = Keys("acme/prod")
    assert keys.live("b", "a") == "acme/prod/v1/live/b/a"
    token = keys.parse_token(keys.token("eu", "node-1", 255))
    assert token == (1, "eu", "node-1", 255)
    for key in (
        "acme/prod/v1/alive/eu/n",
        "other/v1/alive/eu/n/1",
        "acme/prod/vx/alive/eu/n/1",
        "acme/prod/v1/alive/eu/*/1",
    ):
        assert keys.parse_token(key) is None
    for namespace in ("", "a//b", "a/*", "a b"):
        with pytest.raises(ValueError, match="namespace"):
            Keys(namespace)


@settings(deadline=None)
@given(st.lists(st.floats(1.0, 2000.0), min_size=1, max_size=30))
def test_clock_only_goes_forward(times: list[float]) -> None:
    clock = HybridClock(max_ahead=10.0)
    last = 0
    for now in times:
        stamp = clock.stamp(now)
        assert stamp > last
        last = stamp
        assert clock.observe(stamp + 5, now) or wall_seconds(stamp) > now + 9
    assert not HybridClock(10.0).observe(20_000 << 16, 1.0)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["accept", "acknowledge", "expire", *REASONS]), st.integers(0, 5)),
        max_size=40,
    )
)
def test_ledger_always_balances(moves: list[tuple[str, int]]) -> None:
    ledger = Ledger()
    for move, count in moves:
        try:
            if move in REASONS:
                ledger.drop(count, move)
            else:
                getattr(ledger, move)(count)
        except ValueError:
            assert count > ledger.queued
        assert ledger.balanced
        assert ledger.queued >= 0
