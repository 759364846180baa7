"""Acknowledgements that leave in the order of what they acknowledge, however the disk takes its time."""

from __future__ import annotations

from collections import deque

_MANY = 64
"""Groups that wait before the publisher is paused."""


class AckGroup:
    """The acknowledgements of one chunk."""

    __slots__ = ("acks", "ready")

    def __init__(self, acks: list[bytes]) -> None:
        self.acks = acks
        self.ready = False


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

    def take_ready(self) -> list[bytes]:
        """Take out what may be sent now."""
        waiting = self._waiting
        found: list[bytes] = []
        while waiting and waiting[0].ready:
            found += waiting.popleft().acks
        return found
