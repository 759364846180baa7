"""The bytes in docs/plugins.md are those of the code, and the tables there have the code's sizes."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from plugins.host import frame
from plugins.host.frame import DROP, PASS, REPLACE, Effect, decode_result, encode_request
from tests.plugins.vectors import BATCH, MESSAGES, NOW_NS, PLACE, STAGE, block, request_rows, result_rows

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text()


def documented(title: str) -> bytes:
    """The bytes in the block under a heading."""
    found = re.search(rf"^### {title}\n.*?^```\n(.*?)^```$", DOCUMENT, re.M | re.S)
    assert found, title
    data = bytearray()
    for line in found[1].splitlines():
        offset, rest = line.strip().split("  ", 1)
        assert int(offset) == len(data), line
        data += bytes.fromhex(rest.split("  ", 1)[0])
    return bytes(data)


def test_the_request_is_what_the_host_sends() -> None:
    assert documented("A request") == encode_request(MESSAGES, NOW_NS, BATCH, STAGE, PLACE)
    assert block(request_rows()) in DOCUMENT


def test_the_result_is_what_the_host_takes() -> None:
    result = decode_result(documented("Its result"), MESSAGES)
    assert result.verdicts == bytes([REPLACE, DROP, PASS])
    assert result.changes == {0: MESSAGES[0]._replace(payload=b'{"t":21}')}
    one = int.from_bytes(struct.pack("<d", 1.0), "little")
    assert result.effects == [
        Effect(frame.EMIT, 0, b"alarm", b"hot", 1 | 4),
        Effect(frame.METRIC, frame.NO_MESSAGE, b"seen", b"", one),
    ]
    assert block(result_rows()) in DOCUMENT
