"""CONNECT, and the properties of every packet."""

from __future__ import annotations

from typing import Any

import pytest

from broker.protocol import encode
from broker.protocol.constants import CONNECT, Prop
from broker.protocol.decode import Decoder
from broker.protocol.errors import MalformedPacket, ProtocolError, UnsupportedVersion
from broker.protocol.packets import Connect, Will
from broker.protocol.properties import ALLOWED, WILL, read_block, write_block
from tests.protocol import wire


def connect(data: bytes) -> Any:
    (found,) = Decoder(1 << 20).feed(data)
    return found


def refusal(data: bytes) -> int:
    found = connect(data)
    assert isinstance(found, ProtocolError), found
    return found.reason


def test_plain() -> None:
    assert connect(wire.connect("me", 4, True, 60)) == Connect(4, "me", True, 60, None, None, None, {})
    assert connect(wire.connect("me", 3, False)) == Connect(3, "me", False, 0, None, None, None, {})


@pytest.mark.spec("MQTT-3.1.2-9", "MQTT-3.1.2-17", "MQTT-3.1.2-19", "MQTT-3.1.3-1", "MQTT-3.1.3-3")
def test_everything() -> None:
    data = wire.connect(
        "é",
        5,
        False,
        65535,
        wire.props((0x11, 7), (0x21, 9), (0x27, 100), (0x22, 3), (0x19, 1), (0x17, 0), (0x26, ("a", "b"))),
        ("w/t", b"\x00", 2, True),
        wire.props((0x18, 5), (0x02, 6), (0x01, 1), (0x26, ("x", "y"))),
        "user",
        b"\xff",
    )
    will = Will("w/t", b"\x00", 2, True, wire.props((0x01, 1), (0x26, ("x", "y"))), 5, 6)
    properties = {0x11: 7, 0x21: 9, 0x27: 100, 0x22: 3, 0x19: 1, 0x17: 0, 0x26: [("a", "b")]}
    assert connect(data) == Connect(5, "é", False, 65535, "user", b"\xff", will, properties)
    for length in range(len(data)):
        decoder = Decoder(1 << 20)
        assert decoder.feed(data[:length]) == []
        assert len(decoder.feed(data[length:])) == 1


@pytest.mark.spec("MQTT-3.1.2-9", "MQTT-3.1.2-16", "MQTT-3.1.2-17", "MQTT-3.1.2-18", "MQTT-3.1.2-19")
@pytest.mark.spec311("MQTT-3.1.2-9", "MQTT-3.1.2-18", "MQTT-3.1.2-19", "MQTT-3.1.2-20", "MQTT-3.1.2-21")
def test_every_body_cut_short_is_refused() -> None:
    for version in (3, 4, 5):
        # 3.1 lets user name and password be missing: there the end of the packet outweighs the flags.
        more = {} if version == 3 else {"username": "u", "password": b"p"}
        data = wire.connect("me", version, will=("t", b"p", 1, False), **more)
        body = data[2:]
        for length in range(len(body)):
            assert isinstance(connect(wire.packet(0x10, body[:length])), ProtocolError)
        assert refusal(wire.packet(0x10, body + b"x")) == 0x81


@pytest.mark.spec("MQTT-3.1.2-1", "MQTT-3.1.2-2")
@pytest.mark.parametrize("version", [0, 1, 2, 6, 0x84])
@pytest.mark.spec311("MQTT-3.1.2-1", "MQTT-3.1.2-2")
def test_versions_that_are_not_served(version: int) -> None:
    found = connect(wire.connect(version=version, name=b"MQTT"))
    assert isinstance(found, UnsupportedVersion)
    assert found.version == version
    assert isinstance(connect(wire.connect(version=4, name=b"MQIsdp")), UnsupportedVersion)
    assert isinstance(connect(wire.connect(name=b"mqtt")), MalformedPacket)


@pytest.mark.spec("MQTT-3.1.2-3", "MQTT-3.1.2-11", "MQTT-3.1.2-12", "MQTT-3.1.2-13", "MQTT-3.1.2-15")
@pytest.mark.parametrize("flags", [0x03, 0x0A, 0x12, 0x22, 0x1E])
@pytest.mark.spec311("MQTT-3.1.2-3", "MQTT-3.1.2-11", "MQTT-3.1.2-13", "MQTT-3.1.2-14", "MQTT-3.1.2-15")
def test_flags(flags: int) -> None:
    for version in (4, 5):
        assert refusal(wire.connect(version=version, flags=flags)) == 0x81


@pytest.mark.spec("MQTT-3.1.2-22")
@pytest.mark.spec311("MQTT-3.1.2-24")
def test_password_without_user_name() -> None:
    assert refusal(wire.connect(version=4, password=b"p")) == 0x81
    assert connect(wire.connect(version=5, password=b"p")).password == b"p"


def test_reserved_flags_of_the_fixed_header() -> None:
    assert refusal(b"\x11" + wire.connect()[1:]) == 0x81


@pytest.mark.parametrize("topic", ["", "a/#", "+"])
def test_will_topic(topic: str) -> None:
    assert refusal(wire.connect(will=(topic, b"", 0, False))) == 0x90


VALUES: dict[int, Any] = {
    0x01: 1,
    0x02: 5,
    0x03: "text",
    0x08: "r/t",
    0x09: b"\x00\x01",
    0x0B: 200,
    0x11: 0xFFFFFFFF,
    0x12: "id",
    0x13: 60,
    0x15: "method",
    0x16: b"data",
    0x17: 1,
    0x18: 10,
    0x19: 0,
    0x1A: "info",
    0x1C: "other",
    0x1F: "why",
    0x21: 10,
    0x22: 10,
    0x23: 10,
    0x24: 1,
    0x25: 0,
    0x27: 1000,
    0x28: 1,
    0x29: 1,
    0x2A: 1,
}


def read(data: bytes, packet: int) -> dict[int, Any]:
    found, _, end = read_block(wire.block(data, 5), 0, packet)
    assert end == len(data) + 1
    return found


def test_every_property_has_a_value_here() -> None:
    assert set(VALUES) | {0x26} == {int(identifier) for identifier in Prop}


@pytest.mark.parametrize("packet", sorted(ALLOWED))
def test_each_packet_takes_its_own_properties_only(packet: int) -> None:
    for identifier, value in VALUES.items():
        data = wire.prop(identifier, value)
        if identifier not in ALLOWED[packet]:
            with pytest.raises(MalformedPacket):
                read(data, packet)
            continue
        needed = wire.prop(Prop.AUTHENTICATION_METHOD, "m") if identifier == Prop.AUTHENTICATION_DATA else b""
        assert read(needed + data, packet)[identifier] == value
        with pytest.raises(ProtocolError) as caught:
            read(needed + data + data, packet)
        assert caught.value.reason == 0x82
        for length in range(1, len(data)):
            with pytest.raises(MalformedPacket):
                read(needed + data[:length], packet)


def test_user_property_may_come_again_in_order() -> None:
    data = wire.props((0x26, ("b", "1")), (0x26, ("a", "2")), (0x26, ("b", "1")))
    assert read(data, WILL) == {0x26: [("b", "1"), ("a", "2"), ("b", "1")]}


@pytest.mark.parametrize(
    ("identifier", "value", "reason"),
    [(0x01, 2, 0x82), (0x17, 2, 0x82), (0x19, 9, 0x82), (0x21, 0, 0x82), (0x27, 0, 0x82)],
)
def test_values(identifier: int, value: int, reason: int) -> None:
    packet = WILL if identifier == 0x01 else CONNECT
    with pytest.raises(ProtocolError) as caught:
        read(wire.prop(identifier, value), packet)
    assert caught.value.reason == reason


def test_authentication_data_needs_a_method() -> None:
    assert refusal(wire.connect(version=5, properties=wire.props((0x16, b"d")))) == 0x82


def test_properties_are_written_as_they_are_read() -> None:
    for packet, allowed in ALLOWED.items():
        properties = {i: v for i, v in VALUES.items() if i in allowed}
        if 0x26 in allowed:
            properties[0x26] = [("a", "1"), ("a", "2")]
        found, _, end = read_block(write_block(properties), 0, packet)
        assert found == properties
        assert end == len(write_block(properties))


# -- what a server writes ------------------------------------------------------------------------------------


def test_connack() -> None:
    (answer,) = wire.answers(encode.connack(5, True, 0, {0x12: "id", 0x21: 5}), 5)
    assert (answer.session_present, answer.reason, answer.properties) == (True, 0, [(0x12, "id"), (0x21, 5)])
    (answer,) = wire.answers(encode.connack(4, True, 0x86, {}), 4)
    assert (answer.session_present, answer.reason) == (False, 4)
    assert [
        encode.connack(4, False, reason, {})[3] for reason in (0, 0x84, 0x85, 0x88, 0x86, 0x87, 0x97)
    ] == [
        0,
        1,
        2,
        3,
        4,
        5,
        3,
    ]


def test_disconnect_and_auth() -> None:
    (answer,) = wire.answers(encode.disconnect(0x8E, {}), 5)
    assert (answer.kind, answer.reason) == (wire.DISCONNECT, 0x8E)
    (answer,) = wire.answers(encode.disconnect(0x9D, {0x1C: "other"}), 5)
    assert answer.get(0x1C) == "other"
    (answer,) = wire.answers(encode.auth(0x18, {0x15: "m"}), 5)
    assert (answer.kind, answer.reason, answer.get(0x15)) == (wire.AUTH, 0x18, "m")


@pytest.mark.spec("MQTT-3.1.3-4", "MQTT-3.1.3-11", "MQTT-3.1.3-12")
@pytest.mark.parametrize("version", [4, 5])
def test_strings_of_connect_are_checked(version: int) -> None:
    bad, good, empty = wire.binary(b"\xff"), wire.binary(b"x"), wire.block(b"", version)
    head = wire.string("MQTT") + bytes([version])
    for flags, payload in ((0x02, bad), (0x06, good + empty + bad + good), (0x82, good + bad)):
        body = head + bytes([flags]) + b"\0\0" + empty + payload
        assert refusal(wire.packet(0x10, body)) == 0x81
