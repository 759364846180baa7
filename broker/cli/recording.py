"""Recorded messages: a file of JSON lines, one a message.

    {"time": "2026-01-31T12:00:00.250+00:00", "topic": "a/b", "payload": "21.5", "qos": 1, "retain": true,
     "properties": {"content_type": "text/plain", "user_property": [["k", "v"]]}}

A payload that is not UTF-8 stands as `payload_base64`. Only the topic is needed: lines written by hand have a `client`
and a `user`, too, where a rule asks for them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from broker.protocol.constants import PUBLISH, Prop
from broker.protocol.errors import ProtocolError
from broker.protocol.properties import read_bare, write_bare
from broker.protocol.topics import decode_topic

_KEYS = {"time", "topic", "payload", "payload_base64", "qos", "retain", "properties", "client", "user"}
_PROPERTIES = {
    prop.name.lower(): prop
    for prop in (
        *(Prop.PAYLOAD_FORMAT_INDICATOR, Prop.MESSAGE_EXPIRY_INTERVAL, Prop.CONTENT_TYPE),
        *(Prop.RESPONSE_TOPIC, Prop.CORRELATION_DATA, Prop.USER_PROPERTY),
    )
}


class RecordingError(ValueError):
    """What is wrong with a recording, and in which line."""


class Recorded(NamedTuple):
    """A message of a recording. ``time`` is in wall-clock seconds, None where the line has none; ``properties`` by
    their identifiers, as in :mod:`broker.protocol.properties`."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: dict[int, Any] = {}
    time: float | None = None
    client: str = ""
    user: str = ""

    @property
    def wire_properties(self) -> bytes:
        """The properties in wire form, without their length."""
        return write_bare(self.properties)


def to_line(message: Recorded) -> str:
    """A message as a line, without its end."""
    line: dict[str, Any] = {}
    if message.time is not None:
        line["time"] = datetime.fromtimestamp(message.time, UTC).isoformat(timespec="milliseconds")
    line["topic"] = message.topic
    try:
        line["payload"] = message.payload.decode()
    except UnicodeDecodeError:
        line["payload_base64"] = base64.b64encode(message.payload).decode()
    line["qos"] = message.qos
    line["retain"] = message.retain
    if message.properties:
        line["properties"] = {
            Prop(identifier).name.lower(): _shown(value) for identifier, value in message.properties.items()
        }
    for name in ("client", "user"):
        if getattr(message, name):
            line[name] = getattr(message, name)
    return json.dumps(line, ensure_ascii=False)


def from_lines(lines: Iterable[str], name: str) -> Iterator[Recorded]:
    """The messages of a recording; RecordingError names the file and the line of a mistake."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _from_line(line)
            except ValueError as error:
                raise RecordingError(f"{name}:{number}: {error}") from None


def _from_line(line: str) -> Recorded:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")
    unknown = sorted(found.keys() - _KEYS)
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a key; allowed: {', '.join(sorted(_KEYS))}")
    topic = _of(found, "topic", str)
    try:
        decode_topic(topic.encode())
    except (ProtocolError, UnicodeEncodeError) as error:
        raise ValueError(f"topic: {topic!r}: {getattr(error, 'detail', error)}") from None
    qos = _of(found, "qos", int, 0)
    if not 0 <= qos <= 2:
        raise ValueError(f"qos: {qos}: allowed: 0, 1, 2")
    return Recorded(
        topic,
        _payload(found),
        qos,
        _of(found, "retain", bool, False),
        _properties(_of(found, "properties", dict, {})),
        _time(found.get("time")),
        _of(found, "client", str, ""),
        _of(found, "user", str, ""),
    )


def _of(found: dict[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value = found.get(name, default)
    if value is None:
        raise ValueError(f"{name}: is required")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = {str: "a text", int: "a whole number", bool: "true or false", dict: "an object"}[kind]
        raise ValueError(f"{name}: {value!r}: {expected} is expected")
    return value


def _payload(found: dict[str, Any]) -> bytes:
    if "payload_base64" not in found:
        return bytes(_of(found, "payload", str, "").encode())
    if "payload" in found:
        raise ValueError("payload: stands beside payload_base64; only one can be")
    return _bytes("payload_base64", found["payload_base64"])


def _bytes(name: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError(f"{name}: {text!r}: Base64 is expected") from None


def _time(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError):
        raise ValueError(
            f"time: {value!r}: an ISO time such as 2026-01-31T12:00:00+00:00 is expected"
        ) from None


def _shown(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _properties(found: dict[str, Any]) -> dict[int, Any]:
    properties: dict[int, Any] = {}
    for name, value in found.items():
        prop = _PROPERTIES.get(name)
        if prop is None:
            raise ValueError(f"properties.{name}: is not a property; allowed: {', '.join(_PROPERTIES)}")
        if prop is Prop.CORRELATION_DATA:
            value = _bytes("properties.correlation_data", value)
        elif prop is Prop.USER_PROPERTY:
            value = _pairs(value)
        try:
            properties |= read_bare(write_bare({prop: value}), PUBLISH)
        except (AttributeError, TypeError, ValueError, OverflowError, ProtocolError):
            raise ValueError(f"properties.{name}: {value!r}: cannot be this property's value") from None
    return properties


def _pairs(value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise ValueError(f"properties.user_property: {value!r}: a list of pairs is expected")
    return [(pair[0], pair[1]) for pair in value]
