"""A token bucket: what a rate limit is made of."""

from __future__ import annotations

import math

LONGEST = 5.0
"""Seconds for which a client waits at most for what it has sent in one read, where that is taken as a whole."""

_MANY_CLIENTS = 10_000
"""Clients whose meters are remembered after they left."""


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

    def level(self, now: float) -> float:
        """What is in store; below 0 for a debt."""
        self._refill(now)
        return self._level

    def until(self, amount: float, now: float) -> float:
        """The seconds until so much is in store."""
        return max(0.0, (amount - self.level(now)) / self._rate)

    def lower(self, level: float, now: float) -> None:
        """Have no more than this in store."""
        self._level = min(self.level(now), level)

    def _refill(self, now: float) -> None:
        if now > self._since:
            self._level = min(self.burst, self._level + (now - self._since) * self._rate)
            self._since = now


class Meter:
    """What one client may send: messages and bytes a second, 0 for no limit; a second's worth at once.

    ``whole`` where all that came with one read is taken at once, as a debt that is waited for no longer than
    :data:`LONGEST`; else messages have to wait until there is room for them.
    """

    __slots__ = ("_bytes", "_messages", "whole")

    def __init__(self, messages: float, size: float, now: float, whole: bool = False) -> None:
        self._messages = Bucket(messages, now) if messages else None
        self._bytes = Bucket(size, now) if size else None
        self.whole = whole

    def allowance(self, now: float) -> tuple[float, float]:
        """How many messages, and how many bytes, may pass now."""
        messages, size = self._messages, self._bytes
        return (
            messages.level(now) if messages is not None else math.inf,
            size.level(now) if size is not None else math.inf,
        )

    def spend(self, messages: int, size: int, now: float) -> float:
        """Take messages and bytes, which may be negative to give some back; the seconds until the debt is paid."""
        wait = self._messages.spend(messages, now) if self._messages is not None else 0.0
        if self._bytes is not None:
            wait = max(wait, self._bytes.spend(size, now))
        return min(wait, LONGEST) if self.whole else wait

    def wait(self, now: float) -> tuple[float, str]:
        """The seconds until a message may pass, and the limit that it waits for: message_rate or byte_rate."""
        messages = self._messages.until(1.0, now) if self._messages is not None else 0.0
        size = self._bytes.until(0.0, now) if self._bytes is not None else 0.0
        return (messages, "message_rate") if messages > size or self._bytes is None else (size, "byte_rate")

    def is_full(self, now: float) -> bool:
        """Whether a new meter would be the same."""
        buckets = (self._messages, self._bytes)
        return all(bucket is None or bucket.is_full(now) for bucket in buckets)

    def inherit(self, other: Meter, now: float) -> None:
        """Have no more in store than another meter of the same client, whatever its rates are."""
        for own, known in ((self._messages, other._messages), (self._bytes, other._bytes)):
            if own is not None and known is not None:
                own.lower(known.level(now), now)


class Meters:
    """The meters of clients that have left: who comes back finds the own one as if it had stayed."""

    def __init__(self) -> None:
        self._left: dict[str, Meter] = {}

    def __len__(self) -> int:
        return len(self._left)

    def keep(self, client_id: str, meter: Meter, now: float) -> None:
        """The client has left; where there are too many, those that are full again go, else the oldest."""
        if len(self._left) >= _MANY_CLIENTS:
            full = [each for each, known in self._left.items() if known.is_full(now)]
            for each in full or list(self._left)[: _MANY_CLIENTS // 10]:
                del self._left[each]
        self._left.pop(client_id, None)
        self._left[client_id] = meter

    def take(self, client_id: str) -> Meter | None:
        """The client is here again: its meter, where one is known."""
        return self._left.pop(client_id, None)
