"""Acknowledgements that leave in the order of what they acknowledge, however the disk takes its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from broker.message import Message
from broker.subscriptions import Route

_MANY = 64
"""Groups that wait before the publisher is paused."""


class AckGroup:
    """The acknowledgements of one chunk; ``batch`` is what it published, None where it cannot be refused any more.

    ``repeats`` are the places of those for messages that came again: they were taken the first time.
    """

    __slots__ = ("acks", "batch", "ready", "repeats", "then")

    def __init__(
        self,
        acks: list[bytes],
        batch: Sequence[tuple[Message, Route]] | None = None,
        repeats: Sequence[int] = (),
    ) -> None:
        self.acks = acks
        self.batch = batch
        self.repeats = repeats
        self.ready = False
        self.then: list[Callable[[], None]] = []
        """Who else waits for what the group waits for."""

    def is_safe(self) -> None:
        """Nothing of what the group acknowledges can be lost any more."""
        self.ready = True
        then, self.then = self.then, []
        for each in then:
            each()

    def take_refusable(self) -> AckGroup:
        """Take out what can be refused."""
        refusable = AckGroup(self.acks, self.batch)
        refusable.ready = self.ready
        if self.repeats:
            refusable.acks = [ack for number, ack in enumerate(self.acks) if number not in self.repeats]
        self.acks = [self.acks[number] for number in self.repeats]
        self.batch, self.repeats = None, ()
        return refusable


class AckQueue:
    """Groups in order of arrival, as [MQTT-4.6.0-2] asks of clients: none passes one that still waits."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[AckGroup] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether so many wait that the publisher should, too."""
        return len(self._waiting) >= _MANY

    @property
    def relaxed(self) -> bool:
        """Whether the publisher may go on."""
        return len(self._waiting) < _MANY // 2

    def add(self, group: AckGroup) -> None:
        """Put a group behind the others."""
        self._waiting.append(group)

    def take_refusable(self) -> list[AckGroup]:
        """Take out what waits for messages that can still be refused; all else keeps its place."""
        taken = [group.take_refusable() for group in self._waiting if group.batch is not None]
        self._waiting = deque(group for group in self._waiting if group.acks)
        return taken

    def take_ready(self) -> list[bytes]:
        """Take out what may be sent now."""
        waiting = self._waiting
        found: list[bytes] = []
        while waiting and waiting[0].ready:
            found += waiting.popleft().acks
        return found
