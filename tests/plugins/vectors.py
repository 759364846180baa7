"""The test vectors of docs/plugins.md: `python -m tests.plugins.vectors` prints them as they stand there."""

from __future__ import annotations

import struct

from plugins.host import frame
from plugins.host.frame import Fields, Place, encode_request

MESSAGES = [
    Fields(b"a/b", b'{"t":21.5}', b"", b"dev-1", 1, False, b"ann"),
    Fields(b"c", b"", b"\x01\x01", b"", 0, True),
    Fields(b"d", b"x"),
]
NOW_NS = 1_769_860_800_000_000_000
PLACE = Place(b"n1", b"eu", 3600)
BATCH, STAGE = 7, 1

Row = tuple[str, bytes]
"""What stands there, and its bytes."""

REQUEST_HEADER = (
    ("magic, GMQ1", 4),
    ("3 entries", 4),
    ("now: 2026-01-31 12:00:00 UTC", 8),
    ("batch 7", 8),
    ("the entry table", 4),
    ("stage: ingress", 4),
    ("size of an entry", 4),
    ("3600 s east of UTC", 4),
    ("node", 8),
    ("region", 8),
)
ENTRY = (
    ("topic", 8),
    ("payload", 8),
    ("properties", 8),
    ("client", 8),
    ("QoS, retain, flags", 4),
    ("reserved", 4),
    ("user", 8),
)


def request_rows() -> list[Row]:
    """The request that the host sends, in parts."""
    data = encode_request(MESSAGES, NOW_NS, BATCH, STAGE, PLACE)
    shape = list(REQUEST_HEADER)
    for number in range(len(MESSAGES)):
        shape += [(f"entry {number}: {name}", size) for name, size in ENTRY]
    shape += [("node", len(PLACE.node)), ("region", len(PLACE.region))]
    for number, message in enumerate(MESSAGES):
        parts = (message.topic, message.payload, message.properties, message.client_id, message.user)
        names = ("topic", "payload", "properties", "client", "user")
        shape += [(f"{number}: {name}", len(part)) for name, part in zip(names, parts, strict=True) if part]
    rows, at = [], 0
    for name, size in shape:
        rows.append((name, data[at : at + size]))
        at += size
    assert at == len(data)
    return rows


def result_rows() -> list[Row]:
    """A result: message 0 gets another payload, 1 is dropped, 2 passes; two effects."""
    texts = [b'{"t":21}', b"alarm", b"hot", b"seen"]
    names = ["0: new payload", "emitted: topic", "emitted: payload", "metric: name"]
    at = 32 + 4 + 40 + 2 * 32
    fields = []
    for text in texts:
        fields.append((at, len(text)))
        at += len(text)
    payload, topic, emitted, metric = fields
    number = int.from_bytes(struct.pack("<d", 1.0), "little")
    return [
        ("magic, GMR1", struct.pack("<I", frame.RESULT_MAGIC)),
        ("3 verdicts", struct.pack("<I", 3)),
        ("the verdicts", struct.pack("<I", 32)),
        ("1 changed record", struct.pack("<I", 1)),
        ("the changed records", struct.pack("<I", 36)),
        ("2 effects", struct.pack("<I", 2)),
        ("the effects", struct.pack("<I", 76)),
        ("reserved", bytes(4)),
        ("REPLACE, DROP, PASS", bytes([frame.REPLACE, frame.DROP, frame.PASS])),
        ("room, to align", bytes(1)),
        ("change: message 0", struct.pack("<I", 0)),
        ("the payload", struct.pack("<I", 2)),
        ("topic", bytes(8)),
        ("payload", struct.pack("<II", *payload)),
        ("properties", bytes(8)),
        ("QoS, retain, reserved", bytes(8)),
        ("effect 0: EMIT", struct.pack("<I", frame.EMIT)),
        ("for message 0", struct.pack("<I", 0)),
        ("topic", struct.pack("<II", *topic)),
        ("payload", struct.pack("<II", *emitted)),
        ("QoS 1, retained", struct.pack("<Q", 1 + 4)),
        ("effect 1: METRIC", struct.pack("<I", frame.METRIC)),
        ("for no message", struct.pack("<I", frame.NO_MESSAGE)),
        ("name", struct.pack("<II", *metric)),
        ("no second field", bytes(8)),
        ("+1.0, an f64", struct.pack("<Q", number)),
        *zip(names, texts, strict=True),
    ]


def block(rows: list[Row]) -> str:
    """Rows as the document has them: offset, bytes, meaning."""
    lines, at = [], 0
    for name, data in rows:
        lines.append(f"{at:4}  {data.hex(' '):<30}  {name}".rstrip())
        at += len(data)
    return "\n".join(lines)


if __name__ == "__main__":
    print(block(request_rows()), block(result_rows()), sep="\n\n")
