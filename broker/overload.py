"""Whether a node has more to do than it can: by the delay of its event loop, and by its memory."""

from __future__ import annotations

_RELIEF = 0.8
"""The part of a mark below which a load has to fall before it counts as over."""

_SMOOTH = 0.5


class Overload:
    """``memory`` in bytes and ``lag`` in seconds are the marks; 0 for none."""

    def __init__(self, memory: int, lag: float) -> None:
        self._memory = memory
        self._lag = lag
        self._delay = 0.0
        self.active = False

    def change(self, memory: int, lag: float) -> None:
        """Go on with other marks."""
        self._memory = memory
        self._lag = lag

    def update(self, delay: float, resident: int) -> bool:
        """Take the newest measurements; whether the node is overloaded.

        ``delay`` is by how many seconds the event loop came late since the last time.
        """
        # One long task is no overload: the delay has to last.
        self._delay += (max(delay, 0.0) - self._delay) * _SMOOTH
        ease = _RELIEF if self.active else 1.0
        self.active = bool(
            (self._memory and resident > self._memory * ease)
            or (self._lag and self._delay > self._lag * ease)
        )
        return self.active
