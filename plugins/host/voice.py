"""How much a rule may say in the log. Pure."""

from __future__ import annotations

_LINES = 100.0
_EACH_SECOND = 1.0


class Voice:
    """A hundred lines at once, then one a second: enough to be told what goes on, and too little to fill a disk.

    ``now`` is in seconds of any clock that does not jump.
    """

    __slots__ = ("_left", "_unheard", "_until")

    def __init__(self) -> None:
        self._left = _LINES
        self._until = 0.0
        self._unheard = 0

    def may_speak(self, now: float) -> bool:
        """Whether a line may be written now; where not, it is counted."""
        self._left = min(_LINES, self._left + (now - self._until) * _EACH_SECOND)
        self._until = now
        if self._left < 1.0:
            self._unheard += 1
            return False
        self._left -= 1.0
        return True

    def take_unheard(self) -> int:
        """How many lines were left out since this was asked."""
        unheard, self._unheard = self._unheard, 0
        return unheard
