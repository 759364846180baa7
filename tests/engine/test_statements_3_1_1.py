"""Statements of MQTT 3.1.1 whose bytes or answers are not those of MQTT 5."""

from __future__ import annotations

from typing import Any

import pytest

from broker.access.anonymous import Anonymous
from broker.ports import Credentials
from tests.engine.harness import Broker, Peer
from tests.protocol import wire

CONNACK_ACCEPTED = b"\x20\x02\x00\x00"


@pytest.fixture
def broker() -> Broker:
    return Broker()


def device(broker: Broker, client_id: str = "device", **connect: Any) -> Peer:
    return broker.client(client_id, 4, **connect)


def said(peer: Peer) -> bytes:
    """The bytes that came since the last time."""
    found = bytes(peer.transport.written)
    peer.transport.written.clear()
    return found


@pytest.mark.spec311("MQTT-7.0.0-2", "MQTT-3.2.0-1", "MQTT-3.12.4-1", "MQTT-3.8.4-2", "MQTT-3.10.4-4")
def test_plain_conversation_byte_for_byte(broker: Broker) -> None:
    peer = broker.peer()
    for sent, answered in (
        (b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a", CONNACK_ACCEPTED),
        (b"\x82\x06\x00\x0a\x00\x01t\x01", b"\x90\x03\x00\x0a\x01"),
        (b"\x30\x04\x00\x01tx", b"\x30\x04\x00\x01tx"),
        (b"\x32\x06\x00\x01t\x00\x07y", b"\x32\x06\x00\x01t\x00\x01y\x40\x02\x00\x07"),
        (b"\x40\x02\x00\x01", b""),
        (b"\x34\x06\x00\x01u\x00\x08z", b"\x50\x02\x00\x08"),
        (b"\x62\x02\x00\x08", b"\x70\x02\x00\x08"),
        (b"\xc0\x00", b"\xd0\x00"),
        (b"\xa2\x05\x00\x0b\x00\x01t", b"\xb0\x02\x00\x0b"),
        (b"\xe0\x00", b""),
    ):
        wire.spoken.add(4)
        peer.send(sent)
        assert said(peer) == answered
    assert peer.closed


# -- what ends the connection without a word ---------------------------------------------------------------

NOT_TEXT = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\x00b"]


@pytest.mark.parametrize("raw", NOT_TEXT)
@pytest.mark.spec311(
    *("MQTT-1.5.3-1", "MQTT-1.5.3-2", "MQTT-3.3.2-1", "MQTT-3.8.3-1", "MQTT-3.10.3-1", "MQTT-4.7.3-2"),
    *("MQTT-4.8.0-1",),
)
def test_what_is_no_text(broker: Broker, raw: bytes) -> None:
    for packet in (
        wire.publish(raw, b"x"),
        wire.publish(raw, b"x", 1),
        wire.packet(0x82, b"\0\1" + wire.binary(raw) + b"\0"),
        wire.packet(0xA2, b"\0\1" + wire.binary(raw)),
    ):
        peer = device(broker)
        peer.send(packet)
        assert said(peer) == b""
        assert peer.closed


@pytest.mark.parametrize("raw", NOT_TEXT)
@pytest.mark.spec311("MQTT-3.1.3-4", "MQTT-3.1.3-10", "MQTT-3.1.3-11", "MQTT-3.1.4-1", "MQTT-3.2.2-6")
def test_what_is_no_text_in_connect(broker: Broker, raw: bytes) -> None:
    text = wire.binary(raw)
    for flags, payload in (
        (0x02, text),
        (0x06, b"\0\1c" + text + b"\0\0"),
        (0x82, b"\0\1c" + text),
    ):
        peer = broker.peer()
        wire.spoken.add(4)
        peer.send(wire.packet(0x10, b"\0\4MQTT\4" + bytes([flags]) + b"\0\0" + payload))
        assert said(peer) == b""
        assert peer.closed


@pytest.mark.parametrize(
    "packet",
    [
        wire.packet(0x10, b"\0\4MQTT\4\x42\0\0\0\1c\0\1p"),
        wire.packet(0x10, b"\0\4MQTT\4\x03\0\0\0\1c"),
        wire.packet(0x10, b"\0\4MQTT\4\x02\0\0\0\1c?"),
        wire.packet(0x10, b"\0\4MQTT\4\x1e\0\0\0\1c\0\1w\0\0"),
        wire.packet(0x10, b"\0\4MQTT\4\x0a\0\0\0\1c"),
        wire.packet(0x10, b"\0\4MQTT\4\x22\0\0\0\1c"),
        wire.packet(0x10, b"\0\4MQTT\4\x02\0\0"),
        wire.packet(0x10, b"\0\4MQTT\4\x06\0\0\0\1c"),
        wire.packet(0x11, b"\0\4MQTT\4\x02\0\0\0\1c"),
        wire.packet(0x10, b"\0\4HTTP\4\x02\0\0\0\1c"),
        wire.publish("t", b"x"),
        wire.PINGREQ,
    ],
)
@pytest.mark.spec311("MQTT-3.1.0-1", "MQTT-3.1.2-22", "MQTT-3.1.3-3", "MQTT-3.1.4-1", "MQTT-3.2.2-6")
def test_what_is_no_connect(broker: Broker, packet: bytes) -> None:
    wire.spoken.add(4)
    peer = broker.peer()
    peer.send(packet)
    assert said(peer) == b""
    assert peer.closed


@pytest.mark.parametrize(
    "packet",
    [
        wire.publish("t", b"x", 1, 0),
        wire.publish("t", b"x", 2, 0),
        wire.subscribe(0, [("t", 0)]),
        wire.unsubscribe(0, ["t"]),
    ],
)
@pytest.mark.spec311("MQTT-2.3.1-1")
def test_packet_identifier_zero(broker: Broker, packet: bytes) -> None:
    peer = device(broker)
    peer.send(packet)
    assert said(peer) == b""
    assert peer.closed


@pytest.mark.parametrize("topic", ["", "#", "a/#", "+", "a/+/b", "a+"])
@pytest.mark.spec311("MQTT-3.3.2-1", "MQTT-3.3.2-2", "MQTT-4.7.1-1", "MQTT-4.7.3-1")
def test_what_is_no_topic_name(broker: Broker, topic: str) -> None:
    for qos in (0, 1, 2):
        peer = device(broker)
        peer.publish(topic, b"x", qos)
        assert said(peer) == b""
        assert peer.closed


@pytest.mark.parametrize("topic_filter", ["", "a#", "#/a", "a/#/b", "a+", "+a", "a/b+/c"])
@pytest.mark.spec311("MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-4.7.3-1")
def test_what_is_no_topic_filter(broker: Broker, topic_filter: str) -> None:
    peer = device(broker)
    peer.send(wire.subscribe(1, [(topic_filter, 0)]))
    assert said(peer) == b""
    assert peer.closed


# -- CONNECT -----------------------------------------------------------------------------------------------


class Remembers(Anonymous):
    """Keeps what clients showed."""

    def __init__(self) -> None:
        self.seen: list[Credentials] = []

    def authenticate(self, credentials: Credentials, done: Any) -> None:
        self.seen.append(credentials)
        super().authenticate(credentials, done)


@pytest.mark.spec311("MQTT-3.1.3-1", "MQTT-3.1.3-3", "MQTT-3.1.2-9", "MQTT-3.1.2-19", "MQTT-3.1.2-21")
def test_fields_of_connect_are_read_in_their_order() -> None:
    wire.spoken.add(4)
    authority = Remembers()
    broker = Broker(authority)
    watcher = device(broker, "watcher")
    watcher.subscribe(("2", 0))
    peer = broker.peer()
    peer.version = 4
    peer.send(wire.packet(0x10, b"\0\4MQTT\4\xc6\0\0" + b"\0\0011\0\0012\0\0013\0\0014\0\0015"))
    assert said(peer) == CONNACK_ACCEPTED
    peer.drop()
    assert watcher.heard() == [("2", b"3")]
    shown = authority.seen[-1]
    assert (shown.client_id, shown.username, shown.password) == ("1", "4", b"5")


@pytest.mark.spec311(
    *("MQTT-3.1.3-7", "MQTT-3.1.3-8", "MQTT-3.1.3-9", "MQTT-3.1.4-5", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
)
def test_client_without_identifier_that_wants_its_session_kept(broker: Broker) -> None:
    watcher = device(broker, "watcher")
    watcher.subscribe(("t", 0))
    peer = broker.peer()
    peer.send(wire.connect("", 4, clean=False), wire.publish("t", b"x"))
    assert said(peer) == b"\x20\x02\x00\x02"
    assert peer.closed
    assert watcher.heard() == []
    assert device(broker, "").connack.reason == 0


@pytest.mark.spec311("MQTT-3.1.2-12")
def test_no_will_without_the_will_flag(broker: Broker) -> None:
    watcher = device(broker, "watcher")
    watcher.subscribe(("#", 2))
    device(broker).drop()
    assert watcher.take() == []


# -- sessions ----------------------------------------------------------------------------------------------


@pytest.mark.spec311("MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-4.1.0-1", "MQTT-4.1.0-2", "MQTT-4.5.0-1")
def test_session_keeps_what_comes_while_its_client_is_away(broker: Broker) -> None:
    client = device(broker, clean=False)
    client.subscribe(("t", 2))
    broker.advance(1000)
    client.drop()
    publisher = device(broker, "publisher")
    for qos in (0, 1, 2):
        publisher.publish("t", b"%d" % qos, qos, 5)
    broker.advance(3600)
    back = device(broker, clean=False)
    assert back.connack.session_present
    assert [(message.payload, message.qos) for message in back.take_kind(wire.PUBLISH)] == [
        (b"1", 1),
        (b"2", 2),
    ]


@pytest.mark.spec311("MQTT-3.1.2-7", "MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-8", "MQTT-3.3.1-9")
def test_retained_message_outlives_the_session(broker: Broker) -> None:
    early = device(broker, "early")
    early.subscribe(("kept", 1))
    publisher = device(broker)
    publisher.publish("kept", b"old", 1, 1, retain=True)
    publisher.publish("kept", b"new", 1, 2, retain=True)
    publisher.send(wire.disconnect())
    assert said(early) == b"\x32\x0b\0\4kept\0\1old\x32\x0b\0\4kept\0\2new"
    late = device(broker, "late")
    late.send(wire.subscribe(9, [("+", 1)]))
    assert said(late) == b"\x90\x03\0\x09\1" + b"\x33\x0b\0\4kept\0\1new"


# -- who hears what ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/tennis/player1/#", "sport/tennis/player2", False),
        ("sport/#", "sport", True),
        ("#", "any/thing", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$internal/x", False),
        ("+/monitor", "$internal/monitor", False),
        ("$internal/#", "$internal/monitor", True),
        ("Accounts", "ACCOUNTS", False),
        ("Accounts payable", "Accounts payable", True),
        ("\u00e9", "e\u0301", False),
    ],
)
@pytest.mark.spec311(
    *("MQTT-3.3.2-3", "MQTT-3.8.3-2", "MQTT-4.5.0-1", "MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-4.7.2-1"),
    "MQTT-4.7.3-4",
)
def test_filters_match_as_the_standard_says(
    broker: Broker, topic_filter: str, topic: str, matches: bool
) -> None:
    clients = [device(broker, f"c{number}") for number in range(2)]
    for client in clients:
        client.subscribe((topic_filter, 0))
    device(broker, "publisher").publish(topic, b"x")
    for client in clients:
        assert client.heard() == ([(topic, b"x")] if matches else [])


@pytest.mark.spec311("MQTT-3.3.5-1")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_overlapping_subscriptions_have_the_highest_qos(broker: Broker, qos: int) -> None:
    client = device(broker)
    client.subscribe(("a/#", 2), ("a/+", 0), ("a/b", 1))
    device(broker, "publisher").publish("a/b", b"x", qos)
    (message,) = client.take()
    assert message.qos == qos


class Denying(Anonymous):
    """Nobody may publish."""

    def may_publish(self, credentials: Credentials, topic: str) -> int | None:
        return 0


@pytest.mark.spec311("MQTT-3.3.5-2", "MQTT-3.3.4-1")
def test_publish_that_is_not_allowed_is_acknowledged_and_heard_by_nobody() -> None:
    broker = Broker(Denying())
    watcher = device(broker, "watcher")
    watcher.subscribe(("#", 2))
    client = device(broker)
    client.send(wire.publish("t", b"0"), wire.publish("t", b"1", 1, 1), wire.publish("t", b"2", 2, 2))
    assert said(client) == b"\x40\x02\0\1\x50\x02\0\2"
    client.send(wire.ack(wire.PUBREL, 2))
    assert said(client) == b"\x70\x02\0\2"
    assert watcher.take() == []


# -- order -------------------------------------------------------------------------------------------------


@pytest.mark.spec311("MQTT-4.6.0-1", "MQTT-4.6.0-2", "MQTT-4.6.0-3", "MQTT-4.6.0-4")
def test_what_the_server_sends_is_in_order(broker: Broker) -> None:
    client = device(broker, clean=False)
    client.subscribe(("t", 2))
    publisher = device(broker, "publisher")
    numbers = [5, 3, 9, 1]
    publisher.send(*[wire.publish("t", b"1", 1, number) for number in numbers])
    assert said(publisher) == b"".join(wire.ack(wire.PUBACK, number) for number in numbers)
    publisher.send(*[wire.publish("t", b"2", 2, number) for number in numbers])
    assert said(publisher) == b"".join(wire.ack(wire.PUBREC, number) for number in numbers)
    first = client.take()
    client.drop()
    back = device(broker, clean=False)
    again = back.take()
    assert [(m.packet_id, m.payload, m.dup) for m in again] == [(m.packet_id, m.payload, True) for m in first]
    received = [message.packet_id for message in again if message.qos == 2][::-1]
    back.send(*[wire.ack(wire.PUBREC, number) for number in received])
    assert said(back) == b"".join(wire.ack(wire.PUBREL, number) for number in received)
