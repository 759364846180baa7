"""Lock-out after failed logins: by address, and by user name. ``now`` is in seconds of any one clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from broker.stats import Stats

T = TypeVar("T")

_MANY = 10_000
"""Keys that are remembered; beyond, the oldest go."""


class BanTerms(NamedTuple):
    """``after`` failures within ``window`` seconds lock a key out for ``time`` seconds; 0 failures for never."""

    after: int
    window: float
    time: float


NO_BANS = BanTerms(0, 0.0, 0.0)


class Bans:
    """The lock-outs of a node: who is locked out at one listener is so at all others that lock out at all.

    ``terms`` hold where ``by_listener`` has none for a listener's name. ``stats`` counts the lock-outs.
    """

    def __init__(
        self, terms: BanTerms, by_listener: Mapping[str, BanTerms] | None = None, stats: Stats | None = None
    ) -> None:
        self._stats = stats or Stats()
        self._failures: dict[str, deque[float]] = {}
        self._until: dict[str, float] = {}
        self.change(terms, by_listener or {})

    def change(self, terms: BanTerms, by_listener: Mapping[str, BanTerms]) -> None:
        """Go on with other terms; lock-outs that there are stay as long as was said."""
        self._terms = terms
        self._by_listener = by_listener
        self._longest = max(each.after for each in (terms, *by_listener.values()))

    def banned(self, keys: list[str], listener: str, now: float) -> bool:
        """Whether any of the keys is locked out at a listener."""
        if not self._by_listener.get(listener, self._terms).after:
            return False
        for key in keys:
            until = self._until.get(key)
            if until is not None:
                if until > now:
                    return True
                del self._until[key]
        return False

    def failed(self, keys: list[str], listener: str, now: float) -> list[str]:
        """A login failed at a listener; the keys that are locked out by it."""
        terms = self._by_listener.get(listener, self._terms)
        if not terms.after:
            return []
        locked: list[str] = []
        for key in keys:
            times = deque(self._failures.pop(key, ()), self._longest)
            times.append(now)
            if len(times) >= terms.after and now - times[-terms.after] <= terms.window:
                _keep(self._until, key, now + terms.time)
                locked.append(key)
            else:
                _keep(self._failures, key, times)
        self._stats.lockouts += len(locked)
        return locked

    def succeeded(self, keys: list[str]) -> None:
        """A login was right: earlier failures of these keys are forgiven."""
        for key in keys:
            self._failures.pop(key, None)


def _keep(known: dict[str, T], key: str, value: T) -> None:
    if len(known) >= _MANY:
        del known[next(iter(known))]
    known[key] = value
