"""Moving averages of counters over 1, 5 and 15 minutes, as Mosquitto publishes them."""

from __future__ import annotations

import math

MINUTES = (1, 5, 15)


class Load:
    """One counter's rate a minute, averaged exponentially."""

    __slots__ = ("_last", "averages")

    def __init__(self) -> None:
        self._last = 0
        self.averages = dict.fromkeys(MINUTES, 0.0)

    def update(self, counter: int, seconds: float) -> None:
        """Take the counter's value, ``seconds`` after the last time."""
        if seconds <= 0:
            return
        rate = (counter - self._last) * 60 / seconds
        self._last = counter
        for minutes, average in self.averages.items():
            weight = math.exp(-seconds / (60 * minutes))
            self.averages[minutes] = rate + weight * (average - rate)
