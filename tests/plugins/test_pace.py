"""How long batches are expected to take."""

from __future__ import annotations

from plugins.host.pace import Pace


def test_unknown_is_not_quick() -> None:
    pace = Pace()
    assert not pace.is_quick(1, 0.0)
    assert pace.fitting(1.0) == 64
    pace.ran(10, 50e-6, 0.0)
    assert pace.is_quick(1, 0.0)
    assert pace.is_quick(300, 0.0)
    assert not pace.is_quick(400, 0.0), "a millisecond"


def test_slower_counts_at_once_and_quicker_little_by_little() -> None:
    pace = Pace()
    pace.ran(1, 30e-6, 0.0)
    pace.ran(1, 5e-3, 0.0)
    assert not pace.is_quick(1, 0.0)
    assert 15 <= pace.fitting(0.1) <= 20
    for number in range(100):
        assert not pace.is_quick(1, 0.0) or number > 20
        pace.ran(1, 30e-6, 0.0)
    assert pace.is_quick(1, 0.0)


def test_who_fails_is_not_trusted_for_longer_each_time() -> None:
    pace = Pace()
    pace.ran(1, 30e-6, 0.0)
    now = 0.0
    for ban in (5.0, 10.0, 20.0):
        pace.distrust(now)
        pace.distrust(now + 1.0)
        assert not pace.is_quick(1, now + ban - 0.1)
        now += ban
        assert pace.is_quick(1, now)
    for _ in range(20):
        pace.distrust(now)
        now += 600.0
        assert pace.is_quick(1, now), "ten minutes are the longest"
    now += 2000.0
    pace.distrust(now)
    assert pace.is_quick(1, now + 5.0), "it has been good for long"


def test_who_holds_the_event_loop_again_and_again_is_not_trusted() -> None:
    """Not even when it is quick in between, and so on the loop again."""
    pace = Pace()
    pace.ran(1, 30e-6, 0.0)
    for clock in (20.0, 40.0, 49.0):
        assert pace.is_quick(1, clock)
        pace.ran(1, 50e-3, clock)
        for _ in range(100):
            pace.ran(1, 30e-6, clock)
    assert not pace.is_quick(1, 53.9)
    assert pace.is_quick(1, 54.0)


def test_who_is_slow_on_a_thread_is_only_slow() -> None:
    pace = Pace()
    for _ in range(3):
        pace.ran(1, 50e-3, 0.0)
    for _ in range(100):
        pace.ran(1, 30e-6, 0.0)
    assert pace.is_quick(1, 0.0)
