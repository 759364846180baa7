"""The plugin frame, byte by byte as docs/plugins.md has it."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.host import frame
from plugins.host.frame import (
    Effect,
    Fields,
    FrameError,
    Place,
    Whole,
    decode_result,
    encode_request,
)

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
    index: int,
    what: int,
    payload: tuple[int, int] = (0, 0),
    topic: tuple[int, int] = (0, 0),
    qos: int = 0,
    properties: tuple[int, int] = (0, 0),
) -> bytes:
    return struct.pack("<8IBB6x", index, what, *topic, *payload, *properties, qos, 1)


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


@given(st.integers(1, 70), st.integers(0, 30), st.integers(4, 9), st.binary(max_size=9), PLACES)
def test_request_of_packets_can_be_read_back(
    count: int, size: int, payload_at: int, name: bytes, place: Place
) -> None:
    packets = bytes(at % 251 for at in range(count * (payload_at + size)))
    whole = Whole(b"a/b" + name, packets, count, payload_at + size, payload_at, name, name + b"!")
    data = frame.encode_whole(whole, 5, 6, 1, place)
    *head, table, stage, entry_size, utc_offset = struct.unpack_from("<IIQQIIIi", data)
    assert (head, stage, entry_size) == ([frame.REQUEST_MAGIC, count, 5, 6], 1, 48)
    assert table % 8 == 0
    assert Place(_part(data, 40), _part(data, 48), utc_offset) == place
    assert len(data) == table + 48 * count
    found = []
    for at in range(table, len(data), 48):
        topic, payload, properties, client, user = (_part(data, at + field) for field in (0, 8, 16, 24, 40))
        assert struct.unpack_from("<BBHI", data, at + 32) == (0, 0, 0, 0)
        found.append(Fields(topic, payload, properties, client, 0, False, user))
    assert found == whole.fields()
    assert [fields.payload for fields in found] == whole.payloads()


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


WHOLE = Whole(b"a", b"--1--2--3", 3, 3, 2, b"", b"")


def test_payloads_of_a_result() -> None:
    at = 32 + 3 + 40
    data = result(3, b"\x00\x01\x02", (change(2, 2, payload=(at, 4)),), (), b"news")
    assert frame.decode_whole(data, WHOLE) == (b"\x00\x01\x02", [b"1", None, b"news"])


@pytest.mark.parametrize(
    "data",
    [
        result(3, b"\x00\x00\x03"),
        result(3, b"\x00\x00\x02", (change(2, 2 | 8),)),
        result(3, None, (), (effect(frame.METRIC, (0, 1)),)),
    ],
    ids=["rejected", "another QoS", "an effect"],
)
def test_result_that_says_more_than_payloads_is_left_to_others(data: bytes) -> None:
    assert frame.decode_whole(data, WHOLE) is None
    decode_result(data, WHOLE.fields())


@pytest.mark.parametrize(
    "data",
    [
        result(2),
        result(3, magic=1),
        result(3, b"\x00\x04\x00"),
        result(3, b"\x02\x00\x00"),
        result(3, b"\x02\x02\x00", (change(1, 2), change(0, 2))),
        result(3, b"\x02\x00\x00", (change(1, 2),)),
        result(3, b"\x02\x00\x00", (change(3, 2),)),
        result(3, b"\x02\x00\x00", (change(0, 2, payload=(9999, 1)),)),
        result(3)[:20],
    ],
)
def test_result_for_packets_that_breaks_a_rule(data: bytes) -> None:
    with pytest.raises(FrameError):
        frame.decode_whole(data, WHOLE)


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
        (result(2, effects=(effect(3, (66, 65_536)),), tail=bytes(65_536)), "a key of 65536 bytes"),
    ],
)
def test_broken_results_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        decode_result(data, BATCH)


FEW = (3, 33)
"""Where some bytes are in any result, that many fields can refer to."""


@pytest.mark.parametrize(
    "data",
    [
        result(3, b"\x02\x02\x00", (change(0, 2, payload=FEW), change(1, 2, payload=FEW))),
        result(3, b"\x02\x02\x00", (change(0, 4, properties=FEW), change(1, 2 | 8, payload=FEW))),
        result(3, b"\x02\x00\x00", (change(0, 2 | 4, payload=FEW, properties=FEW),)),
        result(3, None, (), (effect(frame.METRIC, FEW), effect(frame.METRIC, FEW))),
        result(3, None, (), (effect(frame.STATE_PUT, FEW, FEW),)),
        result(3, None, (), (effect(frame.STORE, (99, 1), FEW), effect(frame.LOG, FEW)), b"t"),
    ],
    ids=["payloads", "properties", "one message", "effects", "one effect", "texts"],
)
def test_bytes_that_many_fields_refer_to_count_for_each(data: bytes) -> None:
    """Or a result of four megabytes would have the host copy gigabytes."""
    fields = WHOLE.fields()
    decode_result(data, fields, room=100)
    with pytest.raises(FrameError, match="fields of more than 60 bytes in all"):
        decode_result(data, fields, room=60)


def test_bytes_that_many_payloads_refer_to_count_for_each() -> None:
    data = result(3, b"\x02\x02\x00", (change(0, 2, payload=FEW), change(1, 2, payload=FEW)))
    frame.decode_whole(data, WHOLE, 66)
    with pytest.raises(FrameError, match="fields of more than 65 bytes in all"):
        frame.decode_whole(data, WHOLE, 65)


def test_fields_that_stay_as_they_are_do_not_count() -> None:
    data = result(2, b"\x02\x00", (change(0, 8, topic=FEW, payload=FEW, properties=FEW, qos=1),))
    assert decode_result(data, BATCH, room=0).changes[0].qos == 1


@pytest.mark.parametrize("kind", [frame.LOG, frame.ALERT])
def test_of_a_long_text_no_more_is_copied_than_is_shown(kind: int) -> None:
    data = result(1, effects=(effect(kind, (65, 1), (66, 1_000_000)),), tail=b"t" + bytes(1_000_000))
    (found,) = decode_result(data, BATCH[:1]).effects
    assert len(found.second) == 4 * frame.LONGEST_TEXT


def test_text() -> None:
    longest = frame.LONGEST_TEXT
    assert frame.text("\U0001f300".encode() * 2000) == "\U0001f300" * longest
    assert frame.text(b"abc", 2) == "ab"
    assert frame.text(b"\xff\xfe") == "\ufffd\ufffd"


def test_megabytes_that_are_no_text_hold_nobody_up() -> None:
    """Other threads do not run while they are read, which takes some 20 ms."""
    said = b"\xff" * (4 << 20)
    began = time.thread_time()
    frame.text(said)
    assert time.thread_time() - began < 0.005


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
