"""A stream of packets, however it is cut into chunks: runs, prefixes, limits, and bytes that mean nothing."""

from __future__ import annotations

import tracemalloc
from itertools import groupby, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol import packets
from broker.protocol.decode import Decoder
from broker.protocol.errors import MalformedPacket, ProtocolError
from tests.protocol import wire
from tests.protocol.samples import (
    CONNECTED,
    EVERY,
    MAX,
    SAMPLES,
    VERSIONS,
    Sample,
    connected,
    decode,
    only,
    refusal,
    singles,
)

KINDS = (
    packets.Connect,
    packets.PublishRun,
    packets.Publish,
    packets.AckRun,
    packets.Ack,
    packets.Subscribe,
    packets.Unsubscribe,
    packets.PingReq,
    packets.Disconnect,
    packets.Auth,
)

BROKEN = [
    wire.ack(4, 1) + wire.ack(4, 2) + wire.ack(4, 0) + wire.ack(4, 3),
    wire.packet(0x36, b"\0\1a\0\1\0"),
    wire.packet(0x20, b"\0\0"),
    wire.packet(0x81, b""),
    wire.publish("a", bytes(2000)),
    wire.subscribe(1, [("a#", 0)]),
    b"\x30\xff\xff\xff\xff\x01",
    b"\xc0\x80\x00",
    b"\x00\x00",
]


def fed(stream: bytes, cuts: list[int], limit: int = 1000) -> list[Any]:
    """What comes out of a connection whose bytes arrive cut at these places."""
    decoder = Decoder(limit)
    found: list[Any] = []
    for start, stop in pairwise([0, *sorted(cuts), len(stream)]):
        found += singles(decoder.feed(stream[start:stop]))
    return found


@st.composite
def cut_up(draw: st.DrawFn, stream: bytes) -> list[int]:
    return draw(st.lists(st.integers(0, len(stream)), max_size=10))


# -- whole packets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", EVERY)
def test_every_truncation_waits_for_the_rest(sample: Sample) -> None:
    whole = only(sample.data, sample.version)
    for length in range(len(sample.data)):
        decoder = connected(sample.version)
        assert decoder.feed(sample.data[:length]) == []
        assert singles(decoder.feed(sample.data[length:])) == [whole]


@pytest.mark.parametrize("sample", EVERY)
def test_body_cut_short_is_refused_where_it_makes_no_packet(sample: Sample) -> None:
    accepted = {
        length
        for length in range(len(sample.body))
        if not isinstance(
            decode(wire.packet(sample.data[0], sample.body[:length]), sample.version)[-1], ProtocolError
        )
    }
    assert accepted == sample.ends


@pytest.mark.parametrize("version", VERSIONS)
def test_each_chunk_size_gives_the_same_packets(version: int) -> None:
    samples = SAMPLES[version]
    stream = CONNECTED[version] + b"".join(sample.data * 2 for sample in samples)
    expected = singles(Decoder(MAX).feed(CONNECTED[version])) + [
        only(sample.data, version) for sample in samples for _ in range(2)
    ]
    for size in range(1, len(stream) + 1):
        assert fed(stream, list(range(size, len(stream), size))) == expected


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(VERSIONS), st.data())
def test_any_cut_into_chunks_gives_the_same_packets(version: int, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.sampled_from(SAMPLES[version]), max_size=20))
    ending = data.draw(st.sampled_from([b"", *BROKEN]))
    stream = CONNECTED[version] + b"".join(sample.data for sample in drawn) + ending
    expected = singles(Decoder(MAX).feed(CONNECTED[version])) + [
        only(sample.data, version) for sample in drawn
    ]
    if ending:
        expected += singles(decode(ending, version, 1000))
        assert isinstance(expected[-1], tuple)
    assert fed(stream, data.draw(cut_up(stream))) == expected


def test_large_packet_in_many_pieces() -> None:
    payload = bytes(range(256)) * 2000
    data = wire.publish("t", payload, 1, 1, 4)
    decoder = connected(4)
    found = [item for start in range(0, len(data), 1000) for item in decoder.feed(data[start : start + 1000])]
    assert [item.payload for item in found] == [payload]


def test_packet_sent_in_tiny_pieces_costs_its_size() -> None:
    data = wire.publish("t", bytes(200_000), 1, 1, 4)[:-1]
    decoder = connected(4)
    tracemalloc.start()
    try:
        for start in range(0, len(data), 2):
            assert decoder.feed(data[start : start + 2]) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * len(data)


# -- runs --------------------------------------------------------------------------------------------------


def test_runs_are_taken_at_once() -> None:
    data = (
        wire.publish("a", b"x1") * 3
        + wire.publish("a", b"y22")
        + wire.publish("b", b"zz")
        + wire.publish("b", b"zw")
    )
    found = decode(data, 4)
    assert [(run.topic, run.count) for run in found] == [(b"a", 3), (b"a", 1), (b"b", 2)]
    acks = b"".join(wire.ack(4, number) for number in (1, 2, 3)) + wire.ack(5, 4)
    assert [(run.kind, run.packet_ids) for run in decode(acks, 4)] == [(4, [1, 2, 3]), (5, [4])]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(VERSIONS), st.data())
def test_runs_are_as_long_as_they_can_be(version: int, data: st.DataObject) -> None:
    """Each of these stands for a key; what follows with the same key is one run, and PINGREQ never is."""
    publishing = st.builds(
        lambda topic, payload, retain: (
            ("publish", topic, len(payload), retain),
            wire.publish(topic, payload, version=version, retain=retain),
        ),
        st.sampled_from("ab"),
        st.binary(min_size=1, max_size=2),
        st.sampled_from([False, False, False, True]),
    )
    acknowledging = st.builds(
        lambda kind, number: (("ack", kind), wire.ack(kind, number)),
        st.sampled_from([4, 5, 6, 7]),
        st.integers(1, 65535),
    )
    drawn = data.draw(st.lists(publishing | acknowledging | st.just((("ping",), wire.PINGREQ)), max_size=30))
    expected: list[tuple[type, bytes | int]] = []
    for key, group in groupby(drawn, lambda entry: entry[0]):
        members = [raw for _, raw in group]
        if key[0] == "ack":
            expected.append((packets.AckRun, b"".join(members)))
        elif key[0] == "publish" and not key[3]:
            expected.append((packets.PublishRun, b"".join(members)))
        else:
            expected += [(packets.Publish if key[0] == "publish" else packets.PingReq, 1)] * len(members)
    found = decode(b"".join(raw for _, raw in drawn), version)
    assert [(type(item), _raw(item)) for item in found] == expected


def _raw(item: Any) -> bytes | int:
    """A run as the bytes it was read from; 1 for all else."""
    if isinstance(item, packets.PublishRun):
        assert item.count * item.size == len(item.frames)
        return item.frames
    if isinstance(item, packets.AckRun):
        return b"".join(wire.ack(item.kind, number) for number in item.packet_ids)
    return 1


def test_run_ends_with_the_chunk_and_goes_on_in_the_next() -> None:
    one = wire.publish("a", b"xy", version=5)
    decoder = connected(5)
    (first,) = decoder.feed(one * 2 + one[:-1])
    (second,) = decoder.feed(one[-1:] + one)
    assert (first.count, first.frames, second.count, second.frames) == (2, one * 2, 2, one * 2)


def test_what_looks_like_a_head_inside_a_payload_is_none() -> None:
    inner = wire.publish("a", b"")
    outer = wire.publish("a", inner * 3)
    (run,) = decode(outer * 2, 4)
    assert (run.count, run.size) == (2, len(outer))


# -- limits ------------------------------------------------------------------------------------------------


@pytest.mark.spec("MQTT-3.2.2-15")
def test_too_large_is_known_from_the_header() -> None:
    header = wire.publish("a", bytes(2000), version=5)[:3]
    assert refusal(header, limit=1000) == 0x95
    assert refusal(header + b"\xff", limit=1000) == 0x95
    assert refusal(b"\x30\xff\xff\xff\x7f", limit=1000) == 0x95
    assert refusal(b"\x30\xff\xff\xff\xff\x01") == 0x81


@pytest.mark.spec("MQTT-3.2.2-15")
@pytest.mark.parametrize("remaining", [100, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_limit_is_on_the_whole_packet(remaining: int) -> None:
    """Remaining lengths of one to four bytes: the fixed header counts, too."""
    data = wire.packet(0x32, b"\0\1a\0\1" + bytes(remaining - 5))
    (packet,) = decode(data, 4, limit=len(data))
    assert len(packet.payload) == remaining - 5
    assert refusal(data, 4, limit=len(data) - 1) == 0x95


@pytest.mark.spec("MQTT-3.2.2-15")
def test_what_came_before_a_packet_that_is_too_large_is_kept() -> None:
    ping, error = decode(wire.PINGREQ + wire.publish("a", bytes(2000))[:3], 4, limit=1000)
    assert isinstance(ping, packets.PingReq)
    assert error.reason == 0x95


@pytest.mark.spec("MQTT-1.5.5-1")
@pytest.mark.parametrize("data", [b"\xc0\x80\x00", b"\xc0\x80\x80\x00", b"\xc0\x80\x80\x80\x00"])
def test_lengths_take_the_fewest_bytes(data: bytes) -> None:
    assert refusal(data) == 0x81


@pytest.mark.spec("MQTT-1.5.5-1")
def test_a_length_has_four_bytes_at_most() -> None:
    assert refusal(b"\xc0\x80\x80\x80\x80") == 0x81
    assert decode(b"\xc0\x80\x80\x80") == []


# -- the first packet --------------------------------------------------------------------------------------


@pytest.mark.spec("MQTT-3.1.0-1")
@pytest.mark.parametrize(
    "data", [wire.PINGREQ, wire.publish("a"), wire.packet(0x20, b"\0\0"), wire.packet(0, b"")]
)
def test_first_packet_has_to_be_connect(data: bytes) -> None:
    (found,) = Decoder(MAX).feed(data)
    assert (type(found), found.reason) == (ProtocolError, 0x82)


@pytest.mark.spec("MQTT-3.1.0-1", "MQTT-2.1.3-1")
def test_first_packet_is_judged_by_its_first_bytes() -> None:
    for stranger in (b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n"):
        (found,) = Decoder(MAX).feed(stranger)
        assert (type(found), found.reason) == (ProtocolError, 0x82)
    (found,) = Decoder(MAX).feed(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # how TLS begins
    assert (type(found), found.reason) == (MalformedPacket, 0x81)
    (found,) = Decoder(MAX).feed(b"\x11\x7f")
    assert (type(found), found.reason) == (MalformedPacket, 0x81)


def test_nothing_comes_after_an_error() -> None:
    decoder = connected(4)
    found = decoder.feed(wire.PINGREQ + b"\xc1\x00" + wire.PINGREQ)
    assert singles(found) == [packets.PingReq(), (MalformedPacket, 0x81)]
    assert decoder.failed
    assert decoder.feed(wire.PINGREQ) == []


# -- bytes that mean nothing -------------------------------------------------------------------------------


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([b"", *CONNECTED.values()]), st.binary(max_size=200), st.data())
def test_random_bytes_never_raise(greeting: bytes, noise: bytes, data: st.DataObject) -> None:
    check_any_bytes(greeting + noise, data.draw(cut_up(greeting + noise)))


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(VERSIONS), st.data())
def test_mutated_packets_never_raise(version: int, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.sampled_from(SAMPLES[version]), min_size=1, max_size=4))
    stream = bytearray(CONNECTED[version] + b"".join(sample.data for sample in drawn))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    check_any_bytes(bytes(stream), data.draw(cut_up(bytes(stream))))


def check_any_bytes(stream: bytes, cuts: list[int]) -> None:
    """Packets, then at most one error; the same for each way of cutting the stream."""
    decoder = Decoder(1000)
    found = decoder.feed(stream)
    good = found[:-1] if decoder.failed else found
    assert all(isinstance(item, KINDS) for item in good)
    if decoder.failed:
        assert isinstance(found[-1], ProtocolError)
        assert decoder.feed(b"more") == []
    assert fed(stream, cuts) == singles(found)
