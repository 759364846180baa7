"""Lock-out after failed logins: by address, and by user name. ``now`` is in seconds of any one clock."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

T = TypeVar("T")

_MANY = 10_000
"""Keys that are remembered; beyond, the oldest go."""


class Bans:
    """``after`` failures within ``window`` seconds lock a key out for ``time`` seconds; 0 failures for never."""

    def __init__(self, after: int, window: float, time: float) -> None:
        self._after = after
        self._window = window
        self._time = time
        self._failures: dict[str, deque[float]] = {}
        self._until: dict[str, float] = {}

    def banned(self, keys: list[str], now: float) -> bool:
        """Whether any of the keys is locked out."""
        for key in keys:
            until = self._until.get(key)
            if until is not None:
                if until > now:
                    return True
                del self._until[key]
        return False

    def failed(self, keys: list[str], now: float) -> list[str]:
        """A login failed; the keys that are locked out by it."""
        if not self._after:
            return []
        locked: list[str] = []
        for key in keys:
            times = self._failures.pop(key, None) or deque(maxlen=self._after)
            times.append(now)
            if len(times) == self._after and now - times[0] <= self._window:
                _keep(self._until, key, now + self._time)
                locked.append(key)
            else:
                _keep(self._failures, key, times)
        return locked

    def succeeded(self, keys: list[str]) -> None:
        """A login was right: earlier failures of these keys are forgiven."""
        for key in keys:
            self._failures.pop(key, None)


def _keep(known: dict[str, T], key: str, value: T) -> None:
    if len(known) >= _MANY:
        del known[next(iter(known))]
    known[key] = value
