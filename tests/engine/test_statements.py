"""Statements of the standard that need few bytes each, and stand in no other test."""

from __future__ import annotations

import pytest

from tests.engine.harness import Broker
from tests.protocol import wire

BOTH = pytest.mark.parametrize("version", [4, 5])


@pytest.fixture
def broker() -> Broker:
    return Broker()


@BOTH
@pytest.mark.spec("MQTT-2.2.1-5", "MQTT-2.2.1-6", "MQTT-3.12.4-1", "MQTT-3.2.0-1")
@pytest.mark.spec311("MQTT-2.3.1-6", "MQTT-2.3.1-7", "MQTT-3.2.0-1", "MQTT-3.12.4-1")
def test_answers_have_the_identifier_of_what_they_answer(broker: Broker, version: int) -> None:
    peer = broker.peer()
    peer.version = version
    peer.send(
        wire.connect("c", version),
        wire.subscribe(11, [("a", 0)], version),
        wire.unsubscribe(12, ["a"], version),
        wire.publish("a", b"", 1, 13, version),
        wire.publish("a", b"", 2, 14, version),
        wire.ack(wire.PUBREL, 14),
        wire.PINGREQ,
    )
    found = [(answer.kind, answer.packet_id) for answer in peer.take()]
    assert found[0] == (wire.CONNACK, 0)
    assert sorted(found[1:]) == sorted(
        [
            (wire.SUBACK, 11),
            (wire.UNSUBACK, 12),
            (wire.PUBACK, 13),
            (wire.PUBREC, 14),
            (wire.PUBCOMP, 14),
            (wire.PINGRESP, 0),
        ]
    )


@pytest.mark.spec("MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
def test_identifiers_go_round_and_leave_out_those_in_use(broker: Broker) -> None:
    client = broker.client()
    client.subscribe(("a", 2))
    publisher = broker.client("pub")
    publisher.publish("a", b"stays", 2)
    (stays,) = client.take_kind(wire.PUBLISH)
    seen: list[int] = []
    for number in range(66_000):
        publisher.send(wire.publish("a", b"x", 1, number % 60_000 + 1, 5))
        publisher.transport.written.clear()
        (message,) = client.take_kind(wire.PUBLISH)
        client.send(wire.ack(wire.PUBACK, message.packet_id))
        seen.append(message.packet_id)
    assert stays.packet_id not in seen
    assert 0 not in seen
    assert len(set(seen)) == 65_534


@pytest.mark.spec("MQTT-2.2.1-2", "MQTT-2.2.2-1")
@pytest.mark.spec311("MQTT-2.3.1-5")
def test_exact_bytes_of_a_delivery(broker: Broker) -> None:
    for version, expected in ((4, b"\x30\x04\0\1ax"), (5, b"\x30\x05\0\1a\0x")):
        client = broker.client(f"c{version}", version)
        client.subscribe(("a", 0))
        broker.client("pub").publish("a", b"x", 1)
        assert bytes(client.transport.written) == expected


@pytest.mark.spec("MQTT-3.1.3-5")
@pytest.mark.spec311("MQTT-3.1.3-5")
def test_simple_identifiers_are_taken(broker: Broker) -> None:
    for name in ("a", "0123456789abcdefghijABC", "x" * 65535):
        broker.client(name, 4)


@BOTH
@pytest.mark.spec("MQTT-3.1.4-6")
def test_what_follows_a_refused_connect_is_not_worked_on(broker: Broker, version: int) -> None:
    watcher = broker.client("watcher")
    watcher.subscribe(("a", 0))
    peer = broker.peer()
    peer.version = version
    peer.send(wire.connect(version=6, name=b"MQTT"), wire.publish("a", b"x", version=version))
    assert peer.closed
    method = broker.peer()
    method.send(
        wire.connect(version=5, properties=wire.props((0x15, "m"))), wire.publish("a", b"x", version=5)
    )
    assert method.closed
    assert watcher.heard() == []


@pytest.mark.spec("MQTT-3.1.2-24", "MQTT-3.2.2-19", "MQTT-3.2.2-20")
def test_client_that_takes_no_packet_as_large_as_its_connack(broker: Broker) -> None:
    peer = broker.peer()
    answer = peer.ask(wire.connect("c", 5, properties=wire.props((0x27, 10))), wire.PINGREQ)
    assert (answer.kind, answer.reason, answer.properties) == (wire.CONNACK, 0x95, [])
    assert peer.closed
    assert len(broker.engine.roster) == 0
    assert broker.engine.roster.connected == 0


@pytest.mark.spec("MQTT-3.1.2-28", "MQTT-4.12.0-6")
def test_connack_has_nothing_that_was_not_asked_for(broker: Broker) -> None:
    connack = broker.client().connack
    assert {identifier for identifier, _ in connack.properties} <= {0x11, 0x12, 0x13, 0x21, 0x22, 0x27}


@pytest.mark.spec(
    "MQTT-3.1.2-29",
    "MQTT-3.4.2-2",
    "MQTT-3.4.2-3",
    "MQTT-3.5.2-2",
    "MQTT-3.5.2-3",
    "MQTT-3.6.2-2",
    "MQTT-3.6.2-3",
    "MQTT-3.7.2-2",
    "MQTT-3.7.2-3",
    "MQTT-3.9.2-1",
    "MQTT-3.9.2-2",
    "MQTT-3.11.2-1",
    "MQTT-3.11.2-2",
)
def test_acknowledgements_carry_no_properties_at_all(broker: Broker) -> None:
    """So that they are never too large for them, and fit whoever wants no problem information."""
    client = broker.client(properties=wire.props((0x17, 0)))
    client.send(
        wire.publish("a", b"", 1, 1, 5),
        wire.publish("$SYS/x", b"", 2, 2, 5),
        wire.ack(wire.PUBREL, 99),
        wire.ack(wire.PUBREC, 98),
        wire.subscribe(3, [("a", 1)], 5),
        wire.unsubscribe(4, ["b"], 5),
    )
    found = client.take()
    assert {answer.kind for answer in found} == {
        wire.PUBACK,
        wire.PUBREC,
        wire.PUBCOMP,
        wire.PUBREL,
        wire.SUBACK,
        wire.UNSUBACK,
    }
    assert all(answer.properties == [] for answer in found)


@pytest.mark.spec("MQTT-3.14.2-2", "MQTT-3.14.2-4")
def test_disconnect_of_the_server_has_a_reason_string_at_most(broker: Broker) -> None:
    client = broker.client(clean=False, properties=wire.props((0x11, 100)))
    answer = client.ask(wire.packet(0xC1, b""))
    assert {identifier for identifier, _ in answer.properties} == {0x1F}


@BOTH
@pytest.mark.spec("MQTT-3.1.2-14")
@pytest.mark.spec311("MQTT-3.1.2-16")
def test_will_that_is_not_to_be_retained(broker: Broker, version: int) -> None:
    broker.client("a", version, will=("w", b"gone", 1, False)).drop()
    assert broker.engine.retained.get("w") is None


@BOTH
@pytest.mark.spec("MQTT-3.3.1-3", "MQTT-4.3.2-5")
@pytest.mark.spec311("MQTT-3.3.1-3", "MQTT-4.3.2-2")
def test_dup_is_not_handed_on_and_does_not_make_a_duplicate(broker: Broker, version: int) -> None:
    subscriber = broker.client("sub", version)
    subscriber.subscribe(("a", 1))
    publisher = broker.client("pub", version)
    publisher.publish("a", b"1", 1, 7, dup=True)
    publisher.publish("a", b"2", 1, 7, dup=True)
    heard = subscriber.take_kind(wire.PUBLISH)
    assert [(message.payload, message.dup) for message in heard] == [(b"1", False), (b"2", False)]


@BOTH
@pytest.mark.spec("MQTT-3.3.4-10", "MQTT-4.9.0-3")
def test_nothing_but_publish_waits_for_quota(version: int) -> None:
    broker = Broker(max_inflight=1)
    client = broker.client(version=version)
    client.subscribe(("a", 1))
    publisher = broker.client("pub")
    publisher.publish("a", b"1", 1)
    publisher.publish("a", b"2", 1, 2)
    client.send(wire.PINGREQ, wire.subscribe(5, [("b", 0)], version), wire.publish("x", b"", 1, 6, version))
    kinds = [answer.kind for answer in client.take()]
    assert sorted(kinds) == sorted([wire.PUBLISH, wire.PINGRESP, wire.SUBACK, wire.PUBACK])


@BOTH
@pytest.mark.spec("MQTT-3.8.4-4")
@pytest.mark.spec311("MQTT-3.8.4-3")
def test_replacing_a_subscription_loses_nothing(broker: Broker, version: int) -> None:
    client = broker.client(version=version)
    client.subscribe(("a", 1))
    client.block()
    publisher = broker.client("pub")
    publisher.publish("a", b"1", 1)
    publisher.publish("a", b"kept", 1, 2, retain=True)
    client.subscribe(("a", 1))
    publisher.publish("a", b"2", 1, 3)
    client.unblock()
    assert [payload for _, payload in client.heard()] == [b"1", b"kept", b"kept", b"2"]


@BOTH
@pytest.mark.spec("MQTT-3.10.4-3")
@pytest.mark.spec311("MQTT-3.10.4-3")
def test_what_was_begun_is_completed_after_unsubscribe(broker: Broker, version: int) -> None:
    more = {"clean": False, **({"properties": wire.props((0x11, 100))} if version == 5 else {})}
    client = broker.client(version=version, **more)
    client.subscribe(("a", 2))
    broker.client("pub").publish("a", b"x", 2)
    client.send(wire.unsubscribe(3, ["a"], version))
    client.drop()
    again = broker.client(version=version, **more)
    (message,) = again.take_kind(wire.PUBLISH)
    assert (message.payload, message.qos, message.dup) == (b"x", 2, True)


@pytest.mark.spec("MQTT-4.3.3-7", "MQTT-4.3.3-13")
def test_expiry_does_not_stop_what_was_begun(broker: Broker) -> None:
    resumed = wire.props((0x11, 1000))
    client = broker.client(clean=False, properties=resumed)
    client.subscribe(("a", 2))
    publisher = broker.client("pub")
    publisher.send(wire.publish("a", b"x", 2, 1, 5, properties=wire.props((0x02, 5))))
    client.drop()
    broker.advance(60)
    assert [m.payload for m in broker.client(clean=False, properties=resumed).take_kind(wire.PUBLISH)] == [
        b"x"
    ]
    publisher.take()
    assert publisher.ask(wire.ack(wire.PUBREL, 1)).kind == wire.PUBCOMP


@BOTH
@pytest.mark.spec("MQTT-4.7.3-3", "MQTT-4.7.3-4")
@pytest.mark.spec311("MQTT-4.7.3-3", "MQTT-4.7.3-4")
def test_topics_are_taken_as_they_are(broker: Broker, version: int) -> None:
    topics = ["/a", "a/", "a//b", "A", "\u00e9", "e\u0301", " ", "/", "x" * 65535]
    client = broker.client(version=version)
    client.subscribe(*((topic, 0) for topic in topics))
    publisher = broker.client("pub", version)
    for topic in [*topics, "a", "b/a", "a/b", "E\u0301", "x" * 65534]:
        publisher.publish(topic)
    assert [topic for topic, _ in client.heard()] == topics
