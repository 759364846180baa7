"""Packets that a server sends, as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broker.protocol.constants import CONNECT_RETURN, PUBREL, V5, V31, Prop, Reason
from broker.protocol.properties import write_block
from broker.protocol.properties import write_varint as varint

PINGRESP = b"\xd0\x00"


def expiry_property(seconds: int) -> bytes:
    """Message Expiry Interval."""
    return b"\x02" + seconds.to_bytes(4, "big")


def topic_alias_property(alias: int) -> bytes:
    """Topic Alias."""
    return b"\x23" + alias.to_bytes(2, "big")


def subscription_id_property(identifier: int) -> bytes:
    """Subscription Identifier."""
    return b"\x0b" + varint(identifier)


def publish(
    topic: str,
    payload: bytes,
    qos: int,
    retain: bool,
    version: int,
    properties: bytes = b"",
    extra: bytes = b"",
    dup: bool = False,
) -> tuple[bytes, bytes]:
    """PUBLISH as (head, tail), between which the packet identifier goes for QoS above 0.

    ``extra`` are wire-form properties put before ``properties``; both are left out below version 5.
    """
    name = topic.encode()
    tail = payload
    if version == V5:
        block = extra + properties
        tail = varint(len(block)) + block + payload
    length = 2 + len(name) + (2 if qos else 0) + len(tail)
    first = 0x30 | dup << 3 | qos << 1 | retain
    return b"".join((first.to_bytes(1, "big"), varint(length), len(name).to_bytes(2, "big"), name)), tail


def connack(version: int, session_present: bool, reason: int, properties: Mapping[int, Any]) -> bytes:
    """CONNACK; a refusal tells of no session [MQTT-3.2.2-6]. Below 5 the reason becomes a return code.

    3.1 does not know Session Present: that bit is reserved there.
    """
    present = b"\x01" if session_present and not reason and version != V31 else b"\x00"
    if version != V5:
        return b"\x20\x02" + present + CONNECT_RETURN.get(Reason(reason), 3).to_bytes(1, "big")
    body = present + reason.to_bytes(1, "big") + write_block(properties)
    return b"\x20" + varint(len(body)) + body


def disconnect(reason: int, properties: Mapping[int, Any]) -> bytes:
    """DISCONNECT, which a server sends to clients of version 5 only."""
    if not properties:
        return b"\xe0\x01" + reason.to_bytes(1, "big")
    body = reason.to_bytes(1, "big") + write_block(properties)
    return b"\xe0" + varint(len(body)) + body


def auth(reason: int, properties: Mapping[int, Any]) -> bytes:
    """AUTH (MQTT 5)."""
    body = reason.to_bytes(1, "big") + write_block(properties)
    return b"\xf0" + varint(len(body)) + body


def ack(kind: int, version: int, packet_id: int, reason: int = 0, words: str = "") -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP; the reason is told to version 5 where it is not success.

    ``words`` are the reason string.
    """
    first = (kind << 4 | (2 if kind == PUBREL else 0)).to_bytes(1, "big")
    if words and version == V5:
        body = packet_id.to_bytes(2, "big") + reason.to_bytes(1, "big") + _reason_block(words)
        return first + varint(len(body)) + body
    if reason and version == V5:
        return first + b"\x03" + packet_id.to_bytes(2, "big") + reason.to_bytes(1, "big")
    return first + b"\x02" + packet_id.to_bytes(2, "big")


def _reason_block(words: str) -> bytes:
    return write_block({Prop.REASON_STRING: words} if words else {})


def suback(version: int, packet_id: int, reasons: Sequence[int], words: str = "") -> bytes:
    """SUBACK; 3.1.1 knows a single failure, 0x80 [MQTT-3.9.3-2]. ``words`` are the reason string."""
    if version == V5:
        body = packet_id.to_bytes(2, "big") + _reason_block(words) + bytes(reasons)
    else:
        body = packet_id.to_bytes(2, "big") + bytes(min(reason, 0x80) for reason in reasons)
    return b"\x90" + varint(len(body)) + body


def unsuback(version: int, packet_id: int, reasons: Sequence[int]) -> bytes:
    """UNSUBACK, with a reason code a filter in version 5 only."""
    if version != V5:
        return b"\xb0\x02" + packet_id.to_bytes(2, "big")
    body = packet_id.to_bytes(2, "big") + b"\x00" + bytes(reasons)
    return b"\xb0" + varint(len(body)) + body


def publish_run(topic: str, payloads: bytes, size: int) -> tuple[bytes, int]:
    """QoS 0 PUBLISH packets of 3.1.1 for payloads of ``size`` bytes each, and how long the head of each is."""
    name = topic.encode()
    head = b"\x30" + varint(2 + len(name) + size) + len(name).to_bytes(2, "big") + name
    return head + head.join([payloads[at : at + size] for at in range(0, len(payloads), size)]), len(head)


def publish_each(topic: str, payloads: Sequence[bytes], version: int) -> bytes:
    """QoS 0 PUBLISH packets of one topic without properties, one behind the other."""
    name = topic.encode()
    rest = len(name).to_bytes(2, "big") + name + (b"\x00" if version == V5 else b"")
    heads: dict[int, bytes] = {}
    parts: list[bytes] = []
    for payload in payloads:
        size = len(payload)
        head = heads.get(size)
        if head is None:
            head = heads[size] = b"\x30" + varint(len(rest) + size) + rest
        parts += (head, payload)
    return b"".join(parts)


def convert_run(
    frames: bytes, count: int, size: int, payload_at: int, from_version: int, to_version: int
) -> bytes:
    """QoS 0 PUBLISH packets of equal head in another version's form: with or without the empty properties."""
    if (from_version == V5) == (to_version == V5):
        return frames
    names = 1
    while frames[names] & 128:
        names += 1
    names += 1
    after_topic = names + 2 + int.from_bytes(frames[names : names + 2], "big")
    payload_size = size - payload_at
    empty = b"\x00" if to_version == V5 else b""
    length = after_topic - names + len(empty) + payload_size
    head = b"\x30" + varint(length) + frames[names:after_topic] + empty
    return b"".join(head + frames[at + payload_at : at + size] for at in range(0, count * size, size))
