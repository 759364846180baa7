"""A client's bytes as packets: one pass over each chunk, whatever number of packets it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.protocol.constants import (
    AUTH,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    V5,
    V31,
    Prop,
)
from broker.protocol.decode_connect import read_connect, read_version
from broker.protocol.errors import MalformedPacket, ProtocolError
from broker.protocol.packets import (
    Ack,
    AckRun,
    Auth,
    Disconnect,
    PingReq,
    Publish,
    PublishRun,
    Subscribe,
    Subscription,
    Unsubscribe,
)
from broker.protocol.properties import forwarded, read_block, read_text, read_varint
from broker.protocol.topics import split_share, validate_filter

_ACKS = frozenset({0x40, 0x50, 0x62, 0x70})
_PUBLISH_REASONS = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_RELEASE_REASONS = frozenset({0x00, 0x92})
_ACK_REASONS = {
    PUBACK: _PUBLISH_REASONS,
    PUBREC: _PUBLISH_REASONS,
    PUBREL: _RELEASE_REASONS,
    PUBCOMP: _RELEASE_REASONS,
}
_DISCONNECT_REASONS = frozenset(
    {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}
)
_AUTH_REASONS = frozenset({0x18, 0x19})
"""Success is the server's to say [MQTT5, table 3-11]."""


class Decoder:
    """Turns the chunks of one connection into packets.

    ``version`` is 0 until CONNECT told it. Once ``failed``, all further bytes are ignored. Until
    :meth:`trust`, or CONNECT without enhanced authentication, packets are bounded by ``max_connect_size``.
    """

    __slots__ = ("_begun", "_max", "_max_trusted", "_needed", "failed", "version")

    def __init__(self, max_packet_size: int, max_connect_size: int | None = None) -> None:
        self._max_trusted = max_packet_size
        self._max = min(max_packet_size, max_connect_size or max_packet_size)
        self._begun: bytearray | None = None
        self._needed = 0
        self.version = 0
        self.failed = False

    def trust(self) -> None:
        """The client was let in: its packets may be as large as any."""
        self._max = self._max_trusted

    def feed(self, chunk: bytes) -> list[Any]:
        """The packets that this chunk completes, in order; on bad input a ProtocolError is the last one."""
        if self.failed:
            return []
        begun = self._begun
        if begun is not None:
            if len(begun) + len(chunk) < self._needed:
                # One buffer that grows: a list of pieces would cost a packet sent byte by byte many times its size.
                begun += chunk
                return []
            chunk = b"".join((begun, chunk))
            self._begun = None
        found: list[Any] = []
        try:
            rest = self._walk(chunk, found)
        except ProtocolError as error:
            self.failed = True
            # Its traceback would keep this chunk alive, and the list that the error is put into.
            found.append(error.with_traceback(None))
            return found
        if rest < len(chunk):
            self._begun = bytearray(chunk[rest:])
        return found

    def _walk(self, chunk: bytes, found: list[Any]) -> int:
        """Append the complete packets to ``found``; where the first incomplete one begins."""
        version = self.version
        end = len(chunk)
        at = 0
        while at < end:
            if at + 2 > end:
                self._needed = 2
                return at
            first = chunk[at]
            length = chunk[at + 1]
            start = at + 2
            if length > 127:
                header = _long_length(chunk, at)
                if header is None:
                    self._needed = end - at + 1
                    return at
                length, start = header
            stop = start + length
            if stop - at > self._max:
                raise ProtocolError("a packet above the Maximum Packet Size", 0x95)
            if stop > end:
                if not version:
                    _check_first(first)
                self._needed = stop - at
                return at
            if not version:
                _check_first(first)
                body = chunk[start:stop]
                self.version = version = read_version(body)
                connect = read_connect(body, version)
                if Prop.AUTHENTICATION_METHOD not in connect.properties:
                    self._max = self._max_trusted
                found.append(connect)
            elif first == 0x30:
                at = _publish_run(chunk, at, start, stop, version, found)
                continue
            elif first >> 4 == 3:
                found.append(_publish(chunk, first, start, stop, version))
            elif length == 2 and first in _ACKS:
                at = _ack_run(chunk, at, found)
                continue
            else:
                found.append(_other(first, chunk[start:stop], version))
            at = stop
        return at


def _check_first(first: int) -> None:
    if first >> 4 != CONNECT:
        raise ProtocolError("the first packet is not CONNECT")
    if first & 15:
        raise MalformedPacket("reserved flags of CONNECT")


def _long_length(chunk: bytes, at: int) -> tuple[int, int] | None:
    """(remaining length, where it ends) of a length of two to four bytes; None where it is cut."""
    header = chunk[at + 1 : at + 5]
    if len(header) < 4 and min(header) > 127:
        return None
    length, size = read_varint(header, 0)
    return length, at + 1 + size


def _publish_run(chunk: bytes, at: int, start: int, stop: int, version: int, found: list[Any]) -> int:
    """Take a QoS 0 PUBLISH and all that follow with the same head at once; where they end."""
    topic_at = start + 2
    payload_at = topic_at + (chunk[start] << 8 | chunk[start + 1]) if topic_at <= stop else stop + 1
    topic = chunk[topic_at:payload_at]
    if version == V5:
        plain = payload_at < stop and not chunk[payload_at]
        payload_at += 1
    else:
        plain = payload_at <= stop
    if not plain or not topic:
        found.append(_publish(chunk, 0x30, start, stop, version))
        return stop
    head = chunk[at:payload_at]
    size = stop - at
    following = stop
    startswith = chunk.startswith
    last = len(chunk) - size
    while following <= last and startswith(head, following):
        following += size
    found.append(PublishRun(topic, chunk[at:following], (following - at) // size, size, payload_at - at))
    return following


def _publish(chunk: bytes, first: int, start: int, stop: int, version: int) -> Publish:
    qos = first >> 1 & 3
    dup = first & 8 != 0
    if qos == 3 or (dup and not qos):
        raise MalformedPacket("flags of PUBLISH")
    at = start + 2
    if at > stop:
        raise MalformedPacket("PUBLISH is cut")
    topic_end = at + (chunk[start] << 8 | chunk[start + 1])
    packet_id = 0
    payload_at = topic_end
    if qos:
        payload_at += 2
        if payload_at > stop:
            raise MalformedPacket("PUBLISH is cut")
        packet_id = chunk[topic_end] << 8 | chunk[topic_end + 1]
        if not packet_id:
            raise ProtocolError("packet identifier 0")
    elif topic_end > stop:
        raise MalformedPacket("PUBLISH is cut")
    topic = chunk[at:topic_end]
    if version != V5 or (payload_at < stop and not chunk[payload_at]):
        if not topic:
            raise ProtocolError("PUBLISH without a topic name")
        payload = chunk[payload_at + (version == V5) : stop]
        return Publish(topic, payload, qos, first & 1 == 1, dup, packet_id, b"", None, 0)
    return _publish_with_properties(chunk[payload_at:stop], topic, qos, first & 1 == 1, dup, packet_id)


def _publish_with_properties(
    rest: bytes, topic: bytes, qos: int, retain: bool, dup: bool, packet_id: int
) -> Publish:
    properties, start, end = read_block(rest, 0, 3)
    if Prop.SUBSCRIPTION_IDENTIFIER in properties:
        raise ProtocolError("a client's PUBLISH with a Subscription Identifier")
    alias = properties.get(Prop.TOPIC_ALIAS, 0)
    if not topic and not alias:
        raise ProtocolError("PUBLISH with neither topic name nor alias")
    return Publish(
        topic,
        rest[end:],
        qos,
        retain,
        dup,
        packet_id,
        forwarded(properties, rest[start:end]),
        properties.get(Prop.MESSAGE_EXPIRY_INTERVAL),
        alias,
    )


def _ack_run(chunk: bytes, at: int, found: list[Any]) -> int:
    """Take an acknowledgement and all of the same kind that follow; where they end."""
    head = chunk[at : at + 2]
    startswith = chunk.startswith
    packet_ids: list[int] = []
    last = len(chunk) - 4
    start = at
    while at <= last and startswith(head, at):
        packet_ids.append(chunk[at + 2] << 8 | chunk[at + 3])
        at += 4
    if 0 in packet_ids:
        valid = packet_ids[: packet_ids.index(0)]
        if valid:
            found.append(AckRun(chunk[start] >> 4, valid))
        raise ProtocolError("packet identifier 0")
    found.append(AckRun(chunk[start] >> 4, packet_ids))
    return at


def _other(first: int, body: bytes, version: int) -> Any:
    kind = first >> 4
    reader = _READERS.get(kind)
    if reader is None:
        if kind == CONNECT:
            raise ProtocolError("a second CONNECT")
        if kind == 0:
            raise MalformedPacket("packet type 0")
        raise ProtocolError("a packet that only servers send")
    # What 3.1 sends again has the DUP flag [MQTT 3.1, 2.1]; later versions keep it for PUBLISH.
    flags = first & 7 if version == V31 else first & 15
    if flags != _FLAGS.get(kind, 0):
        raise MalformedPacket("reserved flags")
    return reader(body, version, kind)


def _packet_id(body: bytes) -> int:
    if len(body) < 2:
        raise MalformedPacket("a packet identifier is cut")
    packet_id = body[0] << 8 | body[1]
    if not packet_id:
        raise ProtocolError("packet identifier 0")
    return packet_id


def _read_ack(body: bytes, version: int, kind: int) -> Ack:
    packet_id = _packet_id(body)
    if len(body) == 2:
        return Ack(kind, packet_id, 0, {})
    if version != V5:
        raise MalformedPacket("an acknowledgement of a wrong length")
    reason = body[2]
    if reason not in _ACK_REASONS[kind]:
        raise ProtocolError("a reason code that does not belong in this packet")
    if len(body) == 3:
        return Ack(kind, packet_id, reason, {})
    properties, _, end = read_block(body, 3, kind)
    if end != len(body):
        raise MalformedPacket("bytes after the end")
    return Ack(kind, packet_id, reason, properties)


def _read_subscribe(body: bytes, version: int, kind: int) -> Subscribe:
    packet_id = _packet_id(body)
    at = 2
    properties: dict[int, Any] = {}
    if version == V5:
        properties, _, at = read_block(body, at, kind)
    wanted: list[Subscription] = []
    while at < len(body):
        topic_filter, at = _topic_filter(body, at)
        if at >= len(body):
            raise MalformedPacket("subscription options are missing")
        wanted.append(_subscription(topic_filter, body[at], version))
        at += 1
    if not wanted:
        raise ProtocolError("SUBSCRIBE without a topic filter")
    identifier = properties.get(Prop.SUBSCRIPTION_IDENTIFIER, 0)
    return Subscribe(packet_id, wanted, identifier, properties)


def _topic_filter(body: bytes, at: int) -> tuple[str, int]:
    text, at = read_text(body, at)
    validate_filter(split_share(text)[1])
    return text, at


def _subscription(topic_filter: str, options: int, version: int) -> Subscription:
    if options & (0xC0 if version == V5 else 0xFC):
        raise MalformedPacket("reserved subscription options")
    qos = options & 3
    if qos == 3:
        raise ProtocolError("a subscription of QoS 3")
    if version != V5:
        return Subscription(topic_filter, qos)
    retain_handling = options >> 4
    if retain_handling == 3:
        raise ProtocolError("retain handling 3")
    no_local = options & 4 != 0
    if no_local and topic_filter.startswith("$share/"):
        raise ProtocolError("No Local on a shared subscription")
    return Subscription(topic_filter, qos, no_local, options & 8 != 0, retain_handling)


def _read_unsubscribe(body: bytes, version: int, kind: int) -> Unsubscribe:
    packet_id = _packet_id(body)
    at = 2
    properties: dict[int, Any] = {}
    if version == V5:
        properties, _, at = read_block(body, at, kind)
    filters: list[str] = []
    while at < len(body):
        topic_filter, at = _topic_filter(body, at)
        filters.append(topic_filter)
    if not filters:
        raise ProtocolError("UNSUBSCRIBE without a topic filter")
    return Unsubscribe(packet_id, filters, properties)


def _read_pingreq(body: bytes, version: int, kind: int) -> PingReq:
    if body:
        raise MalformedPacket("PINGREQ with a body")
    return PingReq()


def _read_disconnect(body: bytes, version: int, kind: int) -> Disconnect:
    if version != V5:
        if body:
            raise MalformedPacket("DISCONNECT with a body")
        return Disconnect(0, {})
    reason, properties = _reason_and_properties(body, kind, _DISCONNECT_REASONS)
    if Prop.SERVER_REFERENCE in properties:
        raise ProtocolError("a client's DISCONNECT with a Server Reference")
    return Disconnect(reason, properties)


def _read_auth(body: bytes, version: int, kind: int) -> Auth:
    if version != V5:
        raise MalformedPacket("packet type 15")
    auth = Auth(*_reason_and_properties(body, kind, _AUTH_REASONS))
    if Prop.AUTHENTICATION_METHOD not in auth.properties:
        raise ProtocolError("AUTH without an authentication method")
    return auth


def _reason_and_properties(body: bytes, kind: int, reasons: frozenset[int]) -> tuple[int, dict[int, Any]]:
    """Both may be left out: no reason means success, no property length no properties."""
    reason = body[0] if body else 0
    if reason not in reasons:
        raise ProtocolError("a reason code that does not belong in this packet")
    if len(body) < 2:
        return reason, {}
    properties, _, end = read_block(body, 1, kind)
    if end != len(body):
        raise MalformedPacket("bytes after the end")
    return reason, properties


_FLAGS = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}

_READERS: dict[int, Callable[[bytes, int, int], Any]] = {
    PUBACK: _read_ack,
    PUBREC: _read_ack,
    PUBREL: _read_ack,
    PUBCOMP: _read_ack,
    SUBSCRIBE: _read_subscribe,
    UNSUBSCRIBE: _read_unsubscribe,
    PINGREQ: _read_pingreq,
    DISCONNECT: _read_disconnect,
    AUTH: _read_auth,
}
