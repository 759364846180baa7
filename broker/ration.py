"""How far a client's packets go within its rate, and what is beyond; pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

from broker.protocol.constants import PUBREL
from broker.protocol.packets import Ack, AckRun, PingReq, Publish, PublishRun

_OBJECT = 250
"""Bytes that a decoded packet takes beside its payload, about."""


class Budget:
    """The memory of a node for what is beyond its clients' rates, in bytes."""

    __slots__ = ("most", "used")

    def __init__(self, most: int = 16 << 20) -> None:
        self.most = most
        self.used = 0


class Waiting:
    """What one client sent beyond its rate, in order."""

    __slots__ = ("_budget", "_cost", "_packets")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._cost = 0
        self._packets: deque[Any] = deque()

    def __bool__(self) -> bool:
        return bool(self._packets)

    def put(self, packets: list[Any]) -> bool:
        """Keep packets behind those that wait; False where there is no memory for them."""
        cost = _cost(packets)
        if self._budget.used + cost > self._budget.most:
            return False
        self._packets.extend(packets)
        self._count(cost)
        return True

    def take(self, messages: float, size: float) -> list[Any]:
        """Take what an allowance of so many messages and payload bytes affords; see :func:`ration`."""
        found = _take(self._packets, messages, size)
        self._count(-min(_cost(found), self._cost) if self._packets else -self._cost)
        return found

    def take_all(self) -> list[Any]:
        """Take everything."""
        found = list(self._packets)
        self._packets.clear()
        self._count(-self._cost)
        return found

    def _count(self, change: int) -> None:
        self._cost += change
        self._budget.used += change


def ration(arrived: list[Any], messages: float, size: float) -> tuple[list[Any], list[Any]]:
    """(what may be worked on now, what has to wait), for an allowance of so many messages and payload bytes.

    A run of messages is split where need be. A message passes as long as any byte is left, and leaves a debt where it
    is larger: else the largest would never pass.
    """
    packets = deque(arrived)
    found = _take(packets, messages, size)
    if not packets:
        return arrived, []
    overtaking, later = overtakes(packets)
    return found + overtaking, later


def overtakes(packets: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """(what does not wait behind messages, what does).

    PINGREQ and the acknowledgements of what the client was sent are about the other direction; all else keeps its
    place.
    """
    first: list[Any] = []
    rest: list[Any] = []
    for packet in packets:
        kind = packet.__class__
        passes = kind is PingReq or ((kind is AckRun or kind is Ack) and packet.kind != PUBREL)
        (first if passes else rest).append(packet)
    return first, rest


def payload_size(packets: Iterable[Any]) -> int:
    """The payload bytes of all messages among packets."""
    found = 0
    for packet in packets:
        kind = packet.__class__
        if kind is PublishRun:
            found += packet.count * (packet.size - packet.payload_at)
        elif kind is Publish:
            found += len(packet.payload)
    return found


def count_messages(packets: Iterable[Any]) -> int:
    """How many messages there are among packets."""
    return sum(
        packet.count if packet.__class__ is PublishRun else packet.__class__ is Publish for packet in packets
    )


def _cost(packets: list[Any]) -> int:
    return len(packets) * _OBJECT + payload_size(packets)


def _take(packets: deque[Any], messages: float, size: float) -> list[Any]:
    """Take packets from the front up to the first message that is beyond the allowance."""
    found: list[Any] = []
    while packets:
        packet = packets[0]
        kind = packet.__class__
        if kind is PublishRun:
            payload = packet.size - packet.payload_at
            passing = _passing(packet.count, payload, messages, size)
            if passing < packet.count:
                if passing:
                    first, packets[0] = packet.split(passing)
                    found.append(first)
                break
            messages -= passing
            size -= passing * payload
        elif kind is Publish:
            if messages < 1 or size <= 0:
                break
            messages -= 1
            size -= len(packet.payload)
        found.append(packets.popleft())
    return found


def _passing(count: int, payload: int, messages: float, size: float) -> int:
    """How many of a run's messages may pass."""
    if size <= 0:
        return 0
    by_size = math.ceil(size / payload) if payload and size < math.inf else count
    return int(min(count, by_size, max(messages, 0.0)))
