"""How fast counters grow; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

_SECONDS = 5.0
"""The time over which a rate is averaged: what is older counts for a third."""


class Rates:
    """The rates of counters that only grow, as exponential averages."""

    __slots__ = ("_at", "_totals", "per_second")

    def __init__(self, count: int) -> None:
        self._totals: Sequence[int] = (0,) * count
        self._at: float | None = None
        self.per_second: list[float] = [0.0] * count
        """The rates, in the order of the counters."""

    def update(self, totals: Sequence[int], clock: float) -> None:
        """Take the counters' newest values; ``clock`` is in seconds and never jumps."""
        before, self._at = self._at, clock
        if before is None or clock <= before:
            self._totals = totals
            return
        seconds = clock - before
        weight = 1.0 - math.exp(-seconds / _SECONDS)
        self.per_second = [
            rate + weight * ((new - old) / seconds - rate)
            for rate, new, old in zip(self.per_second, totals, self._totals, strict=True)
        ]
        self._totals = totals
