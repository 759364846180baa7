"""Batches to try a module with, and frames as a later host might send them. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from plugins.host.frame import ANSWER, Fields, Place, encode_request

NOW_NS = 1_769_860_800_000_000_000
"""2026-01-31 12:00 UTC."""
PLACE = Place(b"node-1", b"eu", 3600)

_PAYLOADS = (
    b'{"speed":61.5,"driver":"Magdalena","temperature":20.25,"position":{"latitude":46.95,"longitude":7.44}}',
    b'{"speed":-1,"list":[1,2,{"x":null}],"text":"\\u00e9\\"\\\\"}',
    b'{"speed":1e400,"speed":2}',
    '{"näme":"Grüezi","t":"2026-01-31T12:00:00+01:00"}'.encode(),
    b"",
    b"21.5",
    b"plain text, a,b;c",
    b'{"cut":',
    b"[" * 100,
    b"\xa2\x61a\x01\x61b\x82\x01\x02",
    b"\x82\xa1a\x01\xa1b\xc0",
    bytes(range(256)),
)
_PROPERTIES = (b"", b"\x03\x00\x10application/json", b"\x26\x00\x01a\x00\x01b", b"\x01\x01")
_TOPICS = (b"a", b"vehicles/1/telemetry", "orte/z\u00fcrich".encode(), b"/", b"$app/x", b"a/" * 100 + b"z")
_CLIENTS = (b"", b"device-1", b"x" * 200)

_OFFSETS = (0, 8, 16, 24, 40)
"""Where in an entry the offsets stand."""
_HEADER, _ENTRY = 56, 48


def batch(count: int) -> list[Fields]:
    """Messages of all kinds that a node may hand over: JSON and none, cut and empty, each QoS, retained..."""
    return [
        Fields(
            _TOPICS[index % len(_TOPICS)],
            _PAYLOADS[index % len(_PAYLOADS)],
            _PROPERTIES[index % len(_PROPERTIES)],
            _CLIENTS[index % len(_CLIENTS)],
            index % 3,
            index % 5 == 0,
            b"user" if index % 2 else b"",
        )
        for index in range(count)
    ]


def request(
    messages: Sequence[Fields], batch_id: int = 1, stage: int = 1, now_ns: int = NOW_NS, flags: int = 0
) -> bytes:
    """The frame that this host sends."""
    return encode_request(messages, now_ns, batch_id, stage, PLACE, flags)


def with_more_fields(frame: bytes, header: int = 24, entry: int = 16) -> bytes:
    """A request as a later host may send it: so many bytes appended to the header and to each entry."""
    count = struct.unpack_from("<I", frame, 4)[0]
    table_end = _HEADER + count * _ENTRY
    moved = header + count * entry
    head = bytearray(frame[:_HEADER])
    struct.pack_into("<I", head, 24, _HEADER + header)
    struct.pack_into("<I", head, 32, _ENTRY + entry)
    for at in (40, 48):
        _move(head, at, moved)
    parts = [bytes(head), b"\xab" * header]
    for start in range(_HEADER, table_end, _ENTRY):
        row = bytearray(frame[start : start + _ENTRY])
        for at in _OFFSETS:
            _move(row, at, moved)
        parts += [bytes(row), b"\xcd" * entry]
    return b"".join([*parts, frame[table_end:]])


def with_table_last(frame: bytes) -> bytes:
    """A request whose entries stand behind all that they point to."""
    count = struct.unpack_from("<I", frame, 4)[0]
    table_end = _HEADER + count * _ENTRY
    gap = -(len(frame) - table_end + _HEADER) % 8
    moved = _HEADER - table_end
    head = bytearray(frame[:_HEADER])
    for at in (40, 48):
        _move(head, at, moved)
    struct.pack_into("<I", head, 24, len(frame) + moved + gap)
    parts = [bytes(head), frame[table_end:], bytes(gap)]
    for start in range(_HEADER, table_end, _ENTRY):
        row = bytearray(frame[start : start + _ENTRY])
        for at in _OFFSETS:
            _move(row, at, moved)
        parts.append(bytes(row))
    return b"".join(parts)


def with_unknown_flags(frame: bytes) -> bytes:
    """A request in whose entries flags are set that this version does not have."""
    changed = bytearray(frame)
    count = struct.unpack_from("<I", frame, 4)[0]
    for number in range(count):
        struct.pack_into("<HI", changed, _HEADER + number * _ENTRY + 34, 0xFFFF & ~ANSWER, 0xFFFFFFFF)
    return bytes(changed)


def _move(record: bytearray, at: int, by: int) -> None:
    struct.pack_into("<I", record, at, struct.unpack_from("<I", record, at)[0] + by)
