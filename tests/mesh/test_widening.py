"""Interest past its bound, and how it is known elsewhere: sound always, exact where there is room."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.topics import covers, matches
from edge_mesh.filter_set import FilterSet, digest
from edge_mesh.interest import LocalInterest, RemoteInterest
from edge_mesh.interest_change import Change, InterestError, decode_change, join_snapshot, snapshot_parts
from edge_mesh.widening import widen

NAMES = ["a", "b", "c", ""]
FILTERS = (
    st.tuples(st.lists(st.sampled_from([*NAMES, "+"]), min_size=1, max_size=4), st.booleans())
    .map(lambda found: "/".join(found[0] + (["#"] if found[1] else [])))
    .filter(bool)
)
TOPICS = [
    topic
    for topic in (
        NAMES
        + [f"{x}/{y}" for x in NAMES for y in NAMES]
        + [f"{x}/{y}/{z}" for x in NAMES for y in NAMES for z in NAMES]
        + [f"a/{x}/{y}/{z}" for x in NAMES for y in NAMES for z in NAMES]
    )
    if topic
]
BOUNDS = st.integers(1, 12)
MOVES = st.lists(st.tuples(st.integers(0, 2), FILTERS), max_size=40)


def told_by(local: LocalInterest) -> Change:
    """All that there is to tell, told."""
    while local.changed:
        local.take_change()
    return local.snapshot()


@settings(deadline=None, max_examples=400)
@given(MOVES, BOUNDS)
def test_told_is_sound_bounded_and_exact_where_there_is_room(moves: list[tuple[int, str]], most: int) -> None:
    local, remote, held = LocalInterest(7, most), RemoteInterest(), set[str]()
    ever_most = 0
    remote.apply_snapshot(local.snapshot())
    for move, topic_filter in moves:
        (held.add if move else held.discard)(topic_filter)
        (local.add if move else local.remove)(topic_filter)
        ever_most = max(ever_most, len(held))
        assert len(local) <= most
        while local.changed:
            assert remote.apply(decode_change(local.take_change().encode())) is not None
        snapshot = local.snapshot()
        told = set(snapshot.added)
        assert set(remote) == told
        assert remote.digest == local.digest == digest(told)
        exact = ever_most <= most or len(held) <= most // 2
        for topic in TOPICS:
            wanted = any(matches(item, topic) for item in held)
            heard = any(matches(item, topic) for item in told)
            assert heard or not wanted, f"{topic} is wanted and not told"
            assert wanted or not heard or not exact, f"{topic} is told and not wanted"
        for item in told:
            assert not any(covers(other, item) for other in told - {item}), "nothing is told twice"
            assert any(covers(item, other) for other in held), "nothing is told for nobody"


@settings(deadline=None, max_examples=300)
@given(MOVES, st.lists(BOUNDS, min_size=2, max_size=4))
def test_another_bound_holds_at_once(moves: list[tuple[int, str]], bounds: list[int]) -> None:
    local, remote, held = LocalInterest(7, bounds[0]), RemoteInterest(), set[str]()
    remote.apply_snapshot(local.snapshot())
    for move, topic_filter in moves:
        (held.add if move else held.discard)(topic_filter)
        (local.add if move else local.remove)(topic_filter)
    for most in [*bounds[1:], 100]:
        assert local.set_bound(most) == local.changed
        while local.changed:
            assert remote.apply(local.take_change()) is not None
        told = set(remote)
        assert told == set(local.snapshot().added)
        assert len(told) <= most
        exact = most == 100
        for topic in TOPICS:
            wanted = any(matches(item, topic) for item in held)
            heard = any(matches(item, topic) for item in told)
            assert heard or not wanted, f"{topic} is wanted and not told"
            assert wanted or not heard or not exact, f"{topic} is told and not wanted, with room for all"


@settings(deadline=None, max_examples=300)
@given(st.sets(FILTERS, max_size=25), FILTERS)
def test_pruned_is_what_was_covered(found: set[str], topic_filter: str) -> None:
    found = {item for item in found if not any(covers(other, item) for other in found - {item})}
    pruned = FilterSet(found)
    covered = {item for item in found if item != topic_filter and covers(topic_filter, item)}
    assert sorted(pruned.prune(topic_filter)) == sorted(covered)
    assert set(pruned) == found - covered
    assert len(pruned) == len(found - covered)
    for item in found - covered:
        pruned.discard(item)
    assert not pruned._root.children, "no empty level stays"


@settings(deadline=None, max_examples=300)
@given(st.sets(FILTERS, max_size=25), st.integers(1, 20), st.integers(0, 20))
def test_widened_filters_save_what_they_are_for(found: set[str], excess: int, more: int) -> None:
    topic_filters = {item for item in found if not any(covers(other, item) for other in found - {item})}
    wide = widen(topic_filters, excess, excess + more)
    left = FilterSet(topic_filters)
    for item in wide:
        assert any(name not in {"+", "#"} for name in item.split("/"))
        for covered in list(left.covered_by(item)):
            left.discard(covered)
        left.add(item)
    unnamed = {item for item in topic_filters if item.split("/")[0] == "+"}
    firsts = {item.split("/")[0] for item in topic_filters - unnamed}
    assert len(left) <= max(len(topic_filters) - excess, len(firsts) + len(unnamed))


def test_prefixes_that_save_much_and_match_little_come_first() -> None:
    many = [f"plant/7/line/{number}" for number in range(100)]
    few = [f"plant/8/{number}" for number in range(5)]
    assert widen(many + few, 50, 50) == ["plant/7/line/#"]
    assert widen(["a/b/c", "a/b/+/d", "x/y"], 1, 9) == ["a/b/#"]
    assert set(widen(many + few, 103, 103)) == {"plant/7/line/#", "plant/8/#"}
    assert widen(many + few, 104, 104) == ["plant/#"]
    assert widen(many + few, 3, 103) == ["plant/7/line/#"], "room alone is no reason for less exactness"
    assert widen(["a", "b", "+/c"], 2, 2) == []


def test_only_where_nothing_else_helps_everything_is_asked_for() -> None:
    local = LocalInterest(1, 4)
    for name in "abcd":
        local.add(f"{name}/1")
    local.add("d/2")
    assert set(told_by(local).added) == {"a/1", "b/1", "c/1", "d/#"}
    local.add("e/1")
    assert told_by(local).added == ("#",)
    for topic_filter in ("a/1", "b/1", "c/1", "d/1"):
        local.remove(topic_filter)
    assert set(told_by(local).added) == {"d/2", "e/1"}


def test_at_the_bound_it_does_not_flap() -> None:
    local = LocalInterest(1, 100)
    for number in range(101):
        local.add(f"room/{number % 4}/{number}")
    before = set(told_by(local).added)
    assert len(before) <= 75
    version = local.version
    for _ in range(50):
        local.remove("room/0/100")
        local.add("room/0/100")
        told_by(local)
    assert local.version - version <= 100
    assert {item for item in before if item.endswith("#")} <= set(told_by(local).added)


def test_some_are_narrowed_while_others_stay_wide() -> None:
    local = LocalInterest(1, 64)
    for number in range(300):
        local.add(f"big/{number}")
        local.add(f"small/{number}")
    assert set(told_by(local).added) == {"big/#", "small/#"}
    for number in range(10, 300):
        local.remove(f"small/{number}")
    assert set(told_by(local).added) == {"big/#"} | {f"small/{number}" for number in range(10)}


def test_a_filter_that_covers_all_comes_and_goes_without_unfolding_them() -> None:
    local = LocalInterest(1, 50)
    for number in range(5000):
        local.add(f"a/{number}")
    before = told_by(local).added
    for _ in range(3):
        local.add("#")
        assert told_by(local).added == ("#",)
        local.remove("#")
        change = local.take_change()
        assert len(change.added) == len(before)
        assert local.snapshot().added == before


@settings(deadline=None, max_examples=200)
@given(MOVES.filter(bool), st.data())
def test_changes_in_any_order_end_in_what_was_told(moves: list[tuple[int, str]], data: st.DataObject) -> None:
    """Whatever is lost, doubled or overtakes: with one more snapshot it is what was told."""
    local, remote = LocalInterest(3, 6), RemoteInterest()
    known: set[str] = set()
    changes, snapshots = [], [local.snapshot()]
    for move, topic_filter in moves:
        if (local.add if move else local.remove)(topic_filter):
            changes.append(local.take_change())
            snapshots.append(local.snapshot())
    arrivals = [*data.draw(st.lists(st.sampled_from([*changes, *snapshots]), max_size=40)), snapshots[-1]]
    for arrival in arrivals:
        is_snapshot = any(arrival is item for item in snapshots)
        result = remote.apply_snapshot(arrival) if is_snapshot else remote.apply(arrival)
        if result is not None:
            known |= set(result[0])
            known -= set(result[1])
        if remote.incarnation:
            assert set(remote) == known == set(snapshots[remote.version].added)
            assert remote.digest == digest(known)
    assert remote.digest == local.digest
    assert not remote.differs(3, local.version, local.digest)
    assert remote.differs(3, local.version, local.digest ^ 1)


def test_early_changes_are_applied_in_their_order_and_bounded() -> None:
    remote = RemoteInterest()
    for version in (4, 3, 6):
        assert remote.apply(Change(9, version, (f"v{version}",), ())) is None
    added, removed = remote.apply_snapshot(Change(9, 2, ("s",), ()))
    assert (set(added), removed) == ({"s", "v3", "v4"}, [])
    assert (set(remote), remote.version) == ({"s", "v3", "v4"}, 4)
    assert remote.apply(Change(9, 5, ("v5",), ("s",))) == (["v5", "v6"], ["s"])
    for version in range(8, 3000):
        remote.apply(Change(9, version, (f"v{version}",), ()))
    remote.apply(Change(9, 7, (), ()))
    assert remote.version == 1007, "a thousand waited"
    remote.apply(Change(9, 1009, ("x" * (1 << 20),), ()))
    remote.apply(Change(9, 1010, ("y",), ()))
    remote.apply(Change(9, 1008, (), ()))
    assert remote.version == 1009, "no letter more than the bound"


def test_snapshots_and_changes_come_in_parts() -> None:
    local, remote = LocalInterest(5), RemoteInterest()
    names = [f"{number}/{'x' * 60_000}" for number in range(9)] + [f"{number}" for number in range(3000)]
    for name in names:
        local.add(name)
    remote.apply_snapshot(local.snapshot())
    versions = 0
    while local.changed:
        data = local.take_change().encode()
        assert len(data) < 150_000
        assert remote.apply(decode_change(data)) is not None
        versions += 1
    assert versions >= 9
    parts = list(snapshot_parts(local.snapshot()))
    assert max(map(len, parts)) < 150_000
    random.Random(1).shuffle(parts)
    snapshot = join_snapshot(parts)
    assert snapshot is not None
    assert set(snapshot.added) == set(names) == set(remote)
    assert join_snapshot(parts[1:]) is None
    assert join_snapshot([]) is None
    assert join_snapshot([*parts[1:], *snapshot_parts(Change(5, 99, (), ()))]) is None
    nothing = Change(5, 0, (), ())
    assert join_snapshot(list(snapshot_parts(nothing))) == nothing


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"[" * 100_000,
        b'{"incarnation":1,"version":1,"added":[],"removed":[],"more":1}',
        b'{"incarnation":1,"version":-1,"added":[],"removed":[]}',
        b'{"incarnation":true,"version":1,"added":[],"removed":[]}',
        b'{"incarnation":1,"version":1,"added":"ab","removed":[]}',
        b'{"incarnation":1,"version":1,"added":["\\ud800"],"removed":[]}',
        b'{"incarnation":1,"version":1,"added":["$SYS/a"],"removed":[]}',
    ],
)
def test_what_is_no_change_or_part_is_refused(data: bytes) -> None:
    with pytest.raises(InterestError):
        decode_change(data)
    with pytest.raises(InterestError):
        join_snapshot([data])


def test_a_bound_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_filters"):
        LocalInterest(1, 0)
