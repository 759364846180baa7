"""CONNECT, read with every rule of its flags [MQTT5 3.1]."""

from __future__ import annotations

from typing import Any

from broker.protocol.constants import CONNECT, V5, V31, V311, Prop
from broker.protocol.errors import MalformedPacket, UnsupportedVersion
from broker.protocol.packets import Connect, Will
from broker.protocol.properties import WILL, forwarded, read_binary, read_block, read_text
from broker.protocol.topics import decode_topic

_WILL_FLAG, _WILL_RETAIN, _PASSWORD, _USERNAME, _CLEAN, _RESERVED = 0x04, 0x20, 0x40, 0x80, 0x02, 0x01


def read_version(body: bytes) -> int:
    """The protocol level of a CONNECT; UnsupportedVersion for one that is not served [MQTT-3.1.2-2]."""
    name, at = read_binary(body, 0)
    if name not in (b"MQTT", b"MQIsdp"):
        raise MalformedPacket("not MQTT")
    if at >= len(body):
        raise MalformedPacket("CONNECT is cut")
    version = body[at]
    if version not in ((V311, V5) if name == b"MQTT" else (V31,)):
        raise UnsupportedVersion(version)
    return version


def read_connect(body: bytes, version: int) -> Connect:
    """A CONNECT whose version is known already."""
    at = 2 + (body[0] << 8 | body[1]) + 1
    if at + 3 > len(body):
        raise MalformedPacket("CONNECT is cut")
    flags = body[at]
    _check_flags(flags, version)
    keep_alive = body[at + 1] << 8 | body[at + 2]
    at += 3
    properties: dict[int, Any] = {}
    if version == V5:
        properties, _, at = read_block(body, at, CONNECT)
    client_id, at = read_text(body, at)
    will: Will | None = None
    if flags & _WILL_FLAG:
        will, at = _read_will(body, at, flags, version)
    username: str | None = None
    password: bytes | None = None
    # In 3.1 the end of the packet outweighs the flags: user name and password may be missing [MQTT 3.1, 3.1].
    optional = version == V31
    if flags & _USERNAME and not (optional and at == len(body)):
        username, at = read_text(body, at)
    if flags & _PASSWORD and not (optional and at == len(body)):
        password, at = read_binary(body, at)
    if at != len(body):
        raise MalformedPacket("bytes after the end of CONNECT")
    return Connect(version, client_id, flags & _CLEAN != 0, keep_alive, username, password, will, properties)


def _check_flags(flags: int, version: int) -> None:
    if flags & _RESERVED:
        raise MalformedPacket("the reserved connect flag")
    will_qos = flags >> 3 & 3
    if will_qos == 3 or (not flags & _WILL_FLAG and (will_qos or flags & _WILL_RETAIN)):
        raise MalformedPacket("will flags")
    if version != V5 and flags & _PASSWORD and not flags & _USERNAME:
        raise MalformedPacket("a password without a user name")


def _read_will(body: bytes, at: int, flags: int, version: int) -> tuple[Will, int]:
    properties: dict[int, Any] = {}
    bare = b""
    if version == V5:
        properties, start, at = read_block(body, at, WILL)
        bare = forwarded(properties, body[start:at])
    topic, at = read_binary(body, at)
    payload, at = read_binary(body, at)
    will = Will(
        decode_topic(topic),
        payload,
        flags >> 3 & 3,
        flags & _WILL_RETAIN != 0,
        bare,
        properties.get(Prop.WILL_DELAY_INTERVAL, 0),
        properties.get(Prop.MESSAGE_EXPIRY_INTERVAL),
    )
    return will, at
