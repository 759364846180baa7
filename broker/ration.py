"""How far a client's packets go within its rate; pure."""

from __future__ import annotations

import math
from typing import Any

from broker.protocol.constants import PUBREL
from broker.protocol.packets import Ack, AckRun, PingReq, Publish, PublishRun


def ration(arrived: list[Any], messages: float, size: float) -> tuple[list[Any], list[Any]]:
    """(what may be worked on now, what has to wait), for an allowance of so many messages and payload bytes.

    A run of messages is split where need be. A message passes as long as any byte is left, and leaves a debt where it
    is larger: else the largest would never pass. PINGREQ and the acknowledgements of what the client was sent do not
    wait behind its messages: they are about the other direction. All else keeps its place.
    """
    for at, packet in enumerate(arrived):
        kind = packet.__class__
        if kind is PublishRun:
            payload = packet.size - packet.payload_at
            passing = _passing(packet.count, payload, messages, size)
            messages -= passing
            size -= passing * payload
            if passing < packet.count:
                first, rest = _split(packet, passing)
                return _overtaken(arrived[:at] + first, rest + arrived[at + 1 :])
        elif kind is Publish:
            if messages < 1 or size <= 0:
                return _overtaken(arrived[:at], arrived[at:])
            messages -= 1
            size -= len(packet.payload)
    return arrived, []


def payload_size(arrived: list[Any]) -> int:
    """The payload bytes of all messages among packets."""
    found = 0
    for packet in arrived:
        kind = packet.__class__
        if kind is PublishRun:
            found += packet.count * (packet.size - packet.payload_at)
        elif kind is Publish:
            found += len(packet.payload)
    return found


def count_messages(arrived: list[Any]) -> int:
    """How many messages there are among packets."""
    runs = sum(packet.count for packet in arrived if packet.__class__ is PublishRun)
    return runs + sum(packet.__class__ is Publish for packet in arrived)


def _passing(count: int, payload: int, messages: float, size: float) -> int:
    """How many of a run's messages may pass."""
    if size <= 0:
        return 0
    by_size = math.ceil(size / payload) if payload and size < math.inf else count
    return int(min(count, by_size, max(messages, 0.0)))


def _split(run: PublishRun, at: int) -> tuple[list[Any], list[Any]]:
    if not at:
        return [], [run]
    cut = at * run.size
    first = PublishRun(run.topic, run.frames[:cut], at, run.size, run.payload_at)
    return [first], [PublishRun(run.topic, run.frames[cut:], run.count - at, run.size, run.payload_at)]


def _overtaken(now: list[Any], later: list[Any]) -> tuple[list[Any], list[Any]]:
    passing = [packet for packet in later if _overtakes(packet)]
    if passing:
        later = [packet for packet in later if not _overtakes(packet)]
    return now + passing, later


def _overtakes(packet: Any) -> bool:
    kind = packet.__class__
    return kind is PingReq or ((kind is AckRun or kind is Ack) and packet.kind != PUBREL)
