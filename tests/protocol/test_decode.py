"""A client's bytes as packets: every type, every truncation, every way to cut a stream into chunks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol import packets
from broker.protocol.decode import Decoder
from broker.protocol.errors import MalformedPacket, ProtocolError, UnsupportedVersion
from tests.protocol import wire

MAX = 1 << 20

CONNECTED = {version: wire.connect(version=version) for version in (3, 4, 5)}


def decode(data: bytes, version: int = 5, limit: int = MAX) -> list[Any]:
    """What comes out behind a CONNECT."""
    decoder = Decoder(limit)
    assert len(decoder.feed(CONNECTED[version])) == 1
    return decoder.feed(data)


def singles(found: list[Any]) -> list[Any]:
    """Runs taken apart: one packet each."""
    out: list[Any] = []
    for item in found:
        if isinstance(item, packets.PublishRun):
            for start in range(0, item.count * item.size, item.size):
                payload = item.frames[start + item.payload_at : start + item.size]
                out.append(packets.Publish(item.topic, payload, 0, False, False, 0, b"", None, 0))
        elif isinstance(item, packets.AckRun):
            out += [packets.Ack(item.kind, number, 0, {}) for number in item.packet_ids]
        elif isinstance(item, ProtocolError):
            out.append((type(item), item.reason))
        else:
            out.append(item)
    return out


def only(data: bytes, version: int = 5) -> Any:
    (found,) = singles(decode(data, version))
    return found


def refusal(data: bytes, version: int = 5, limit: int = MAX) -> int:
    """The reason code of the ProtocolError that these bytes end in."""
    found = decode(data, version, limit)
    assert isinstance(found[-1], ProtocolError), found
    return found[-1].reason


USER = wire.props((0x26, ("k", "v")))
REASON = wire.props((0x1F, "because"))

VALID = {
    5: [
        wire.publish("t", b"payload", version=5),
        wire.publish("t", b"payload", 1, 7, 5),
        wire.publish("t/é", b"", 2, 65535, 5, retain=True, dup=True),
        wire.publish("t", b"x", 1, 7, 5, properties=wire.props((0x02, 5), (0x23, 3), (0x26, ("a", "b")))),
        wire.publish("", b"x", 0, 0, 5, properties=wire.props((0x23, 3))),
        *(wire.ack(kind, 258) for kind in (4, 5, 6, 7)),
        *(wire.ack(kind, 1, 0x92, REASON + USER) for kind in (6, 7)),
        *(wire.ack(kind, 1, 0x97) for kind in (4, 5)),
        wire.subscribe(1, [("a/+", 1), ("$share/g/b/#", 0x2A)], 5, wire.props((0x0B, 300)) + USER),
        wire.unsubscribe(2, ["a/+", "b"], 5, USER),
        wire.PINGREQ,
        wire.disconnect(5),
        wire.disconnect(5, 4, wire.props((0x11, 10)) + REASON + USER),
        wire.auth(0x18, wire.props((0x15, "m"), (0x16, b"d")) + USER),
    ],
    4: [
        wire.publish("t", b"payload"),
        wire.publish("t", b"payload", 1, 7),
        wire.publish("t", b"", 2, 7, retain=True, dup=True),
        *(wire.ack(kind, 258) for kind in (4, 5, 6, 7)),
        wire.subscribe(1, [("a/+", 1), ("b/#", 2)]),
        wire.unsubscribe(2, ["a/+", "b"]),
        wire.PINGREQ,
        wire.disconnect(),
    ],
}
VALID[3] = VALID[4]
EVERY = [(version, data) for version, all_of in VALID.items() for data in all_of]


@pytest.mark.spec("MQTT-2.2.1-2")
def test_publish_of_each_kind() -> None:
    assert only(wire.publish("a", b"x", version=5)) == packets.Publish(
        b"a", b"x", 0, False, False, 0, b"", None, 0
    )
    assert only(wire.publish("a", b"x", 1, 7, 4, True, True), 4) == packets.Publish(
        b"a", b"x", 1, True, True, 7, b"", None, 0
    )
    kept = wire.props(
        (0x01, 1), (0x03, "text"), (0x08, "r"), (0x09, b"\x00"), (0x26, ("a", "1")), (0x26, ("a", "2"))
    )
    full = wire.publish("a", b"x", 2, 7, 5, properties=wire.props((0x02, 60), (0x23, 9)) + kept)
    assert only(full) == packets.Publish(b"a", b"x", 2, False, False, 7, kept, 60, 9)


def test_other_packets() -> None:
    assert only(wire.subscribe(9, [("a", 0x2D)], 5, wire.props((0x0B, 268_435_455)))) == packets.Subscribe(
        9, [packets.Subscription("a", 1, True, True, 2)], 268_435_455, {0x0B: 268_435_455}
    )
    assert only(wire.unsubscribe(9, ["a", "b"], 4), 4) == packets.Unsubscribe(9, ["a", "b"], {})
    assert only(wire.disconnect(5, 4, wire.props((0x11, 7)))) == packets.Disconnect(4, {0x11: 7})
    assert only(wire.auth(0x19, wire.props((0x15, "m")))) == packets.Auth(0x19, {0x15: "m"})
    assert only(wire.ack(4, 3, 0x10, USER)) == packets.Ack(4, 3, 0x10, {0x26: [("k", "v")]})
    assert only(wire.PINGREQ) == packets.PingReq()


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


@pytest.mark.parametrize(("version", "data"), EVERY)
def test_every_truncation_waits_for_the_rest(version: int, data: bytes) -> None:
    whole = singles(decode(data, version))
    for length in range(len(data)):
        decoder = Decoder(MAX)
        decoder.feed(CONNECTED[version])
        assert decoder.feed(data[:length]) == []
        assert singles(decoder.feed(data[length:])) == whole


@pytest.mark.parametrize(("version", "data"), EVERY)
def test_every_body_cut_short_is_an_error_or_another_packet(version: int, data: bytes) -> None:
    body = data[2:]
    for length in range(len(body)):
        for item in decode(wire.packet(data[0], body[:length]), version):
            assert isinstance(item, (ProtocolError, tuple, packets.PublishRun))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([3, 4, 5]), st.data())
def test_any_cut_into_chunks_gives_the_same_packets(version: int, data: st.DataObject) -> None:
    stream = b"".join(data.draw(st.lists(st.sampled_from(VALID[version][:-1]), min_size=1, max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder(MAX)
    decoder.feed(CONNECTED[version])
    found: list[Any] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += singles(decoder.feed(stream[start:stop]))
    assert found == singles(decode(stream, version))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([0, 3, 4, 5]), st.lists(st.binary(max_size=60), max_size=4))
def test_random_bytes_never_raise(version: int, chunks: list[bytes]) -> None:
    decoder = Decoder(1000)
    if version:
        decoder.feed(CONNECTED[version])
    for chunk in chunks:
        found = decoder.feed(chunk)
        assert not any(isinstance(item, ProtocolError) for item in found[:-1])
    if decoder.failed:
        assert decoder.feed(b"more") == []


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(EVERY), st.data())
def test_mutated_packets_never_raise(packet: tuple[int, bytes], data: st.DataObject) -> None:
    version, raw = packet
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    decode(bytes(changed), version)


def test_large_packet_in_many_pieces() -> None:
    payload = bytes(range(256)) * 2000
    data = wire.publish("t", payload, 1, 1, 4)
    decoder = Decoder(MAX)
    decoder.feed(CONNECTED[4])
    found = [item for start in range(0, len(data), 1000) for item in decoder.feed(data[start : start + 1000])]
    assert [item.payload for item in found] == [payload]


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.spec("MQTT-3.1.0-1")
@pytest.mark.parametrize(
    "data", [wire.PINGREQ, wire.publish("a"), wire.packet(0x20, b"\0\0"), wire.packet(0, b"")]
)
def test_first_packet_has_to_be_connect(data: bytes) -> None:
    (found,) = Decoder(MAX).feed(data)
    assert isinstance(found, ProtocolError)


def test_first_packet_is_judged_by_its_first_bytes() -> None:
    (found,) = Decoder(MAX).feed(b"GET / HTTP/1.1\r\n")
    assert isinstance(found, ProtocolError)


@pytest.mark.spec("MQTT-3.1.0-2")
def test_second_connect() -> None:
    assert refusal(CONNECTED[5]) == 0x82


@pytest.mark.parametrize("kind", [2, 9, 11, 13])
def test_packets_that_only_servers_send(kind: int) -> None:
    assert refusal(wire.packet(kind << 4, b"\0\0")) == 0x82


@pytest.mark.spec(
    "MQTT-2.1.3-1", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1", "MQTT-3.14.1-1", "MQTT-3.15.1-1"
)
@pytest.mark.parametrize(
    "data",
    [
        wire.packet(0x80, b"\0\1\0\0\1a\0"),
        wire.packet(0xA0, b"\0\1\0\0\1a"),
        wire.packet(0x60, b"\0\1"),
        wire.packet(0x41, b"\0\1"),
        wire.packet(0xC1, b""),
        wire.packet(0xE1, b""),
        wire.packet(0xF1, b""),
    ],
)
def test_reserved_flags(data: bytes) -> None:
    assert refusal(data) == 0x81


def test_packet_type_zero_and_auth_below_5() -> None:
    assert refusal(wire.packet(0, b"")) == 0x81
    assert refusal(wire.auth(), 4) == 0x81


@pytest.mark.spec("MQTT-3.3.1-4", "MQTT-3.3.1-2")
@pytest.mark.parametrize("first", [0x36, 0x37, 0x38, 0x39])
def test_publish_flags(first: int) -> None:
    assert refusal(wire.packet(first, b"\0\1a\0\1\0")) == 0x81


@pytest.mark.spec("MQTT-2.2.1-3")
@pytest.mark.parametrize(
    "data",
    [
        wire.publish("a", b"", 1, 0, 5),
        wire.ack(4, 0),
        wire.ack(6, 1) + wire.ack(6, 0),
        wire.ack(5, 0, 0x10),
        wire.subscribe(0, [("a", 0)], 5),
        wire.unsubscribe(0, ["a"], 5),
    ],
)
def test_packet_identifier_zero(data: bytes) -> None:
    assert refusal(data) == 0x82


@pytest.mark.spec("MQTT-3.2.2-15")
def test_too_large_is_known_from_the_header() -> None:
    header = wire.publish("a", bytes(2000), version=5)[:3]
    assert refusal(header, limit=1000) == 0x95
    assert refusal(b"\x30\xff\xff\xff\x7f", limit=1000) == 0x95
    assert refusal(b"\x30\xff\xff\xff\xff\x01") == 0x81


@pytest.mark.spec("MQTT-1.5.5-1")
def test_lengths_take_the_fewest_bytes() -> None:
    assert refusal(b"\xc0\x80\x00") == 0x81


@pytest.mark.parametrize("version", [4, 5])
def test_publish_needs_a_topic(version: int) -> None:
    assert refusal(wire.publish("", b"x", version=version), version) in (0x81, 0x82)
    assert refusal(wire.publish("", b"x", 1, 1, version), version) == 0x82


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\5ab", b"\0\1a"])
def test_publish_cut_short(data: bytes) -> None:
    assert refusal(wire.packet(0x32, data)) == 0x81
    if data != b"\0\1a":
        assert refusal(wire.packet(0x30, data), 4) == 0x81


@pytest.mark.spec("MQTT-3.3.4-6")
def test_subscription_identifier_from_a_client() -> None:
    assert refusal(wire.publish("a", b"", 0, 0, 5, properties=wire.props((0x0B, 1)))) == 0x82


@pytest.mark.spec("MQTT-3.3.2-8")
def test_topic_alias_zero() -> None:
    assert refusal(wire.publish("a", b"", 0, 0, 5, properties=wire.props((0x23, 0)))) == 0x94


@pytest.mark.spec("MQTT-3.3.2-14")
def test_response_topic_with_wildcards() -> None:
    assert refusal(wire.publish("a", b"", 0, 0, 5, properties=wire.props((0x08, "a/#")))) == 0x82


@pytest.mark.spec("MQTT-3.8.3-2", "MQTT-3.10.3-2")
def test_nothing_to_subscribe_or_unsubscribe() -> None:
    for version in (4, 5):
        assert refusal(wire.subscribe(1, [], version), version) == 0x82
        assert refusal(wire.unsubscribe(1, [], version), version) == 0x82


@pytest.mark.spec("MQTT-3.8.3-4", "MQTT-3.8.3-5")
@pytest.mark.parametrize(
    ("version", "options"), [(4, 3), (4, 4), (4, 0x80), (5, 3), (5, 0x40), (5, 0x80), (5, 0x30)]
)
def test_subscription_options(version: int, options: int) -> None:
    assert refusal(wire.subscribe(1, [("a", options)], version), version) in (0x81, 0x82)


@pytest.mark.spec("MQTT-3.8.3-4")
def test_no_local_on_a_shared_subscription() -> None:
    assert refusal(wire.subscribe(1, [("$share/g/a", 4)], 5)) == 0x82


@pytest.mark.spec("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.8.2-1", "MQTT-4.8.2-2", "MQTT-4.7.3-1")
@pytest.mark.parametrize(
    "text", ["a#", "#/a", "a+/b", "+a", "", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g/a#"]
)
def test_topic_filters(text: str) -> None:
    assert refusal(wire.subscribe(1, [(text, 0)], 5)) == 0x8F
    assert refusal(wire.unsubscribe(1, [text], 5)) == 0x8F


@pytest.mark.spec("MQTT-1.5.4-1", "MQTT-1.5.4-2")
@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"a\0b", b"\xc0\x80"])
def test_ill_formed_text(raw: bytes) -> None:
    assert refusal(wire.packet(0x82, b"\0\1\0" + wire.binary(raw) + b"\0")) == 0x81
    assert refusal(wire.packet(0xE0, b"\0" + wire.block(b"\x1f" + wire.binary(raw), 5))) == 0x81


@pytest.mark.spec("MQTT-1.5.4-3")
def test_byte_order_mark_is_kept() -> None:
    """[MQTT-1.5.4-3]: U+FEFF is a character like others."""
    assert only(wire.unsubscribe(1, ["\ufeffa"], 4), 4).topic_filters == ["\ufeffa"]


@pytest.mark.spec(
    "MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-3.6.2-1", "MQTT-3.7.2-1", "MQTT-3.14.2-1", "MQTT-3.15.2-1"
)
def test_reason_codes_belong_to_their_packets() -> None:
    assert refusal(wire.ack(4, 1, 0x92)) == 0x82
    assert refusal(wire.ack(6, 1, 0x10)) == 0x82
    assert refusal(wire.disconnect(5, 0x8D)) == 0x82
    assert refusal(wire.auth(0x10)) == 0x82


def test_lengths_of_acknowledgements_and_disconnect() -> None:
    assert refusal(wire.packet(0x40, b"\0")) == 0x81
    assert refusal(wire.packet(0x40, b"\0\1\0"), 4) == 0x81
    assert refusal(wire.packet(0x40, b"\0\1\0\0x")) == 0x81
    assert refusal(wire.packet(0xE0, b"\0"), 4) == 0x81
    assert refusal(wire.packet(0xE0, b"\0\0x")) == 0x81
    assert refusal(wire.packet(0xC0, b"x")) == 0x81


def test_errors_are_of_one_kind() -> None:
    assert issubclass(MalformedPacket, ProtocolError)
    assert issubclass(UnsupportedVersion, ProtocolError)


@pytest.mark.spec(
    "MQTT-1.5.7-1",
    "MQTT-3.3.2-1",
    "MQTT-3.3.2-13",
    "MQTT-3.3.2-19",
    "MQTT-3.8.3-1",
    "MQTT-3.10.3-1",
    "MQTT-3.1.3-4",
)
@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"a\0b"])
def test_every_string_is_checked(raw: bytes) -> None:
    bad, good = wire.binary(raw), wire.binary(b"x")
    for property_bytes in (b"\x08" + bad, b"\x03" + bad, b"\x26" + bad + good, b"\x26" + good + bad):
        assert refusal(wire.publish("a", b"", version=5, properties=property_bytes)) == 0x81
    assert refusal(wire.packet(0x82, b"\0\1\0" + bad + b"\0")) == 0x81
    assert refusal(wire.packet(0xA2, b"\0\1\0" + bad)) == 0x81
