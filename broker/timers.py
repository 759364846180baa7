"""Two ways to wait without a timer an object: a wheel for what is checked often, a heap for what is rare."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Wheel(Generic[K]):
    """Items due at about a time, in buckets of one second.

    An item that turns out not to be due (a device that has spoken meanwhile) is simply scheduled again, so
    nothing is touched when it speaks.
    """

    __slots__ = ("_buckets", "_reached")

    def __init__(self, now: float) -> None:
        self._buckets: dict[int, set[K]] = {}
        self._reached = int(now)

    def schedule(self, item: K, due: float) -> int:
        """Have the item come back from :meth:`due` within a second after ``due``; the slot to cancel it by."""
        slot = max(int(due), self._reached) + 1
        self._buckets.setdefault(slot, set()).add(item)
        return slot

    def cancel(self, item: K, slot: int) -> None:
        """Forget an item, if it still waits in its slot."""
        bucket = self._buckets.get(slot)
        if bucket is not None:
            bucket.discard(item)
            if not bucket:
                del self._buckets[slot]

    def due(self, now: float) -> list[K]:
        """Take out all items whose time has come."""
        until = int(now)
        if until - self._reached > len(self._buckets):
            passed = [second for second in self._buckets if second <= until]
        else:
            passed = [second for second in range(self._reached + 1, until + 1) if second in self._buckets]
        self._reached = max(self._reached, until)
        found: list[K] = []
        for second in passed:
            found.extend(self._buckets.pop(second))
        return found


class Agenda(Generic[K, T]):
    """Values due at a time, at most one a key; a later entry for the key replaces the earlier."""

    __slots__ = ("_entries", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._entries: dict[K, tuple[int, T]] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: T, due: float) -> None:
        """Have ``value`` come back from :meth:`due` at ``due``."""
        self._serial += 1
        self._entries[key] = (self._serial, value)
        heapq.heappush(self._heap, (due, self._serial, key))

    def cancel(self, key: K) -> T | None:
        """Forget a key; its value if it was waiting."""
        entry = self._entries.pop(key, None)
        return entry[1] if entry else None

    def due(self, now: float) -> list[T]:
        """Take out all values whose time has come, the earliest first."""
        found: list[T] = []
        while self._heap and self._heap[0][0] <= now:
            _, serial, key = heapq.heappop(self._heap)
            entry = self._entries.get(key)
            if entry and entry[0] == serial:
                del self._entries[key]
                found.append(entry[1])
        return found
