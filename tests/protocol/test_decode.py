"""What each packet of a client means, and what is refused in it. Streams of packets are in test_streams.py."""

from __future__ import annotations

import pytest

from broker.protocol import packets
from broker.protocol.errors import MalformedPacket, ProtocolError, UnsupportedVersion
from tests.protocol import wire
from tests.protocol.samples import CONNECTED, REASON, USER, VERSIONS, decode, only, refusal, singles

PUBACK, PUBREC, PUBREL, PUBCOMP = 4, 5, 6, 7
METHOD = wire.props((0x15, "m"))

PUBLISH_REASONS = {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
DISCONNECT_REASONS = {
    *(0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93),
    *(0x94, 0x95, 0x96, 0x97, 0x98, 0x99),
}


def accepted(data: bytes, version: int) -> bool:
    return not isinstance(decode(data, version)[-1], ProtocolError)


# -- PUBLISH -----------------------------------------------------------------------------------------------


@pytest.mark.spec("MQTT-2.2.1-2")
@pytest.mark.spec311("MQTT-2.3.1-5")
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


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_publish_carries_any_payload(version: int, qos: int, retain: bool) -> None:
    for payload in (b"", b"\0", b"\0\0\0", wire.publish("a"), bytes(300)):
        found = only(wire.publish("a/b", payload, qos, 0x1234, version, retain), version)
        assert found == packets.Publish(
            b"a/b", payload, qos, retain, False, 0x1234 if qos else 0, b"", None, 0
        )


@pytest.mark.spec("MQTT-3.3.1-4", "MQTT-3.3.1-2")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flags", range(16))
@pytest.mark.spec311("MQTT-3.3.1-2", "MQTT-3.3.1-4")
def test_publish_flags(version: int, flags: int) -> None:
    qos, dup = flags >> 1 & 3, flags & 8 != 0
    data = wire.publish("a", b"x", qos, 1, version, flags & 1 != 0, dup)
    assert data[0] == 0x30 | flags
    if qos == 3 or (dup and not qos):
        assert refusal(data, version) == 0x81
    else:
        found = only(data, version)
        assert (found.qos, found.retain, found.dup) == (qos, flags & 1 != 0, dup)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publish_needs_a_topic(version: int, qos: int) -> None:
    assert refusal(wire.publish("", b"x", qos, 1, version), version) == 0x82
    if version == 5:
        assert refusal(wire.publish("", b"x", qos, 1, 5, properties=USER)) == 0x82
        assert only(wire.publish("", b"x", qos, 1, 5, properties=wire.props((0x23, 65535)))).alias == 65535


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("first", [0x30, 0x31, 0x32, 0x34])
@pytest.mark.parametrize("body", [b"", b"\0", b"\0\2a", b"\xff\xffab"])
def test_publish_cut_short(version: int, first: int, body: bytes) -> None:
    """Bytes of the next packet must not be taken for the topic."""
    assert refusal(wire.packet(first, body) + wire.publish("aaaa", b"x"), version) == 0x81


@pytest.mark.parametrize("version", VERSIONS)
def test_publish_cut_in_its_packet_identifier(version: int) -> None:
    for body in (b"\0\1a", b"\0\1a\1"):
        assert refusal(wire.packet(0x32, body) + wire.PINGREQ, version) == 0x81


@pytest.mark.parametrize(
    "rest", [b"", b"\x01", b"\x02\x01", b"\x80", b"\x80\x00", b"\x03\x01\x00", b"\x80\x80\x80\x80\x01"]
)
def test_publish_of_5_cut_in_its_properties(rest: bytes) -> None:
    assert refusal(wire.packet(0x30, b"\0\1a" + rest) + wire.PINGREQ) == 0x81
    assert refusal(wire.packet(0x32, b"\0\1a\0\1" + rest) + wire.PINGREQ) == 0x81


def test_properties_of_publish_are_told_from_its_payload() -> None:
    found = only(wire.publish("a", USER, 0, 0, 5, properties=USER))
    assert (found.properties, found.payload) == (USER, USER)


@pytest.mark.spec("MQTT-3.3.4-6")
def test_subscription_identifier_from_a_client() -> None:
    assert refusal(wire.publish("a", b"", 0, 0, 5, properties=wire.props((0x0B, 1)))) == 0x82


@pytest.mark.spec("MQTT-3.3.2-8")
def test_topic_alias_zero() -> None:
    for topic in ("a", ""):
        assert refusal(wire.publish(topic, b"", 0, 0, 5, properties=wire.props((0x23, 0)))) == 0x94


@pytest.mark.spec("MQTT-3.3.2-14")
@pytest.mark.parametrize("topic", ["a/#", "+", ""])
def test_response_topic_is_a_topic_name(topic: str) -> None:
    assert refusal(wire.publish("a", b"", 0, 0, 5, properties=wire.props((0x08, topic)))) == 0x82


# -- acknowledgements --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PUBACK, PUBREC, PUBREL, PUBCOMP])
def test_acknowledgement_in_each_length(kind: int) -> None:
    for version in VERSIONS:
        (run,) = decode(wire.ack(kind, 0xFFFE), version)
        assert run == packets.AckRun(kind, [0xFFFE])
    assert only(wire.ack(kind, 3, 0)) == packets.Ack(kind, 3, 0, {})
    assert only(wire.ack(kind, 3, 0, b"")) == packets.Ack(kind, 3, 0, {})
    assert only(wire.ack(kind, 3, 0, REASON + USER)) == packets.Ack(
        kind, 3, 0, {0x1F: "because", 0x26: [("k", "v")]}
    )


@pytest.mark.parametrize("kind", [PUBACK, PUBREC, PUBREL, PUBCOMP])
def test_acknowledgement_of_a_wrong_length(kind: int) -> None:
    first = wire.ack(kind, 1)[0]
    for version in VERSIONS:
        assert refusal(wire.packet(first, b""), version) == 0x81
        assert refusal(wire.packet(first, b"\1"), version) == 0x81
    for version in (3, 4):
        assert refusal(wire.packet(first, b"\0\1\0"), version) == 0x81
        assert refusal(wire.packet(first, b"\0\1\0\0"), version) == 0x81
    assert refusal(wire.packet(first, b"\0\1\0\0x")) == 0x81


@pytest.mark.spec(
    "MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-3.6.2-1", "MQTT-3.7.2-1", "MQTT-3.14.2-1", "MQTT-3.15.2-1"
)
def test_reason_codes_belong_to_their_packets() -> None:
    for reason in range(256):
        for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
            allowed = PUBLISH_REASONS if kind in (PUBACK, PUBREC) else {0x00, 0x92}
            data = wire.ack(kind, 1, reason)
            if reason in allowed:
                assert only(data) == packets.Ack(kind, 1, reason, {})
            else:
                assert refusal(data) == 0x82
        if reason in DISCONNECT_REASONS:
            assert only(wire.disconnect(5, reason)) == packets.Disconnect(reason, {})
        else:
            assert refusal(wire.disconnect(5, reason)) == 0x82
        if reason in (0x18, 0x19):
            assert only(wire.auth(reason, METHOD)) == packets.Auth(reason, {0x15: "m"})
        else:
            assert refusal(wire.auth(reason, METHOD)) == 0x82


@pytest.mark.spec("MQTT-2.2.1-3")
@pytest.mark.parametrize(
    "data",
    [
        wire.publish("a", b"", 1, 0, 5),
        wire.publish("a", b"", 2, 0, 5, properties=USER),
        wire.ack(PUBACK, 0),
        wire.ack(PUBREL, 1) + wire.ack(PUBREL, 0),
        wire.ack(PUBREC, 0, 0x10),
        wire.subscribe(0, [("a", 0)], 5),
        wire.unsubscribe(0, ["a"], 5),
    ],
)
def test_packet_identifier_zero(data: bytes) -> None:
    assert refusal(data) == 0x82


def test_acknowledgements_before_a_wrong_one_count() -> None:
    data = b"".join(wire.ack(PUBACK, number) for number in (1, 2, 0, 3))
    assert singles(decode(data, 4)) == [
        packets.Ack(PUBACK, 1, 0, {}),
        packets.Ack(PUBACK, 2, 0, {}),
        (ProtocolError, 0x82),
    ]


# -- SUBSCRIBE and UNSUBSCRIBE -----------------------------------------------------------------------------


def test_subscribe_and_unsubscribe() -> None:
    assert only(wire.subscribe(9, [("a", 0x2D)], 5, wire.props((0x0B, 268_435_455)))) == packets.Subscribe(
        9, [packets.Subscription("a", 1, True, True, 2)], 268_435_455, {0x0B: 268_435_455}
    )
    assert only(wire.subscribe(256, [("a/+", 2), ("é/#", 0)], 4), 4) == packets.Subscribe(
        256, [packets.Subscription("a/+", 2), packets.Subscription("é/#", 0)], 0, {}
    )
    assert only(wire.unsubscribe(9, ["a", "b"], 4), 4) == packets.Unsubscribe(9, ["a", "b"], {})
    assert only(wire.unsubscribe(9, ["a"], 5, USER)) == packets.Unsubscribe(9, ["a"], {0x26: [("k", "v")]})


@pytest.mark.spec("MQTT-3.8.3-2", "MQTT-3.10.3-2")
@pytest.mark.spec311("MQTT-3.8.3-3", "MQTT-3.10.3-2")
def test_nothing_to_subscribe_or_unsubscribe() -> None:
    for version in VERSIONS:
        assert refusal(wire.subscribe(1, [], version), version) == 0x82
        assert refusal(wire.unsubscribe(1, [], version), version) == 0x82


@pytest.mark.spec("MQTT-3.8.3-4", "MQTT-3.8.3-5")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.spec311("MQTT-3.8.3-4")
def test_subscription_options(version: int) -> None:
    """Every value of the byte: reserved bits are malformed, values that exist but may not be are errors."""
    reserved = 0xC0 if version == 5 else 0xFC
    for options in range(256):
        data = wire.subscribe(1, [("a", options)], version)
        if options & reserved:
            assert refusal(data, version) == 0x81
        elif options & 3 == 3 or options >> 4 == 3:
            assert refusal(data, version) == 0x82
        else:
            (found,) = only(data, version).subscriptions
            assert found == packets.Subscription(
                "a", options & 3, options & 4 != 0, options & 8 != 0, options >> 4
            )
    missing = wire.string("b")
    head = b"\0\1" + wire.block(b"", version) + wire.string("a") + b"\0"
    assert refusal(wire.packet(0x82, head + missing), version) == 0x81


@pytest.mark.spec("MQTT-3.8.3-4")
def test_no_local_on_a_shared_subscription() -> None:
    assert refusal(wire.subscribe(1, [("$share/g/a", 4)], 5)) == 0x82
    assert only(wire.subscribe(1, [("$shared/g/a", 4)], 5)).subscriptions[0].no_local


@pytest.mark.spec("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.8.2-1", "MQTT-4.8.2-2", "MQTT-4.7.3-1")
@pytest.mark.parametrize(
    "text", ["a#", "#/a", "a+/b", "+a", "", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g/a#"]
)
def test_topic_filters(text: str) -> None:
    assert refusal(wire.subscribe(1, [(text, 0)], 5)) == 0x8F
    assert refusal(wire.subscribe(1, [("fine", 0), (text, 0)], 5)) == 0x8F
    assert refusal(wire.unsubscribe(1, [text], 5)) == 0x8F


def test_topic_filter_as_long_as_can_be() -> None:
    longest = "é" * 32_767 + "a"
    assert only(wire.unsubscribe(1, [longest], 5)).topic_filters == [longest]


def test_subscription_identifier() -> None:
    for identifier in (1, 127, 128, 268_435_455):
        data = wire.subscribe(1, [("a", 0)], 5, wire.props((0x0B, identifier)))
        assert only(data).identifier == identifier
    assert refusal(wire.subscribe(1, [("a", 0)], 5, wire.props((0x0B, 0)))) == 0x82
    assert refusal(wire.subscribe(1, [("a", 0)], 5, wire.props((0x0B, 1), (0x0B, 1)))) == 0x82
    assert refusal(wire.subscribe(1, [("a", 0)], 5, b"\x0b\x80\x80\x80\x80\x01")) == 0x81


# -- PINGREQ, DISCONNECT, AUTH -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_pingreq_and_disconnect_are_empty(version: int) -> None:
    assert only(wire.PINGREQ, version) == packets.PingReq()
    assert refusal(wire.packet(0xC0, b"x"), version) == 0x81
    assert only(wire.disconnect(), version) == packets.Disconnect(0, {})
    if version != 5:
        assert refusal(wire.packet(0xE0, b"\0"), version) == 0x81


def test_disconnect_of_5() -> None:
    assert only(wire.disconnect(5, 4, wire.props((0x11, 7)))) == packets.Disconnect(4, {0x11: 7})
    assert only(wire.disconnect(5, 0, b"")) == packets.Disconnect(0, {})
    assert refusal(wire.packet(0xE0, b"\0\0x")) == 0x81


def test_server_reference_is_the_servers() -> None:
    assert refusal(wire.disconnect(5, 0, wire.props((0x1C, "elsewhere")))) == 0x82


@pytest.mark.spec("MQTT-3.15.2-1")
def test_auth() -> None:
    assert only(wire.auth(0x19, METHOD + wire.props((0x16, b"d")))) == packets.Auth(
        0x19, {0x15: "m", 0x16: b"d"}
    )
    assert refusal(wire.auth()) == 0x82
    assert refusal(wire.auth(0x18)) == 0x82
    assert refusal(wire.auth(0x18, USER)) == 0x82
    assert refusal(wire.auth(0x18, wire.props((0x16, b"d")))) == 0x82
    assert refusal(wire.packet(0xF0, b"\x18" + wire.block(METHOD, 5) + b"x")) == 0x81
    for version in (3, 4):
        assert refusal(wire.auth(0x18), version) == 0x81


# -- the fixed header --------------------------------------------------------------------------------------


@pytest.mark.spec("MQTT-3.1.0-2")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.spec311("MQTT-3.1.0-2")
def test_second_connect(version: int) -> None:
    for again in CONNECTED.values():
        assert refusal(again, version) == 0x82


@pytest.mark.parametrize("kind", [2, 9, 11, 13])
def test_packets_that_only_servers_send(kind: int) -> None:
    assert refusal(wire.packet(kind << 4, b"\0\0")) == 0x82


def test_packet_type_zero() -> None:
    for version in VERSIONS:
        assert refusal(wire.packet(0, b""), version) == 0x81


@pytest.mark.spec(
    "MQTT-2.1.3-1", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1", "MQTT-3.14.1-1", "MQTT-3.15.1-1"
)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.spec311(
    "MQTT-2.2.2-1", "MQTT-2.2.2-2", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1", "MQTT-3.14.1-1"
)
def test_reserved_flags(version: int) -> None:
    """Each packet with each of the sixteen values; 3.1 uses the DUP flag for what is sent again."""
    packets_of_client = [
        *(wire.ack(kind, 1) for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP)),
        wire.subscribe(1, [("a", 0)], version),
        wire.unsubscribe(1, ["a"], version),
        wire.PINGREQ,
        wire.disconnect(),
        *([wire.auth(0x18, METHOD), wire.ack(PUBREL, 1, 0x92)] if version == 5 else []),
    ]
    for data in packets_of_client:
        expected = only(data, version)
        right = {data[0] & 15, data[0] & 15 | 8} if version == 3 else {data[0] & 15}
        for flags in range(16):
            changed = bytes([data[0] & 0xF0 | flags]) + data[1:]
            if flags in right:
                assert only(changed, version) == expected
            else:
                assert refusal(changed, version) == 0x81


# -- strings -----------------------------------------------------------------------------------------------


@pytest.mark.spec("MQTT-1.5.4-1", "MQTT-1.5.4-2")
@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"a\0b", b"\xc0\x80"])
def test_ill_formed_text(raw: bytes) -> None:
    assert refusal(wire.packet(0x82, b"\0\1\0" + wire.binary(raw) + b"\0")) == 0x81
    assert refusal(wire.packet(0xE0, b"\0" + wire.block(b"\x1f" + wire.binary(raw), 5))) == 0x81


@pytest.mark.spec("MQTT-1.5.4-3")
@pytest.mark.spec311("MQTT-1.5.3-3")
def test_byte_order_mark_is_kept() -> None:
    assert only(wire.unsubscribe(1, ["\ufeffa"], 4), 4).topic_filters == ["\ufeffa"]


@pytest.mark.spec("MQTT-1.5.7-1", "MQTT-3.3.2-13", "MQTT-3.3.2-19", "MQTT-3.8.3-1", "MQTT-3.10.3-1")
@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"a\0b"])
def test_every_string_is_checked(raw: bytes) -> None:
    bad, good = wire.binary(raw), wire.binary(b"x")
    for property_bytes in (b"\x08" + bad, b"\x03" + bad, b"\x26" + bad + good, b"\x26" + good + bad):
        assert refusal(wire.publish("a", b"", version=5, properties=property_bytes)) == 0x81
    assert refusal(wire.packet(0x82, b"\0\1\0" + bad + b"\0")) == 0x81
    assert refusal(wire.packet(0xA2, b"\0\1\0" + bad)) == 0x81


def test_errors_are_of_one_kind() -> None:
    assert issubclass(MalformedPacket, ProtocolError)
    assert issubclass(UnsupportedVersion, ProtocolError)
