from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol import encode
from broker.protocol.constants import PUBACK, PUBREL


@pytest.mark.spec("MQTT-1.5.5-1")
@pytest.mark.parametrize(
    ("value", "raw"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16383, "ff7f"), (16384, "808001"), (268435455, "ffffff7f")],
)
def test_varint(value: int, raw: str) -> None:
    assert encode.varint(value) == bytes.fromhex(raw)


def test_publish() -> None:
    assert encode.publish("a/b", b"hi", 0, False, 4) == (b"\x30\x07\x00\x03a/b", b"hi")
    assert encode.publish("a", b"x", 1, True, 5, b"\x01\x01", b"\x0b\x05", dup=True) == (
        b"\x3b\x0b\x00\x01a",
        b"\x04\x0b\x05\x01\x01x",
    )


def test_acknowledgements() -> None:
    assert encode.ack(PUBACK, 4, 258, 0x10) == b"\x40\x02\x01\x02"
    assert encode.ack(PUBREL, 5, 1, 0x92) == b"\x62\x03\x00\x01\x92"
    assert encode.suback(4, 1, [0, 2, 0x87]) == b"\x90\x05\x00\x01\x00\x02\x80"
    assert encode.suback(5, 1, [0x87]) == b"\x90\x04\x00\x01\x00\x87"
    assert encode.unsuback(4, 1, [0x11]) == b"\xb0\x02\x00\x01"
    assert encode.unsuback(5, 1, [0x11]) == b"\xb0\x04\x00\x01\x00\x11"


@given(st.lists(st.binary(min_size=126, max_size=126), min_size=1, max_size=5), st.text("abc/", min_size=1))
def test_a_converted_run_is_what_the_other_version_would_send(payloads: list[bytes], topic: str) -> None:
    runs = {v: [b"".join(encode.publish(topic, p, 0, False, v)) for p in payloads] for v in (4, 5)}
    for source, target in ((4, 5), (5, 4)):
        size = len(runs[source][0])
        converted = encode.convert_run(
            b"".join(runs[source]), len(payloads), size, size - 126, source, target
        )
        assert converted == b"".join(runs[target])
