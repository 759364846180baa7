"""What modules remember: what the disk is told, and that it stays bounded whether or not there is one that works."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugins.host.state import State

MOST = 3
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.binary(min_size=1, max_size=1), st.sampled_from([0, 1000, 3000])),
        st.tuples(st.sampled_from(["write", "fail", "fail late", "wait"])),
    ),
    max_size=60,
)


@given(STEPS)
def test_disk_has_what_is_remembered_whatever_fails(steps: list[tuple[object, ...]]) -> None:
    state, disk, now = State(max_keys=MOST), dict[bytes, bytes](), 0.0

    def write() -> None:
        for key, value, _ in state.collect(now):
            if value is None:
                disk.pop(key, None)
            else:
                disk[key] = value

    for number, (step, *rest) in enumerate(steps):
        if step == "put":
            key, lifetime = rest
            state.put(key, b"%d" % number, lifetime, now)
        elif step == "wait":
            now += 2.0
        elif step == "write":
            write()
        else:
            changes = state.collect(now)
            if step == "fail late":
                state.put(b"meanwhile", b"%d" % number, 0, now)
                state.put(b"%d" % number, b"", 0, now)
            state.give_back(changes)
        assert len(state._changed) <= 2 * MOST + len(disk) + 2
    write()
    kept = {key: value for key in state._values if (value := state.get(key, now)) is not None}
    assert disk == kept


def test_without_a_disk_nothing_is_kept_of_what_was_forgotten() -> None:
    state = State(max_keys=10)
    for number in range(1000):
        state.put(b"%d" % number, b"", 0, 0.0)
    assert len(state._changed) == len(state) == 10


def test_where_the_disk_fails_for_long_nothing_is_kept_of_what_was_forgotten() -> None:
    state = State(max_keys=10)
    for number in range(1000):
        state.put(b"%d" % number, b"", 0, 0.0)
        if number % 7 == 0:
            state.give_back(state.collect(0.0))
    assert len(state._changed) <= 20
