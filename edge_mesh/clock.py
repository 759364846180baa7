"""A hybrid logical clock: orders events of all nodes, close to wall-clock time; pure.

After Kulkarni, Demirbas and others, "Logical Physical Clocks" (2014), with both parts in one integer:
milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
"""

from __future__ import annotations

COUNTER_BITS = 16


class HybridClock:
    """``max_ahead`` is in seconds: stamps further in the future are not followed."""

    def __init__(self, max_ahead: float = 3600.0) -> None:
        self.max_ahead = max_ahead
        self._last = 0

    def stamp(self, now: float) -> int:
        """A new stamp, greater than every one given out or observed, even when the wall clock jumps back."""
        self._last = max(self._last + 1, int(now * 1000) << COUNTER_BITS)
        return self._last

    def observe(self, stamp: int, now: float) -> bool:
        """Take note of another node's stamp; False, and no note, when it is too far in the future.

        Whoever follows a clock that is a year ahead makes it everyone's clock: such a stamp is refused.
        """
        if stamp > self._last:
            if stamp > int((now + self.max_ahead) * 1000) << COUNTER_BITS:
                return False
            self._last = stamp
        return True


def wall_seconds(stamp: int) -> float:
    """The wall-clock part of a stamp."""
    return (stamp >> COUNTER_BITS) / 1000
