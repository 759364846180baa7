"""How long a rule's batches take, from those it had: what would hold the event loop runs elsewhere. Pure."""

from __future__ import annotations

_FIXED = 20e-6
"""Seconds of a call that do not depend on how many messages it has."""
_QUICK = 0.001
"""Seconds that a batch may hold the event loop."""
_LONG = 2 * _QUICK
"""Seconds that are too long for one that was taken for quick."""
_SELDOM = 10.0
"""Seconds in which that may happen once: garbage may have been collected in it."""
_FORGET = 0.05
"""The share by which a quicker batch lowers the estimate; a slower one raises it at once."""
_FIRST = 64
"""Messages of the first batch."""
_FIRST_BAN, _LONGEST_BAN = 5.0, 600.0


class Pace:
    """``clock`` is in seconds of any clock that does not jump.

    A rule that failed, or held the loop much longer than estimated more than now and then, is not trusted with the loop
    for a while, each time for twice as long: what it costs may depend on what a message says.
    """

    __slots__ = ("_ban", "_banned_until", "_held_at", "per_message")

    def __init__(self) -> None:
        self.per_message = 0.0
        """Seconds; 0.0 before the first batch."""
        self._ban = _FIRST_BAN
        self._banned_until = 0.0
        self._held_at = -_SELDOM

    def at_once(self, clock: float) -> int:
        """How many messages will hardly take longer than a millisecond."""
        if not self.per_message or clock < self._banned_until:
            return 0
        return int((_QUICK - _FIXED) / self.per_message)

    def is_quick(self, count: int, clock: float) -> bool:
        """Whether so many messages will hardly take longer than a millisecond."""
        return count <= self.at_once(clock)

    def fitting(self, seconds: float) -> int:
        """How many messages will hardly take longer."""
        if not self.per_message:
            return _FIRST
        return max(1, int((seconds - _FIXED) / self.per_message))

    def ran(self, count: int, seconds: float, clock: float) -> None:
        """A batch of so many messages, begun then, took so long of the thread's own time, without what it waited."""
        if seconds > _LONG and self.is_quick(count, clock):
            if clock - self._held_at < _SELDOM:
                self.distrust(clock)
            self._held_at = clock
        found = max((seconds - _FIXED) / count, 1e-7)
        if found >= self.per_message:
            self.per_message = found
        else:
            self.per_message += (found - self.per_message) * _FORGET

    def distrust(self, clock: float) -> None:
        """It did not do what it should, or much more than others."""
        if clock >= self._banned_until:
            if clock - self._banned_until > _LONGEST_BAN:
                self._ban = _FIRST_BAN
            self._banned_until = clock + self._ban
            self._ban = min(2 * self._ban, _LONGEST_BAN)
