"""Packets as bytes, written and read without the broker's own encoder: what a client sends, what a server answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 3, 4, 5, 6, 7
SUBACK, UNSUBACK, PINGRESP, DISCONNECT, AUTH = 9, 11, 13, 14, 15

_BYTE = {0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A}
_TWO = {0x13, 0x21, 0x22, 0x23}
_FOUR = {0x02, 0x11, 0x18, 0x27}
_BINARY = {0x09, 0x16}


spoken: set[int] = set()
"""The protocol versions that the running test has built CONNECT packets of."""


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, byte = value // 128, value % 128
        out.append(byte | (128 if value else 0))
        if not value:
            return bytes(out)


def binary(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def string(text: str) -> bytes:
    return binary(text.encode())


def prop(identifier: int, value: Any) -> bytes:
    """One property; User Property takes a pair."""
    head = bytes([identifier])
    if identifier in _BYTE:
        return head + bytes([value])
    if identifier in _TWO:
        return head + value.to_bytes(2, "big")
    if identifier in _FOUR:
        return head + value.to_bytes(4, "big")
    if identifier == 0x0B:
        return head + varint(value)
    if identifier in _BINARY:
        return head + binary(value)
    if identifier == 0x26:
        return head + string(value[0]) + string(value[1])
    return head + string(value)


def props(*pairs: tuple[int, Any]) -> bytes:
    """Properties without their length."""
    return b"".join(prop(identifier, value) for identifier, value in pairs)


def block(properties: bytes, version: int) -> bytes:
    """Properties with their length; nothing below version 5."""
    return varint(len(properties)) + properties if version == 5 else b""


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


def connect(
    client_id: str = "c",
    version: int = 4,
    clean: bool = True,
    keep_alive: int = 0,
    properties: bytes = b"",
    will: tuple[str, bytes, int, bool] | None = None,
    will_properties: bytes = b"",
    username: str | None = None,
    password: bytes | None = None,
    flags: int | None = None,
    name: bytes | None = None,
) -> bytes:
    spoken.add(version)
    if flags is None:
        flags = (
            (2 if clean else 0) | (128 if username is not None else 0) | (64 if password is not None else 0)
        )
        if will is not None:
            flags |= 4 | will[2] << 3 | (32 if will[3] else 0)
    if name is None:
        name = b"MQIsdp" if version == 3 else b"MQTT"
    body = binary(name) + bytes([version, flags]) + keep_alive.to_bytes(2, "big") + block(properties, version)
    body += string(client_id)
    if will is not None:
        body += block(will_properties, version) + string(will[0]) + binary(will[1])
    if username is not None:
        body += string(username)
    if password is not None:
        body += binary(password)
    return packet(0x10, body)


def publish(
    topic: str | bytes,
    payload: bytes = b"",
    qos: int = 0,
    packet_id: int = 1,
    version: int = 4,
    retain: bool = False,
    dup: bool = False,
    properties: bytes = b"",
) -> bytes:
    name = topic.encode() if isinstance(topic, str) else topic
    body = (
        binary(name) + (packet_id.to_bytes(2, "big") if qos else b"") + block(properties, version) + payload
    )
    return packet(0x30 | dup << 3 | qos << 1 | retain, body)


def ack(kind: int, packet_id: int, reason: int | None = None, properties: bytes | None = None) -> bytes:
    body = packet_id.to_bytes(2, "big")
    if reason is not None:
        body += bytes([reason])
    if properties is not None:
        body += block(properties, 5)
    return packet(kind << 4 | (2 if kind == PUBREL else 0), body)


def subscribe(
    packet_id: int, wanted: Iterable[tuple[str, int]], version: int = 4, properties: bytes = b""
) -> bytes:
    """``wanted`` has topic filters with their options byte."""
    body = packet_id.to_bytes(2, "big") + block(properties, version)
    return packet(0x82, body + b"".join(string(text) + bytes([options]) for text, options in wanted))


def unsubscribe(packet_id: int, filters: Iterable[str], version: int = 4, properties: bytes = b"") -> bytes:
    body = packet_id.to_bytes(2, "big") + block(properties, version)
    return packet(0xA2, body + b"".join(map(string, filters)))


PINGREQ = b"\xc0\x00"


def disconnect(version: int = 4, reason: int | None = None, properties: bytes | None = None) -> bytes:
    body = b"" if reason is None else bytes([reason])
    if properties is not None:
        body += block(properties, 5)
    return packet(0xE0, body)


def auth(reason: int | None = None, properties: bytes | None = None) -> bytes:
    body = b"" if reason is None else bytes([reason])
    if properties is not None:
        body += block(properties, 5)
    return packet(0xF0, body)


# -- what a server answers ---------------------------------------------------------------------------------


@dataclass
class Answer:
    """A packet from a server; what its type does not have keeps its default."""

    kind: int
    flags: int = 0
    packet_id: int = 0
    reason: int = 0
    reasons: list[int] = field(default_factory=list)
    session_present: bool = False
    topic: str = ""
    payload: bytes = b""
    properties: list[tuple[int, Any]] = field(default_factory=list)

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    @property
    def dup(self) -> bool:
        return bool(self.flags & 8)

    def get(self, identifier: int) -> Any:
        """The first property of this kind, None where there is none."""
        return next((value for key, value in self.properties if key == identifier), None)

    def all(self, identifier: int) -> list[Any]:
        return [value for key, value in self.properties if key == identifier]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        assert len(found) == count, "a packet of the server is cut"
        self.at += count
        return found

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def string(self) -> str:
        return self.binary().decode()

    def properties(self) -> list[tuple[int, Any]]:
        length = self.varint()
        stop = self.at + length
        found: list[tuple[int, Any]] = []
        while self.at < stop:
            found.append(self._property())
        assert self.at == stop
        return found

    def _property(self) -> tuple[int, Any]:
        identifier = self.number(1)
        if identifier in _BYTE:
            return identifier, self.number(1)
        if identifier in _TWO:
            return identifier, self.number(2)
        if identifier in _FOUR:
            return identifier, self.number(4)
        if identifier == 0x0B:
            return identifier, self.varint()
        if identifier in _BINARY:
            return identifier, self.binary()
        if identifier == 0x26:
            return identifier, (self.string(), self.string())
        return identifier, self.string()

    @property
    def rest(self) -> int:
        return len(self.data) - self.at


def answers(data: bytes, version: int) -> list[Answer]:
    """All packets in a server's bytes, which must be whole."""
    reader = _Reader(data)
    found: list[Answer] = []
    while reader.rest:
        first = reader.number(1)
        body = _Reader(reader.take(reader.varint()))
        answer = _answer(Answer(first >> 4, first & 15), body, version)
        assert not body.rest or answer.kind == PUBLISH, "bytes after the end of a packet of the server"
        found.append(answer)
    return found


def _answer(answer: Answer, body: _Reader, version: int) -> Answer:
    kind = answer.kind
    if kind == CONNACK:
        answer.session_present = bool(body.number(1))
        answer.reason = body.number(1)
        if version == 5:
            answer.properties = body.properties()
    elif kind == PUBLISH:
        answer.topic = body.string()
        if answer.qos:
            answer.packet_id = body.number(2)
        if version == 5:
            answer.properties = body.properties()
        answer.payload = body.take(body.rest)
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        answer.packet_id = body.number(2)
        _reason(answer, body, version)
    elif kind in (SUBACK, UNSUBACK):
        answer.packet_id = body.number(2)
        if version == 5:
            answer.properties = body.properties()
        answer.reasons = list(body.take(body.rest))
    elif kind in (DISCONNECT, AUTH):
        _reason(answer, body, version)
    else:
        assert kind == PINGRESP, f"a packet of type {kind} from the server"
    return answer


def _reason(answer: Answer, body: _Reader, version: int) -> None:
    if body.rest:
        assert version == 5
        answer.reason = body.number(1)
    if body.rest:
        answer.properties = body.properties()
