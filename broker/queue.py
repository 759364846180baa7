"""What waits for one client: its front in memory, and the rest, where the session is durable, on disk only."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from broker.limits import Limits
from broker.message import Delivery
from broker.stats import Stats

LOAD = 256
"""Messages that are read from disk at a time."""

_NONE: deque[Delivery] = deque()
# Queues that are on disk only share this one, which stays empty: a deque takes 600 bytes.

_IN_MEMORY = 256
_BYTES_IN_MEMORY = 1 << 20
"""The front of a durable session's queue that is kept in memory: the more of the two bounds it."""


class Queue:
    """First in, first out. What is beyond a bound is counted here, and known to the disk alone."""

    __slots__ = (
        "_asked_for",
        "_deliveries",
        "_memory_bytes",
        "_on_disk",
        "_stats",
        "bytes",
        "first_on_disk",
        "told",
    )

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._deliveries = _NONE
        self._memory_bytes = 0
        self._on_disk = 0
        self._asked_for = 0
        self.bytes = 0
        """Payload bytes of all that waits."""
        self.first_on_disk = 0
        """The number of the first delivery that is on disk only, if any is."""
        self.told = ""
        """The limit by which messages are dropped, where somebody was told of it."""

    def __len__(self) -> int:
        return len(self._deliveries) + self._on_disk

    @property
    def on_disk(self) -> int:
        """How many are on disk only."""
        return self._on_disk

    def in_memory(self) -> Sequence[Delivery]:
        """The front, for a look at it."""
        return self._deliveries

    def head(self) -> Delivery | None:
        """The next one, where it is in memory."""
        return self._deliveries[0] if self._deliveries else None

    def has_room(self, size: int, limits: Limits) -> bool:
        """Whether a payload of so many bytes is within the limits."""
        total = limits.queue_total_bytes
        return (
            len(self) < limits.queue_max_messages
            and self.bytes + size <= limits.queue_max_bytes
            and (not total or self._stats.queued_bytes + size <= total)
        )

    def count_dropped(self, size: int, limits: Limits) -> str:
        """A payload of so many bytes is not within the limits: count it by the limit, whose key is returned."""
        stats = self._stats
        if len(self) >= limits.queue_max_messages:
            stats.limited_queue_max_messages += 1
            return "queue_max_messages"
        if self.bytes + size > limits.queue_max_bytes:
            stats.limited_queue_max_bytes += 1
            return "queue_max_bytes"
        stats.limited_queue_total_bytes += 1
        return "queue_total_bytes"

    def put(self, delivery: Delivery, durable: bool) -> None:
        """Append; ``durable`` where the disk has it, too."""
        size = len(delivery[0].payload)
        self._count(1, size)
        full = len(self._deliveries) >= _IN_MEMORY or self._memory_bytes >= _BYTES_IN_MEMORY
        if durable and (self._on_disk or full):
            if not self._on_disk:
                self.first_on_disk = delivery[4]
            self._on_disk += 1
        else:
            self._memory_bytes += size
            if self._deliveries is _NONE:
                self._deliveries = deque()
            self._deliveries.append(delivery)

    def take(self) -> Delivery:
        """Take the next one out of memory; IndexError where none is there."""
        delivery = self._deliveries.popleft()
        size = len(delivery[0].payload)
        self._memory_bytes -= size
        self._count(-1, -size)
        return delivery

    def _count(self, messages: int, size: int) -> None:
        self.bytes += size
        self._stats.queued_messages += messages
        self._stats.queued_bytes += size

    def forget(self) -> None:
        """Nobody waits for any of it."""
        self._count(-len(self), -self.bytes)
        self._deliveries = _NONE
        self._memory_bytes = self._on_disk = 0

    # -- the part on disk --------------------------------------------------------------------------------

    def found(self, count: int, size: int, first: int) -> None:
        """An earlier process left so many, with so many payload bytes, on disk."""
        self._on_disk = count
        self.first_on_disk = first
        self._count(count, size)

    @property
    def wants_more(self) -> bool:
        """Whether it is time to read from disk: the caller then does so, and says :meth:`asked`."""
        return bool(
            self._on_disk
            and not self._asked_for
            and len(self._deliveries) < _IN_MEMORY // 2
            and self._memory_bytes < _BYTES_IN_MEMORY
        )

    def asked(self) -> None:
        """What is on disk now is being read, at most :data:`LOAD`."""
        self._asked_for = self._on_disk

    def loaded(self, deliveries: Sequence[Delivery], complete: bool) -> None:
        """What was read, to be taken from the front as if it had been put; ``complete`` where no more was there."""
        gone = self._asked_for if complete else len(deliveries)
        self._asked_for = 0
        self._on_disk -= gone
        if self._deliveries is _NONE:
            self._deliveries = deque()
        self._deliveries.extend(deliveries)
        self._memory_bytes += sum(len(delivery[0].payload) for delivery in deliveries)
        # What a damaged database could not give is not waited for.
        self._count(len(deliveries) - gone, 0)
        if not self._on_disk:
            self._count(0, self._memory_bytes - self.bytes)
        if deliveries:
            self.first_on_disk = deliveries[-1][4] + 1
