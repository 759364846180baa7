"""CONNECT to DISCONNECT: sessions, take-over, keep-alive, and how refusals are told."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from broker.connection import Connection
from tests.engine.harness import Broker
from tests.protocol import wire

PERSISTENT = {4: {"clean": False}, 5: {"clean": False, "properties": wire.props((0x11, 100))}}


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.mark.spec(
    "MQTT-3.1.2-6",
    "MQTT-3.1.3-2",
    "MQTT-3.1.4-4",
    "MQTT-3.1.4-5",
    "MQTT-3.2.0-2",
    "MQTT-3.2.2-1",
    "MQTT-3.2.2-2",
    "MQTT-3.2.2-3",
)
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.spec311(
    "MQTT-3.1.2-4",
    "MQTT-3.1.3-2",
    "MQTT-3.1.4-3",
    "MQTT-3.1.4-4",
    "MQTT-3.2.2-1",
    "MQTT-3.2.2-2",
    "MQTT-3.2.2-3",
)
def test_session_present(broker: Broker, version: int) -> None:
    first = broker.client(version=version, **PERSISTENT[version])
    assert not first.connack.session_present
    first.send(wire.disconnect(version))
    assert first.closed
    assert broker.client(version=version, **PERSISTENT[version]).connack.session_present
    assert not broker.client(version=version, clean=True).connack.session_present


@pytest.mark.spec("MQTT-3.1.2-4")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.spec311("MQTT-3.1.2-6")
def test_clean_start_forgets(broker: Broker, version: int) -> None:
    broker.client(version=version, **PERSISTENT[version]).subscribe(("a", 1))
    assert broker.engine.subscriptions.count == 1
    broker.client(version=version, clean=True)
    assert broker.engine.subscriptions.count == 0


@pytest.mark.spec("MQTT-4.1.0-2", "MQTT-3.1.2-5", "MQTT-3.1.2-23")
def test_session_outlives_its_connection_for_as_long_as_it_asked(broker: Broker) -> None:
    client = broker.client(clean=False, properties=wire.props((0x11, 10)))
    client.subscribe(("a", 1))
    client.drop()
    broker.advance(9)
    assert broker.client(clean=False, properties=wire.props((0x11, 10))).connack.session_present
    broker.client("other").publish("a", b"1", 1)
    broker.engine.roster._connections["c"].lost(broker.now)
    broker.advance(12)
    assert not broker.client(clean=False).connack.session_present
    assert broker.engine.subscriptions.count == 0


def test_session_expiry_is_bounded_and_told() -> None:
    broker = Broker(session_expiry_max=60)
    client = broker.client(properties=wire.props((0x11, 0xFFFFFFFF)))
    assert client.connack.get(0x11) == 60


def test_disconnect_may_change_the_session_expiry(broker: Broker) -> None:
    client = broker.client(clean=False, properties=wire.props((0x11, 100)))
    client.send(wire.disconnect(5, 0, wire.props((0x11, 0))))
    assert not broker.client(clean=False).connack.session_present


def test_disconnect_cannot_prolong_a_session_that_ends(broker: Broker) -> None:
    """A Protocol Error [MQTT5 3.14.2.2.2]."""
    client = broker.client()
    assert client.ask(wire.disconnect(5, 0, wire.props((0x11, 10)))).reason == 0x82
    assert client.closed


@pytest.mark.spec("MQTT-3.1.4-3")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.spec311("MQTT-3.1.4-2")
def test_take_over(broker: Broker, version: int) -> None:
    first = broker.client("twin", version, **PERSISTENT[version])
    first.subscribe(("a", 1))
    second = broker.client("twin", version, **PERSISTENT[version])
    assert first.closed
    assert [(a.kind, a.reason) for a in first.take()] == ([(wire.DISCONNECT, 0x8E)] if version == 5 else [])
    assert second.connack.session_present
    broker.client("other").publish("a", b"1")
    assert second.heard() == [("a", b"1")]
    assert broker.engine.roster.connected == 2


@pytest.mark.spec("MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-16")
@pytest.mark.spec311("MQTT-3.1.3-6")
def test_client_without_identifier_gets_one(broker: Broker) -> None:
    one, two = broker.client(""), broker.client("")
    assert one.connack.get(0x12)
    assert one.connack.get(0x12) != two.connack.get(0x12)
    broker.client("", 4)


@pytest.mark.spec("MQTT-3.1.3-8", "MQTT-3.1.3-9")
@pytest.mark.spec311("MQTT-3.1.3-8", "MQTT-3.1.3-9")
def test_client_without_identifier_must_be_clean_in_3_1_1(broker: Broker) -> None:
    peer = broker.peer()
    peer.version = 4
    assert peer.ask(wire.connect("", 4, clean=False)).reason == 2
    assert peer.closed


@pytest.mark.parametrize(
    ("data", "version", "reason"),
    [
        (wire.connect(version=6, name=b"MQTT"), 5, 0x84),
        (wire.connect(version=2, name=b"MQTT"), 4, 1),
        (wire.connect(version=5, flags=3), 5, 0x81),
        (wire.connect(version=5, properties=wire.props((0x21, 0))), 5, 0x82),
        (wire.connect(version=5, properties=wire.props((0x15, "SCRAM"))), 5, 0x8C),
        (wire.connect(version=5, will=("a/#", b"", 0, False)), 5, 0x90),
    ],
)
@pytest.mark.spec(
    "MQTT-3.2.2-6",
    "MQTT-3.2.2-7",
    "MQTT-3.2.2-8",
    "MQTT-4.12.0-1",
    "MQTT-4.13.2-1",
    "MQTT-3.1.2-2",
    "MQTT-3.1.4-1",
    "MQTT-3.1.4-2",
)
def test_refusals_are_told(broker: Broker, data: bytes, version: int, reason: int) -> None:
    peer = broker.peer()
    peer.version = version
    answer = peer.ask(data)
    assert (answer.kind, answer.reason, answer.session_present) == (wire.CONNACK, reason, False)
    assert peer.closed


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", wire.PINGREQ, wire.connect(flags=3), wire.connect(name=b"X")]
)
@pytest.mark.spec("MQTT-3.14.0-1", "MQTT-3.1.0-1")
def test_what_is_no_connect_gets_no_answer(broker: Broker, data: bytes) -> None:
    peer = broker.peer()
    peer.send(data)
    assert peer.take() == []
    assert peer.closed


@pytest.mark.spec("MQTT-3.1.0-2")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.spec311("MQTT-3.1.0-2")
def test_second_connect_ends_the_connection(broker: Broker, version: int) -> None:
    client = broker.client(version=version)
    client.send(wire.connect(version=version))
    assert [(a.kind, a.reason) for a in client.take()] == ([(wire.DISCONNECT, 0x82)] if version == 5 else [])
    assert client.closed


def test_packets_may_follow_connect_at_once(broker: Broker) -> None:
    peer = broker.peer()
    peer.send(
        wire.connect(version=5),
        wire.subscribe(1, [("a", 0)], 5),
        wire.publish("a", b"1", version=5),
        wire.PINGREQ,
    )
    assert [a.kind for a in peer.take()] == [wire.CONNACK, wire.SUBACK, wire.PUBLISH, wire.PINGRESP]
    assert peer.transport.writes <= 2


@pytest.mark.spec("MQTT-3.2.2-22", "MQTT-3.1.2-22", "MQTT-3.1.2-24")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.spec311("MQTT-3.1.2-24")
def test_keep_alive(broker: Broker, version: int) -> None:
    client = broker.client(version=version, keep_alive=10)
    for _ in range(5):
        broker.advance(9)
        assert client.ask(wire.PINGREQ).kind == wire.PINGRESP
    broker.advance(14)
    assert not client.closed
    broker.advance(4)
    assert client.closed
    assert [(a.kind, a.reason) for a in client.take()] == ([(wire.DISCONNECT, 0x8D)] if version == 5 else [])


@pytest.mark.spec("MQTT-4.1.0-1")
def test_no_keep_alive(broker: Broker) -> None:
    client = broker.client(keep_alive=0)
    broker.advance(1000)
    assert not client.closed


def test_server_keep_alive() -> None:
    broker = Broker(keep_alive_max=30)
    assert broker.client(keep_alive=100).connack.get(0x13) == 30
    assert broker.client(keep_alive=0).connack.get(0x13) == 30
    assert broker.client(keep_alive=20).connack.get(0x13) is None


def test_silent_connection_is_closed() -> None:
    broker = Broker(connect_timeout=5.0)
    peer = broker.peer()
    client = broker.client()
    broker.advance(7)
    assert peer.closed
    assert not client.closed


def test_terms_are_told(broker: Broker) -> None:
    connack = broker.client().connack
    assert connack.get(0x21) == 1024
    assert connack.get(0x22) == 64
    assert connack.get(0x27) == 10 << 20


def test_no_room() -> None:
    broker = Broker(max_connections=1)
    broker.client("a")
    for version, reason in ((4, 3), (5, 0x97)):
        peer = broker.peer()
        peer.version = version
        assert peer.ask(wire.connect("b", version)).reason == reason
    broker.client("a")


@pytest.mark.parametrize(
    ("version", "data", "reason"),
    [
        (5, wire.packet(0xC1, b""), 0x81),
        (5, wire.packet(0x20, b"\0\0"), 0x82),
        (5, wire.auth(0x19, wire.props((0x15, "m"))), 0x82),
        (5, b"\x30\xff\xff\xff\x7f", 0x95),
        (4, wire.packet(0xC1, b""), None),
        (4, wire.auth(), None),
    ],
)
@pytest.mark.spec("MQTT-3.14.4-1", "MQTT-3.14.4-2", "MQTT-4.12.0-7", "MQTT-4.13.2-1", "MQTT-4.13.1-1")
@pytest.mark.spec311("MQTT-3.14.4-2", "MQTT-4.8.0-1")
def test_errors_end_one_connection_only(broker: Broker, version: int, data: bytes, reason: Any) -> None:
    other = broker.client("other")
    client = broker.client(version=version)
    client.send(data)
    assert [(a.kind, a.reason) for a in client.take()] == ([(wire.DISCONNECT, reason)] if reason else [])
    assert client.closed
    assert other.ask(wire.PINGREQ).kind == wire.PINGRESP


@pytest.mark.spec("MQTT-3.14.2-3")
def test_what_is_wrong_is_told_in_words_where_there_is_room(broker: Broker) -> None:
    client = broker.client()
    assert client.ask(wire.packet(0xC1, b"")).get(0x1F) == "reserved flags"
    narrow = broker.client(properties=wire.props((0x27, 20)))
    narrow.send(wire.publish("", b"", version=5))
    (answer,) = narrow.take()
    assert (answer.reason, answer.get(0x1F)) == (0x82, None)
    peer = broker.peer()
    assert peer.ask(wire.connect(version=5, flags=3)).get(0x1F) == "the reserved connect flag"


def test_node_that_stops_says_so(broker: Broker) -> None:
    five, four = broker.client("five"), broker.client("four", 4)
    broker.engine.stop(broker.now)
    assert [(a.kind, a.reason) for a in five.take()] == [(wire.DISCONNECT, 0x8B)]
    assert four.take() == []
    assert five.closed
    assert four.closed


def test_nothing_is_left_of_clients_that_left(broker: Broker) -> None:
    for number in range(10):
        client = broker.client(f"c{number}", keep_alive=5, will=("w", b"", 0, False))
        client.subscribe(("a/#", 1), ("$share/g/b", 0))
        client.send(wire.disconnect(5))
    broker.advance(20)
    assert len(broker.engine.roster) == 0
    assert broker.engine.subscriptions.count == 0
    assert list(broker.engine.local_filters()) == []
    assert broker.engine.subscriptions._root.children == {}


def connections() -> int:
    """How many connections there are, dead or alive."""
    return sum(isinstance(found, Connection) for found in gc.get_objects())


@pytest.mark.parametrize("end", ["drop", "disconnect", "nonsense", "refused", "expelled"])
def test_connection_that_ended_is_freed_at_once(broker: Broker, end: str) -> None:
    """By its reference count: the garbage collector comes seldom, and a flood of connections should not wait for it."""
    broker.client("watcher").subscribe(("#", 0))
    gc.collect()
    gc.disable()
    before = connections()
    try:
        if end == "refused":
            peer = broker.peer()
            peer.send(b"\x10\xff\xff\xff\x7f" + bytes(1000))
        else:
            peer = broker.client("c", will=("will", b"", 0, False))
            peer.publish("a", b"x", 1)
            peer.publish("b", b"x", 2)
            if end == "disconnect":
                peer.send(wire.disconnect(5))
            elif end == "nonsense":
                peer.send(b"\x30\xff\xff\xff\xff\xff")
            elif end == "expelled":
                broker.client("c")
        peer.drop()
        del peer
        assert connections() == before + (end == "expelled")
    finally:
        gc.enable()
