"""When to stop trying what keeps failing, and when to try again. Pure."""

from __future__ import annotations


class Breaker:
    """Opens after ``threshold`` failures in a row, for ``first`` seconds, then twice as long, up to ``longest``.

    ``now`` is in seconds of any clock that does not jump.
    """

    __slots__ = ("_failures", "_first", "_longest", "_pause", "_threshold", "_until")

    def __init__(self, threshold: int = 5, first: float = 1.0, longest: float = 60.0) -> None:
        self._threshold = threshold
        self._first = first
        self._longest = longest
        self._pause = first
        self._failures = 0
        self._until = 0.0

    @property
    def opened(self) -> bool:
        """Whether the last attempts failed so often that pauses are kept."""
        return self._failures >= self._threshold

    def allows(self, now: float) -> bool:
        """Whether an attempt may be made now."""
        return not self.opened or now >= self._until

    def succeeded(self) -> None:
        """An attempt went well: everything is forgiven."""
        self._failures = 0
        self._pause = self._first

    def failed(self, now: float) -> None:
        """An attempt failed."""
        self._failures += 1
        if self.opened:
            self._until = now + self._pause
            self._pause = min(2 * self._pause, self._longest)
