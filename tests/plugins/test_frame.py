"""The plugin frame, byte by byte as docs/plugins.md has it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.host import frame
from plugins.host.frame import Effect, Fields, FrameError, Place, decode_result, encode_request

FIELDS = st.builds(
    Fields,
    st.binary(max_size=20),
    st.binary(max_size=40),
    st.binary(max_size=10),
    st.binary(max_size=10),
    st.integers(0, 2),
    st.booleans(),
    st.binary(max_size=10),
)
PLACES = st.builds(Place, st.binary(max_size=10), st.binary(max_size=10), st.integers(-86400, 86400))


def result(
    count: int,
    verdicts: bytes | None = None,
    changes: tuple[bytes, ...] = (),
    effects: tuple[bytes, ...] = (),
    tail: bytes = b"",
    magic: int = frame.RESULT_MAGIC,
) -> bytes:
    verdicts = bytes(count) if verdicts is None else verdicts
    changes_at = 32 + len(verdicts)
    effects_at = changes_at + 40 * len(changes)
    head = struct.pack("<8I", magic, count, 32, len(changes), changes_at, len(effects), effects_at, 0)
    return head + verdicts + b"".join(changes) + b"".join(effects) + tail


def change(
    index: int, what: int, payload: tuple[int, int] = (0, 0), topic: tuple[int, int] = (0, 0), qos: int = 0
) -> bytes:
    return struct.pack("<8IBB6x", index, what, *topic, *payload, 0, 0, qos, 1)


def effect(
    kind: int, first: tuple[int, int], second: tuple[int, int] = (0, 0), number: int = 0, index: int = 0
) -> bytes:
    return struct.pack("<6IQ", kind, index, *first, *second, number)


def _part(data: bytes, at: int) -> bytes:
    offset, length = struct.unpack_from("<II", data, at)
    assert offset + length <= len(data)
    return data[offset : offset + length]


@given(st.lists(FIELDS, max_size=8), st.integers(0, 2**63), st.integers(0, 2**63), st.integers(0, 4), PLACES)
def test_request_can_be_read_back(
    batch: list[Fields], now: int, batch_id: int, stage: int, place: Place
) -> None:
    data = encode_request(batch, now, batch_id, stage, place)
    *head, entry_size, utc_offset = struct.unpack_from("<IIQQIIIi", data)
    assert head == [frame.REQUEST_MAGIC, len(batch), now, batch_id, 56, stage]
    node, region = (_part(data, at) for at in (40, 48))
    assert (entry_size, Place(node, region, utc_offset)) == (48, place)
    for number, fields in enumerate(batch):
        at = 56 + 48 * number
        topic, payload, properties, client, user = (_part(data, at + field) for field in (0, 8, 16, 24, 40))
        qos, retain, flags, reserved = struct.unpack_from("<BBHI", data, at + 32)
        assert Fields(topic, payload, properties, client, qos, bool(retain), user) == fields
        assert (flags, reserved) == (0, 0)


def test_verdicts_changes_and_effects() -> None:
    batch = [Fields(b"a", b"1"), Fields(b"b", b"2"), Fields(b"c", b"3", b"", b"me", 1, False, b"ann")]
    at = 32 + 3 + 40 + 32
    data = result(
        3,
        b"\x00\x01\x02",
        (change(2, 1 | 2 | 8 | 16, payload=(at + 3, 4), topic=(at, 3), qos=2),),
        (effect(frame.EMIT, (at, 3), (at + 3, 4), 1 | 4),),
        b"x/ynews",
    )
    assert decode_result(data, batch) == (
        b"\x00\x01\x02",
        {2: Fields(b"x/y", b"news", b"", b"me", 2, True, b"ann")},
        [Effect(frame.EMIT, 0, b"x/y", b"news", 5)],
    )


BATCH = [Fields(b"a", b"1"), Fields(b"b", b"2")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (result(2, magic=1), "begins with 0x00000001"),
        (result(3), "3 verdicts for 2 messages"),
        (result(2, b"\x00\x04"), "unknown verdict 4"),
        (result(2, b"\x00\x02"), "0 changed records for 1"),
        (result(2, b"\x00\x01", (change(1, 2),)), "1 changed records for 0"),
        (result(2, b"\x02\x00", (change(1, 2),)), "message 1 is out of place"),
        (result(2, b"\x02\x02", (change(1, 2), change(0, 2))), "message 0 is out of place"),
        (result(2, b"\x02\x00", (change(0, 32),)), "unknown change 32"),
        (result(2, b"\x02\x00", (change(0, 2, payload=(9999, 1)),)), "outside the frame"),
        (result(2, b"\x02\x00", (change(0, 1, topic=(0, 0)),)), "a topic that is none: ''$"),
        (result(2, b"\x02\x00", (change(0, 8, qos=3),)), "QoS 3"),
        (result(2, effects=(effect(9, (0, 1)),)), "unknown effect 9"),
        (result(2, effects=(effect(1, (66, 1), number=3),), tail=b"t"), "unknown flags"),
        (result(2, effects=(effect(1, (66, 1)),), tail=b"#"), "a topic that is none: '#'$"),
        (
            result(2, effects=(effect(1, (66, 70000)),), tail=b"\n" * 70000),
            r"none: '(\\n){60}'..., 70000 bytes$",
        ),
        (result(2, effects=(effect(1, (66, 1)),), tail=b"\xff"), r"not UTF-8: '\\\\xff'$"),
        (result(2, effects=(effect(4, (66, 1), index=2),), tail=b"x"), "message 2, which is not there"),
    ],
)
def test_broken_results_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        decode_result(data, BATCH)


def test_every_truncation_is_refused() -> None:
    data = result(2, b"\x02\x00", (change(0, 2, payload=(74 + 32, 4)),), (effect(4, (74 + 32, 4)),), b"news")
    assert decode_result(data, BATCH).changes[0].payload == b"news"
    for length in range(len(data)):
        with pytest.raises(FrameError):
            decode_result(data[:length], BATCH)


@given(st.binary(max_size=200), st.integers(0, 3))
def test_random_bytes_are_refused_or_understood(tail: bytes, count: int) -> None:
    batch = [Fields(b"a", b"1")] * count
    for data in (tail, struct.pack("<I", frame.RESULT_MAGIC) + tail):
        try:
            found = decode_result(data, batch)
        except FrameError:
            continue
        assert len(found.verdicts) == count
