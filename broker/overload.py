"""Whether a node has more to do than it can: by the delay of its event loop, and by its memory."""

from __future__ import annotations

_LAG_RELIEF = 0.8
_MEMORY_RELIEF = 0.95
"""The part of a mark below which a load has to fall before it counts as over: memory does not fall by chance."""

_SMOOTH = 0.5


class Overload:
    """``memory`` in bytes and ``lag`` in seconds are the marks; 0 for none."""

    def __init__(self, memory: int, lag: float) -> None:
        self._memory = memory
        self._lag = lag
        self._delay = 0.0
        self._resident = 0
        self.active = False

    def change(self, memory: int, lag: float) -> None:
        """Go on with other marks."""
        self._memory = memory
        self._lag = lag

    def is_large(self, resident: int) -> bool:
        """Whether so many bytes are too many, or still are."""
        mark = self._memory * (_MEMORY_RELIEF if self.active else 1.0)
        return bool(self._memory) and resident > mark

    def update(self, delay: float, resident: int) -> bool:
        """Take the newest measurements; whether the node is overloaded.

        ``delay`` is by how many seconds the event loop came late since the last time.
        """
        # One long task is no overload: the delay has to last.
        self._delay += (max(delay, 0.0) - self._delay) * _SMOOTH
        self._resident = resident
        is_late = bool(self._lag) and self._delay > self._lag * (_LAG_RELIEF if self.active else 1.0)
        self.active = is_late or self.is_large(resident)
        return self.active

    def __str__(self) -> str:
        """The newest measurements and the marks."""
        memory, lag = f"{self._resident / 2**20:.0f} MiB", f"{self._delay:.2f} s"
        if self._memory:
            memory += f" of {self._memory / 2**20:.0f} MiB"
        if self._lag:
            lag += f" of {self._lag:g} s"
        return f"memory {memory}, event loop late by {lag}"
