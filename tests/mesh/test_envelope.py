"""Envelopes and control frames: what is written is read, whatever is cut is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.message import Message, Run
from edge_mesh import answers, control, envelope
from edge_mesh.control import Ack, ControlError, Ping, Pong
from edge_mesh.envelope import (
    EnvelopeError,
    decode_header,
    decode_live,
    decode_records,
    encode,
    encode_record,
    encode_run,
    messages_in,
)
from tests.simulator.batches import one_by_one

TOPICS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0+#$"), min_size=1, max_size=12
)
MESSAGES = st.builds(
    Message,
    TOPICS,
    st.binary(max_size=40),
    st.integers(0, 2),
    st.booleans(),
    st.binary(max_size=10),
    st.just(0.0) | st.floats(1000.0, 2000.0),
    st.just("device"),
    st.sampled_from(["", "eu", "us-1"]),
    st.integers(0, 1 << 60),
)
NOW = 500.0


def seen(message: Message) -> tuple[object, ...]:
    return (
        message.topic,
        message.payload,
        message.qos,
        message.retain,
        message.properties,
        message.expires_at,
        message.stamp,
    )


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=10), st.integers(0, 10))
def test_messages_cross(messages: list[Message], skip: int) -> None:
    records = [encode_record(message, message.origin) for message in messages]
    data = encode(envelope.DURABLE, "sender", records, NOW, epoch=3, after=4, first=5)
    header = decode_header(data)
    assert header[:7] == (envelope.DURABLE, "sender", 3, 4, 5, len(messages), NOW)
    found = decode_records(data, header, NOW, skip)
    assert [seen(message) for message in found] == [seen(message) for message in messages[skip:]]
    assert [m.origin for m in found] == [m.origin or "sender" for m in messages[skip:]]
    assert not any(message.publisher for message in found), "the publisher's name never leaves its node"


RUNS = st.builds(
    lambda topic, size, count, byte: Run(topic, bytes((byte + at) % 256 for at in range(size * count)), size),
    TOPICS,
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(0, 255),
)


@settings(deadline=None)
@given(st.lists(RUNS, max_size=4), st.data())
def test_runs_cross_and_no_part_of_one_is_read(runs: list[Run], data: st.DataObject) -> None:
    records = [record for run in runs for record, _ in encode_run(run)]
    envelope_data = encode(envelope.LIVE, "sender", records, NOW)
    found = decode_live(envelope_data, decode_header(envelope_data), NOW)
    sent = [message for run in runs for message in run.messages()]
    assert [seen(message) for message in one_by_one(found)] == [seen(message) for message in sent]
    assert all(message.origin == "sender" for message in one_by_one(found))
    if runs:
        broken = envelope_data[: data.draw(st.integers(0, len(envelope_data) - 1))]
        with pytest.raises(EnvelopeError):
            decode_live(broken, decode_header(broken), NOW)


def test_a_long_run_is_several_records_and_a_single_message_is_an_ordinary_one() -> None:
    run = Run("t", bytes(3 * 40_000), 40_000)
    assert [(len(record), count) for record, count in encode_run(run)] == [(40_008, 1)] * 3
    assert next(encode_run(run))[0] == encode_record(Message("t", bytes(40_000)))
    parts = list(encode_run(Run("t", bytes(100_000), 10)))
    assert sum(count for _, count in parts) == 10_000
    assert [count for _, count in parts] == [messages_in(record) for record, _ in parts]
    assert all(len(record) <= envelope.RUN_BYTES + 12 for record, _ in parts)


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (envelope.DURABLE, next(encode_run(Run("t", b"abab", 2)))[0]),
        (envelope.ANSWER, next(encode_run(Run("t", b"abab", 2)))[0]),
        (envelope.LIVE, encode_record(Message("t", b"", retain=True))),
        (envelope.LIVE, bytes.fromhex("03 0100 00000000 02000000 74")),
        (envelope.LIVE, bytes.fromhex("03 0100 02000000 00000000 74 6162")),
        (envelope.LIVE, bytes.fromhex("03 0100 02000000 ffffffff 74 6162")),
    ],
    ids=["durable run", "run in an answer", "retained and live", "of nothing", "none", "far too many"],
)
def test_what_a_lane_does_not_carry_is_refused(kind: int, record: bytes) -> None:
    data = encode(kind, "sender", [record], NOW, after=0, first=1)
    read = decode_live if kind == envelope.LIVE else decode_records
    with pytest.raises(EnvelopeError):
        read(data, decode_header(data), NOW)


def test_expiry_follows_the_receivers_clock() -> None:
    records = [
        encode_record(Message("t", b"", 1, expires_at=NOW + 10)),
        encode_record(Message("t", b"", 1, expires_at=NOW)),
    ]
    data = encode(envelope.LIVE, "sender", records, NOW)
    found = decode_records(data, decode_header(data), 9000.0)
    assert [message.expires_at for message in found] == [9010.0]


@settings(deadline=None, max_examples=30)
@given(st.lists(MESSAGES, min_size=1, max_size=3))
def test_every_truncation_and_addition_is_refused(messages: list[Message]) -> None:
    data = encode(envelope.LIVE, "sender", [encode_record(m, m.origin) for m in messages], NOW)
    for broken in [data[:length] for length in range(len(data))] + [data + b"x"]:
        with pytest.raises(EnvelopeError):
            decode_records(broken, decode_header(broken), NOW)


@settings(deadline=None, max_examples=300)
@given(st.lists(MESSAGES, min_size=1, max_size=3), st.data())
def test_changed_bytes_never_raise_anything_else(messages: list[Message], data: st.DataObject) -> None:
    raw = bytearray(encode(envelope.LIVE, "sender", [encode_record(m, m.origin) for m in messages], NOW))
    for _ in range(3):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_records(bytes(raw), decode_header(bytes(raw)), NOW)
    except EnvelopeError:
        return
    for message in found:
        assert message.topic
        assert message.topic[0] != "$"
        assert not {"+", "#", "\0"} & set(message.topic)


@pytest.mark.parametrize("topic", ["$SYS/x", "a/#", "+", ""])
def test_topics_that_do_not_travel_are_refused(topic: str) -> None:
    data = encode(envelope.LIVE, "sender", [encode_record(Message(topic, b""))], NOW)
    with pytest.raises(EnvelopeError):
        decode_records(data, decode_header(data), NOW)


def test_answers_come_in_parts() -> None:
    records = [encode_record(Message("t", bytes(100_000))) for _ in range(10)]
    parts = [decode_header(part) for part in answers.parts("node", records, NOW)]
    assert len(parts) > 1
    assert sum(part.total for part in parts) == 10
    assert answers.is_complete(parts)
    assert not answers.is_complete(parts[1:])
    assert answers.is_complete([decode_header(part) for part in answers.parts("node", [], NOW)])


@pytest.mark.parametrize(
    "frame",
    [
        Ack(5, 6, True),
        Ack(0, 0, False),
        Ping(1.5, 7, 8, 1 << 63),
        Pong(2.5, 1e9, "0.1.0"),
        Pong(2.5, -1.0, ""),
    ],
)
def test_control_frames(frame: Ack | Ping | Pong) -> None:
    data = frame.encode()
    assert control.decode(data) == frame
    for broken in [data[:length] for length in range(len(data))] + [data + b"x", b"\x09" + data[1:]]:
        with pytest.raises(ControlError):
            control.decode(broken)


def test_pong_byte_by_byte() -> None:
    data = Pong(1.5, 2.0, "1.2").encode()
    assert data == bytes.fromhex("0303000000000000 000000000000f83f 0000000000000040 312e32")
    assert len(Pong(1.5, 2.0, "v" * 300).encode()) == 24 + 255


@pytest.mark.parametrize(
    ("at", "changed"),
    [
        (1, b"\x04"),
        (2, b"\x01"),
        (7, b"\x01"),
        (8, b"\x00\x00\x00\x00\x00\x00\xf0\x7f"),
        (16, b"\x00\x00\x00\x00\x00\x00\xf8\x7f"),
        (24, b"\x00"),
        (25, b"\xc3"),
    ],
)
def test_pong_is_read_strictly(at: int, changed: bytes) -> None:
    data = Pong(1.5, 2.0, "1.2").encode()
    with pytest.raises(ControlError):
        control.decode(data[:at] + changed + data[at + len(changed) :])
