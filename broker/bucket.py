"""A token bucket: what a rate limit is made of."""

from __future__ import annotations


class Bucket:
    """``rate`` tokens a second, ``burst`` at most in store. ``now`` is in seconds of any one clock."""

    __slots__ = ("_level", "_rate", "_since", "burst")

    def __init__(self, rate: float, now: float, burst: float | None = None) -> None:
        self._rate = rate
        self.burst = burst if burst is not None else max(rate, 1.0)
        self._level = self.burst
        self._since = now

    def take(self, amount: float, now: float) -> bool:
        """Take tokens if they are there."""
        self._refill(now)
        if self._level < amount:
            return False
        self._level -= amount
        return True

    def spend(self, amount: float, now: float) -> float:
        """Take tokens even where they are not there; the seconds until the debt is paid."""
        self._refill(now)
        self._level -= amount
        return -self._level / self._rate if self._level < 0 else 0.0

    def is_full(self, now: float) -> bool:
        """Whether nothing was taken for so long that a new bucket would be the same."""
        self._refill(now)
        return self._level >= self.burst

    def _refill(self, now: float) -> None:
        if now > self._since:
            self._level = min(self.burst, self._level + (now - self._since) * self._rate)
            self._since = now


class Meter:
    """What one client may send: messages and bytes a second, 0 for no limit; a second's worth at once."""

    __slots__ = ("_bytes", "_messages")

    def __init__(self, messages: float, size: float, now: float) -> None:
        self._messages = Bucket(messages, now) if messages else None
        self._bytes = Bucket(size, now) if size else None

    def spend(self, messages: int, size: int, now: float) -> float:
        """Seconds for which nothing more should be read from the client."""
        wait = self._messages.spend(messages, now) if self._messages is not None and messages else 0.0
        return max(wait, self._bytes.spend(size, now)) if self._bytes is not None else wait
