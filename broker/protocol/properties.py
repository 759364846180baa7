"""MQTT 5 properties [MQTT5 2.2.2]: read with all their rules, written in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.protocol.constants import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Prop,
)
from broker.protocol.errors import MalformedPacket, ProtocolError
from broker.protocol.topics import decode_utf8

Properties = dict[int, Any]
"""Property identifier -> int, str or bytes; User Property -> a list of (name, value)."""

WILL = 0
"""Where a packet type is asked for: the properties of a will, which stand in CONNECT's payload."""

_BYTE, _TWO, _FOUR, _VARINT, _BINARY, _TEXT, _PAIR = range(7)
_WIDTH = {_BYTE: 1, _TWO: 2, _FOUR: 4}

_TYPES: dict[int, int] = {
    Prop.PAYLOAD_FORMAT_INDICATOR: _BYTE,
    Prop.MESSAGE_EXPIRY_INTERVAL: _FOUR,
    Prop.CONTENT_TYPE: _TEXT,
    Prop.RESPONSE_TOPIC: _TEXT,
    Prop.CORRELATION_DATA: _BINARY,
    Prop.SUBSCRIPTION_IDENTIFIER: _VARINT,
    Prop.SESSION_EXPIRY_INTERVAL: _FOUR,
    Prop.ASSIGNED_CLIENT_IDENTIFIER: _TEXT,
    Prop.SERVER_KEEP_ALIVE: _TWO,
    Prop.AUTHENTICATION_METHOD: _TEXT,
    Prop.AUTHENTICATION_DATA: _BINARY,
    Prop.REQUEST_PROBLEM_INFORMATION: _BYTE,
    Prop.WILL_DELAY_INTERVAL: _FOUR,
    Prop.REQUEST_RESPONSE_INFORMATION: _BYTE,
    Prop.RESPONSE_INFORMATION: _TEXT,
    Prop.SERVER_REFERENCE: _TEXT,
    Prop.REASON_STRING: _TEXT,
    Prop.RECEIVE_MAXIMUM: _TWO,
    Prop.TOPIC_ALIAS_MAXIMUM: _TWO,
    Prop.TOPIC_ALIAS: _TWO,
    Prop.MAXIMUM_QOS: _BYTE,
    Prop.RETAIN_AVAILABLE: _BYTE,
    Prop.USER_PROPERTY: _PAIR,
    Prop.MAXIMUM_PACKET_SIZE: _FOUR,
    Prop.WILDCARD_SUBSCRIPTION_AVAILABLE: _BYTE,
    Prop.SUBSCRIPTION_IDENTIFIER_AVAILABLE: _BYTE,
    Prop.SHARED_SUBSCRIPTION_AVAILABLE: _BYTE,
}

_MESSAGE = frozenset(
    {
        Prop.PAYLOAD_FORMAT_INDICATOR,
        Prop.MESSAGE_EXPIRY_INTERVAL,
        Prop.CONTENT_TYPE,
        Prop.RESPONSE_TOPIC,
        Prop.CORRELATION_DATA,
        Prop.USER_PROPERTY,
    }
)
_REASONED = frozenset({Prop.REASON_STRING, Prop.USER_PROPERTY})

ALLOWED: dict[int, frozenset[int]] = {
    WILL: _MESSAGE | {Prop.WILL_DELAY_INTERVAL},
    CONNECT: frozenset(
        {
            Prop.SESSION_EXPIRY_INTERVAL,
            Prop.AUTHENTICATION_METHOD,
            Prop.AUTHENTICATION_DATA,
            Prop.REQUEST_PROBLEM_INFORMATION,
            Prop.REQUEST_RESPONSE_INFORMATION,
            Prop.RECEIVE_MAXIMUM,
            Prop.TOPIC_ALIAS_MAXIMUM,
            Prop.USER_PROPERTY,
            Prop.MAXIMUM_PACKET_SIZE,
        }
    ),
    CONNACK: _REASONED
    | {
        Prop.SESSION_EXPIRY_INTERVAL,
        Prop.ASSIGNED_CLIENT_IDENTIFIER,
        Prop.SERVER_KEEP_ALIVE,
        Prop.AUTHENTICATION_METHOD,
        Prop.AUTHENTICATION_DATA,
        Prop.RESPONSE_INFORMATION,
        Prop.SERVER_REFERENCE,
        Prop.RECEIVE_MAXIMUM,
        Prop.TOPIC_ALIAS_MAXIMUM,
        Prop.MAXIMUM_QOS,
        Prop.RETAIN_AVAILABLE,
        Prop.MAXIMUM_PACKET_SIZE,
        Prop.WILDCARD_SUBSCRIPTION_AVAILABLE,
        Prop.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        Prop.SHARED_SUBSCRIPTION_AVAILABLE,
    },
    PUBLISH: _MESSAGE | {Prop.SUBSCRIPTION_IDENTIFIER, Prop.TOPIC_ALIAS},
    PUBACK: _REASONED,
    PUBREC: _REASONED,
    PUBREL: _REASONED,
    PUBCOMP: _REASONED,
    SUBSCRIBE: frozenset({Prop.SUBSCRIPTION_IDENTIFIER, Prop.USER_PROPERTY}),
    SUBACK: _REASONED,
    UNSUBSCRIBE: frozenset({Prop.USER_PROPERTY}),
    UNSUBACK: _REASONED,
    DISCONNECT: _REASONED | {Prop.SESSION_EXPIRY_INTERVAL, Prop.SERVER_REFERENCE},
    AUTH: _REASONED | {Prop.AUTHENTICATION_METHOD, Prop.AUTHENTICATION_DATA},
}
"""The properties that a packet may carry [MQTT5, table 2-4]."""

_FLAGS = frozenset(
    {
        Prop.PAYLOAD_FORMAT_INDICATOR,
        Prop.REQUEST_PROBLEM_INFORMATION,
        Prop.REQUEST_RESPONSE_INFORMATION,
        Prop.MAXIMUM_QOS,
        Prop.RETAIN_AVAILABLE,
        Prop.WILDCARD_SUBSCRIPTION_AVAILABLE,
        Prop.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        Prop.SHARED_SUBSCRIPTION_AVAILABLE,
    }
)
_NEVER_ZERO = {
    Prop.RECEIVE_MAXIMUM: 0x82,
    Prop.MAXIMUM_PACKET_SIZE: 0x82,
    Prop.SUBSCRIPTION_IDENTIFIER: 0x82,
    Prop.TOPIC_ALIAS: 0x94,
}
_NOT_FORWARDED = frozenset(
    {
        Prop.MESSAGE_EXPIRY_INTERVAL,
        Prop.TOPIC_ALIAS,
        Prop.SUBSCRIPTION_IDENTIFIER,
        Prop.WILL_DELAY_INTERVAL,
    }
)


def read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends) of a Variable Byte Integer; MalformedPacket where it is cut, too long or not
    the shortest form [MQTT-1.5.5-1]."""
    value = 0
    for shift in (0, 7, 14, 21):
        if at >= len(raw):
            raise MalformedPacket("a Variable Byte Integer is cut")
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                raise MalformedPacket("a Variable Byte Integer is longer than needed")
            return value, at
    raise MalformedPacket("a Variable Byte Integer of more than four bytes")


def read_binary(raw: bytes, at: int) -> tuple[bytes, int]:
    """(bytes, where they end) of Binary Data or of a string that is not yet checked."""
    start = at + 2
    if start > len(raw):
        raise MalformedPacket("a length is cut")
    end = start + (raw[at] << 8 | raw[at + 1])
    if end > len(raw):
        raise MalformedPacket("a field reaches past the end of its packet")
    return raw[start:end], end


def read_text(raw: bytes, at: int) -> tuple[str, int]:
    """(text, where it ends) of a UTF-8 Encoded String [MQTT5 1.5.4]."""
    found, end = read_binary(raw, at)
    return decode_utf8(found), end


def read_block(raw: bytes, at: int, packet: int) -> tuple[Properties, int, int]:
    """(properties, where they begin, where they end) of a property block with its length in front.

    MalformedPacket or ProtocolError where they break the rules for this packet type.
    """
    length, start = read_varint(raw, at)
    end = start + length
    if end > len(raw):
        raise MalformedPacket("properties reach past the end of their packet")
    if not length:
        return {}, start, end
    return read_bare(raw[start:end], packet), start, end


def read_bare(raw: bytes, packet: int) -> Properties:
    """The properties in wire form without their length; errors as for :func:`read_block`."""
    found: Properties = {}
    allowed = ALLOWED[packet]
    at = 0
    while at < len(raw):
        # Property identifiers are Variable Byte Integers, but all that exist take one byte.
        identifier = raw[at]
        if identifier not in allowed:
            raise MalformedPacket(f"property 0x{identifier:02x} does not belong in this packet")
        value, at = _read_value(raw, at + 1, _TYPES[identifier])
        if identifier == Prop.USER_PROPERTY:
            found.setdefault(Prop.USER_PROPERTY, []).append(value)
            continue
        if identifier in found:
            raise ProtocolError(f"property 0x{identifier:02x} twice")
        _check_value(identifier, value)
        found[identifier] = value
    if Prop.AUTHENTICATION_DATA in found and Prop.AUTHENTICATION_METHOD not in found:
        raise ProtocolError("authentication data without a method")
    return found


def _read_value(raw: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind == _TEXT:
        return read_text(raw, at)
    if kind == _BINARY:
        return read_binary(raw, at)
    if kind == _VARINT:
        return read_varint(raw, at)
    if kind == _PAIR:
        name, at = read_text(raw, at)
        value, at = read_text(raw, at)
        return (name, value), at
    end = at + _WIDTH[kind]
    if end > len(raw):
        raise MalformedPacket("a property is cut")
    return int.from_bytes(raw[at:end], "big"), end


def _check_value(identifier: int, value: Any) -> None:
    if identifier in _FLAGS and value > 1:
        raise ProtocolError(f"property 0x{identifier:02x} is neither 0 nor 1")
    if value == 0 and identifier in _NEVER_ZERO:
        raise ProtocolError(f"property 0x{identifier:02x} is 0", _NEVER_ZERO[Prop(identifier)])
    if identifier == Prop.RESPONSE_TOPIC and (not value or "+" in value or "#" in value):
        raise ProtocolError("the response topic is not a topic name")


def write_bare(properties: Mapping[int, Any]) -> bytes:
    """Properties in wire form, without the length in front."""
    parts: list[bytes] = []
    for identifier, value in properties.items():
        kind = _TYPES[identifier]
        values = value if kind == _PAIR else (value,)
        for one in values:
            parts.append(identifier.to_bytes(1, "big"))
            parts.append(_write_value(one, kind))
    return b"".join(parts)


def write_block(properties: Mapping[int, Any]) -> bytes:
    """Properties in wire form with their length in front."""
    bare = write_bare(properties)
    return write_varint(len(bare)) + bare


def write_varint(value: int) -> bytes:
    """A Variable Byte Integer in its shortest form [MQTT-1.5.5-1]."""
    if value < 128:
        return value.to_bytes(1, "big")
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _write_value(value: Any, kind: int) -> bytes:
    if kind == _TEXT:
        return _write_binary(value.encode())
    if kind == _BINARY:
        return _write_binary(value)
    if kind == _VARINT:
        return write_varint(value)
    if kind == _PAIR:
        return _write_binary(value[0].encode()) + _write_binary(value[1].encode())
    width = _WIDTH[kind]
    return int(value).to_bytes(width, "big")


def _write_binary(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def forwarded(properties: Properties, raw: bytes) -> bytes:
    """What a server hands on of a message's properties [MQTT-3.3.2-4]; ``raw`` is their wire form."""
    if _NOT_FORWARDED.isdisjoint(properties):
        return raw
    return write_bare({key: value for key, value in properties.items() if key not in _NOT_FORWARDED})
