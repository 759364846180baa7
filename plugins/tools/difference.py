"""What a rule changed in a message, as lines for people. Pure."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from broker.protocol.constants import PUBLISH, Prop
from broker.protocol.errors import ProtocolError
from broker.protocol.properties import read_bare
from plugins.host.frame import Fields
from plugins.host.reasons import on_one_line
from plugins.tools import binary

_LONGEST = 2000
"""Characters of a value that are shown."""


class Line(NamedTuple):
    """``mark`` is `-` for what is gone, `+` for what is new."""

    mark: str
    text: str


def shown(raw: bytes) -> str:
    """Bytes as text on one line, without anything that a terminal would obey; hexadecimal where they are no text."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "hex " + raw.hex(" ")
    else:
        text = on_one_line(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(raw)} bytes)"


def shown_payload(raw: bytes) -> str:
    """As :func:`shown`, with CBOR and MessagePack as what they say."""
    found = _read_binary(raw)
    return f"{found[0]} {_value(found[1])}" if found else shown(raw)


def difference(before: Fields, after: Fields) -> list[Line]:
    """What has changed, each thing with what it was and what it is; of payloads of JSON, CBOR and
    MessagePack only the members that changed."""
    lines: list[Line] = []
    for name, old, new in (
        ("topic", shown(before.topic), shown(after.topic)),
        ("QoS", before.qos, after.qos),
        ("retain", before.retain, after.retain),
    ):
        if old != new:
            lines += [Line("-", f"{name} {old}"), Line("+", f"{name} {new}")]
    old_properties, new_properties = _properties(before.properties), _properties(after.properties)
    lines += [Line("-", one) for one in old_properties if one not in new_properties]
    lines += [Line("+", one) for one in new_properties if one not in old_properties]
    if before.payload != after.payload:
        lines += _payload(before.payload, after.payload)
    return lines


def _properties(raw: bytes) -> list[str]:
    try:
        found = read_bare(raw, PUBLISH)
    except ProtocolError:
        return [f"properties {shown(raw)}"]
    told = []
    for identifier, value in found.items():
        name = Prop(identifier).name.lower()
        for one in value if isinstance(value, list) else [value]:
            words = ": ".join(one) if isinstance(one, tuple) else one
            told.append(f"{name} {shown(words if isinstance(words, bytes) else str(words).encode())}")
    return told


def _payload(before: bytes, after: bytes) -> list[Line]:
    lines: list[Line] = []
    with contextlib.suppress(ValueError, RecursionError):
        lines = list(_members("", _parsed(before), _parsed(after)))
    # Where nothing but white space or the order of members has changed, the whole of it is told.
    return lines or [Line("-", shown(before)), Line("+", shown(after))]


def _parsed(payload: bytes) -> Any:
    found = _read_binary(payload)
    if found:
        return found[1]
    return json.loads(
        payload.decode(),
        parse_int=binary.AsWritten,
        parse_float=binary.AsWritten,
        object_pairs_hook=binary.without_repeats,
    )


def _read_binary(payload: bytes) -> tuple[str, Any] | None:
    """No document of CBOR or MessagePack begins with a byte of ASCII."""
    return binary.read(payload) if payload and payload[0] >= 0x80 else None


def _members(path: str, before: Any, after: Any) -> Iterator[Line]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before | after:
            at = f"{path}.{name}" if path else name
            if name not in after:
                yield Line("-", f"{at}: {_value(before[name])}")
            elif name not in before:
                yield Line("+", f"{at}: {_value(after[name])}")
            else:
                yield from _members(at, before[name], after[name])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _members(f"{path}[{index}]", old, new)
    elif type(before) is not type(after) or before != after:
        start = f"{path}: " if path else ""
        yield from (Line("-", start + _value(before)), Line("+", start + _value(after)))


def _value(value: Any) -> str:
    return shown(binary.written(value).encode("utf-8", "backslashreplace"))
