"""PUBLISH in both directions: QoS, retained messages, properties, quotas, what is sent again."""

from __future__ import annotations

import pytest

from broker.message import Message
from tests.engine.harness import Broker, Peer
from tests.protocol import wire

BOTH = pytest.mark.parametrize("version", [4, 5])


@pytest.fixture
def broker() -> Broker:
    return Broker()


def persistent(broker: Broker, client_id: str, version: int, **more: object) -> Peer:
    if version == 5:
        return broker.client(client_id, 5, clean=False, properties=wire.props((0x11, 1000)), **more)
    return broker.client(client_id, version, clean=False, **more)


# -- towards the broker --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.spec("MQTT-4.3.2-4", "MQTT-3.3.4-1")
@pytest.mark.spec311("MQTT-3.3.4-1", "MQTT-4.3.2-2")
def test_qos_1_is_acknowledged(broker: Broker, version: int) -> None:
    broker.client("sub").subscribe(("#", 0))
    client = broker.client(version=version)
    answer = client.ask(wire.publish("a", b"x", 1, 77, version))
    assert (answer.kind, answer.packet_id, answer.reason) == (wire.PUBACK, 77, 0)


@BOTH
@pytest.mark.spec("MQTT-4.3.3-8", "MQTT-4.3.3-9", "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT-4.3.3-12")
@pytest.mark.spec311("MQTT-4.3.3-2")
def test_qos_2_is_delivered_once(broker: Broker, version: int) -> None:
    subscriber = broker.client("sub")
    subscriber.subscribe(("#", 0))
    client = broker.client(version=version)
    assert client.ask(wire.publish("a", b"x", 2, 7, version)).kind == wire.PUBREC
    assert client.ask(wire.publish("a", b"x", 2, 7, version, dup=True)).kind == wire.PUBREC
    assert subscriber.heard() == [("a", b"x")]
    assert client.ask(wire.ack(wire.PUBREL, 7)).kind == wire.PUBCOMP
    assert client.ask(wire.publish("a", b"y", 2, 7, version)).kind == wire.PUBREC
    assert subscriber.heard() == [("a", b"y")]


@BOTH
def test_qos_2_is_remembered_between_connections(broker: Broker, version: int) -> None:
    subscriber = broker.client("sub")
    subscriber.subscribe(("#", 0))
    client = persistent(broker, "pub", version)
    client.send(wire.publish("a", b"x", 2, 7, version))
    client.drop()
    client = persistent(broker, "pub", version)
    assert client.ask(wire.publish("a", b"x", 2, 7, version, dup=True)).kind == wire.PUBREC
    assert subscriber.heard() == [("a", b"x")]


@BOTH
def test_unknown_pubrel(broker: Broker, version: int) -> None:
    answer = broker.client(version=version).ask(wire.ack(wire.PUBREL, 9))
    assert (answer.kind, answer.packet_id, answer.reason) == (wire.PUBCOMP, 9, 0x92 if version == 5 else 0)


def test_nobody_hears_it(broker: Broker) -> None:
    client = broker.client()
    assert client.ask(wire.publish("a", b"x", 1, 1, 5)).reason == 0x10
    assert client.ask(wire.publish("a", b"x", 2, 2, 5)).reason == 0x10
    assert client.ask(wire.ack(wire.PUBREL, 2)).reason == 0


@BOTH
def test_acknowledgements_come_in_order(broker: Broker, version: int) -> None:
    """The standard asks it of clients [MQTT-4.6.0-2], [MQTT-4.6.0-3]; a server had better do the same."""
    client = broker.client(version=version)
    client.send(*(wire.publish("a", b"x", 1 + number % 2, number, version) for number in range(1, 20)))
    assert [answer.packet_id for answer in client.take()] == list(range(1, 20))


@pytest.mark.spec("MQTT-3.3.4-7")
def test_receive_maximum() -> None:
    broker = Broker(receive_maximum=2)
    client = broker.client()
    client.send(*(wire.publish("a", b"x", 2, number, 5) for number in (1, 2)))
    client.take()
    assert client.ask(wire.publish("a", b"x", 2, 3, 5)).reason == 0x93
    assert client.closed


@pytest.mark.parametrize("topic", ["a/#", "+", b"\xff", b"a\0"])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.spec("MQTT-4.7.0-1", "MQTT-3.3.2-1", "MQTT-3.3.2-2", "MQTT-4.7.3-2")
def test_what_is_no_topic_ends_the_connection(broker: Broker, topic: str | bytes, qos: int) -> None:
    client = broker.client()
    assert client.ask(wire.publish(topic, b"x", qos, 1, 5)).reason in (0x81, 0x90)
    assert client.closed


def test_clients_cannot_publish_the_brokers_own_topics(broker: Broker) -> None:
    watcher = broker.client("watcher")
    watcher.subscribe(("$SYS/#", 0))
    client = broker.client(version=4)
    client.publish("$SYS/broker/uptime", b"x")
    assert client.ask(wire.publish("$SYS/x", b"x", 1, 1)).kind == wire.PUBACK
    assert broker.client("five").ask(wire.publish("$SYS/x", b"x", 1, 1, 5)).reason == 0x87
    assert watcher.heard() == []


@pytest.mark.spec("MQTT-3.3.2-7", "MQTT-3.3.2-9", "MQTT-3.3.2-12")
def test_topic_alias(broker: Broker) -> None:
    subscriber = broker.client("sub")
    subscriber.subscribe(("#", 0))
    client = broker.client()
    alias = wire.props((0x23, 3))
    client.publish("a", b"1", properties=alias)
    client.publish("", b"2", properties=alias)
    client.publish("b", b"3", properties=alias)
    client.publish("", b"4", 1, properties=alias)
    assert subscriber.heard() == [("a", b"1"), ("a", b"2"), ("b", b"3"), ("b", b"4")]
    other = broker.client("other")
    assert other.ask(wire.publish("", b"x", 0, 1, 5, properties=alias)).reason == 0x82
    too_high = broker.client("high")
    assert too_high.ask(wire.publish("a", b"x", 0, 1, 5, properties=wire.props((0x23, 65)))).reason == 0x94


# -- towards the client --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.spec("MQTT-4.3.2-2", "MQTT-4.3.3-2", "MQTT-4.3.3-4", "MQTT-3.8.4-8", "MQTT-4.3.1-1")
@pytest.mark.spec311("MQTT-3.8.4-6", "MQTT-4.3.1-1", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
def test_delivery_has_the_lower_qos(broker: Broker, version: int) -> None:
    for granted in (0, 1, 2):
        subscriber = broker.client(f"sub{granted}", version)
        subscriber.subscribe((f"t{granted}", granted))
        for published in (0, 1, 2):
            broker.client("pub", 5).publish(f"t{granted}", b"x", published)
            (message,) = subscriber.take_kind(wire.PUBLISH)
            assert message.qos == min(granted, published)
            assert not message.dup
            if message.qos == 1:
                subscriber.send(wire.ack(wire.PUBACK, message.packet_id))
            if message.qos == 2:
                assert subscriber.ask(wire.ack(wire.PUBREC, message.packet_id)).kind == wire.PUBREL
                subscriber.send(wire.ack(wire.PUBCOMP, message.packet_id))
        assert broker.engine.roster._sessions[f"sub{granted}"].inflight == {}


@BOTH
@pytest.mark.spec("MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-4.3.3-6", "MQTT-4.6.0-6")
@pytest.mark.spec311(
    "MQTT-2.3.1-4", "MQTT-3.3.1-1", "MQTT-4.3.3-1", "MQTT-4.4.0-1", "MQTT-4.6.0-1", "MQTT-4.6.0-5"
)
def test_what_was_not_acknowledged_is_sent_again(broker: Broker, version: int) -> None:
    subscriber = persistent(broker, "sub", version)
    subscriber.subscribe(("#", 2))
    publisher = broker.client("pub")
    publisher.publish("a", b"1", 1)
    publisher.publish("b", b"2", 2, 2)
    publisher.publish("c", b"3", 2, 3)
    first, second, third = subscriber.take_kind(wire.PUBLISH)
    subscriber.send(wire.ack(wire.PUBREC, second.packet_id))
    subscriber.drop()
    publisher.publish("d", b"4", 1, 4)
    publisher.publish("e", b"5", 0)
    again = persistent(broker, "sub", version)
    answers = again.take()
    assert [(a.kind, a.packet_id) for a in answers[:3]] == [
        (wire.PUBLISH, first.packet_id),
        (wire.PUBREL, second.packet_id),
        (wire.PUBLISH, third.packet_id),
    ]
    assert [a.dup for a in answers] == [True, False, True, False]
    assert (answers[3].topic, answers[3].qos) == ("d", 1)


@pytest.mark.spec(
    "MQTT-4.3.2-3",
    "MQTT-4.3.3-3",
    "MQTT-4.3.3-5",
    "MQTT-3.3.4-9",
    "MQTT-4.4.0-2",
    "MQTT-4.9.0-1",
    "MQTT-4.9.0-2",
    "MQTT-4.9.0-3",
)
def test_quota_of_the_client_is_kept(broker: Broker) -> None:
    subscriber = broker.client("sub", properties=wire.props((0x21, 2)))
    subscriber.subscribe(("#", 2))
    publisher = broker.client("pub")
    for number in range(1, 6):
        publisher.publish("a", b"%d" % number, 1 + number % 2, number)
    one, two = subscriber.take_kind(wire.PUBLISH)
    publisher.publish("z", b"free", 0)
    assert subscriber.heard() == [("z", b"free")]
    assert (one.qos, two.qos) == (2, 1)
    subscriber.send(wire.ack(wire.PUBREC, one.packet_id))
    assert [a.kind for a in subscriber.take()] == [wire.PUBREL]
    subscriber.send(wire.ack(wire.PUBCOMP, one.packet_id))
    (three,) = subscriber.take()
    subscriber.send(wire.ack(wire.PUBREC, three.packet_id, 0x80))
    (four,) = subscriber.take()
    assert (three.payload, four.payload) == (b"3", b"4")
    subscriber.send(wire.ack(wire.PUBACK, two.packet_id), wire.ack(wire.PUBACK, 999))
    assert [a.payload for a in subscriber.take()] == [b"5"]


def test_queue_is_bounded() -> None:
    broker = Broker(queue_max_messages=3)
    subscriber = persistent(broker, "sub", 5)
    subscriber.subscribe(("#", 1))
    subscriber.drop()
    publisher = broker.client("pub")
    for number in range(5):
        publisher.publish("a", b"%d" % number, 1)
    assert persistent(broker, "sub", 5).heard() == [("a", b"0"), ("a", b"1"), ("a", b"2")]
    assert broker.engine.stats.dropped_queue_full == 2


def test_slow_client_loses_qos_0_and_keeps_the_rest_waiting(broker: Broker) -> None:
    subscriber, other = broker.client("sub"), broker.client("other")
    subscriber.subscribe(("#", 1))
    other.subscribe(("#", 1))
    subscriber.block()
    publisher = broker.client("pub")
    publisher.publish("a", b"0", 0)
    publisher.publish("a", b"1", 1)
    assert other.heard() == [("a", b"0"), ("a", b"1")]
    assert subscriber.heard() == []
    subscriber.unblock()
    assert subscriber.heard() == [("a", b"1")]
    assert broker.engine.stats.dropped_slow_consumer == 1


@pytest.mark.spec("MQTT-3.1.2-24", "MQTT-3.1.2-25")
def test_packets_that_the_client_cannot_take_are_not_sent(broker: Broker) -> None:
    subscriber = broker.client("sub", properties=wire.props((0x27, 50)))
    subscriber.subscribe(("#", 1))
    publisher = broker.client("pub")
    publisher.publish("a", bytes(100), 1)
    publisher.publish("a", bytes(100), 0)
    publisher.publish("a", b"short", 0)
    assert subscriber.heard() == [("a", b"short")]
    assert broker.engine.stats.dropped_too_large == 2


@pytest.mark.spec("MQTT-3.3.2-5", "MQTT-3.3.2-6")
def test_expiry_counts_down(broker: Broker) -> None:
    subscriber = persistent(broker, "sub", 5)
    subscriber.subscribe(("#", 1))
    subscriber.drop()
    publisher = broker.client("pub")
    publisher.publish("a", b"gone", 1, properties=wire.props((0x02, 5)))
    publisher.publish("a", b"there", 1, properties=wire.props((0x02, 60)))
    broker.advance(10)
    (message,) = persistent(broker, "sub", 5).take_kind(wire.PUBLISH)
    assert message.payload == b"there"
    assert message.get(0x02) == 50


@pytest.mark.spec(
    "MQTT-3.3.2-4",
    "MQTT-3.3.2-15",
    "MQTT-3.3.2-16",
    "MQTT-3.3.2-17",
    "MQTT-3.3.2-18",
    "MQTT-3.3.2-20",
)
@pytest.mark.parametrize("qos", [0, 1])
def test_properties_are_handed_on_unaltered(broker: Broker, qos: int) -> None:
    five, four = broker.client("five"), broker.client("four", 4)
    five.subscribe(("#", 1))
    four.subscribe(("#", 1))
    properties = [
        (0x01, 1),
        (0x03, "t"),
        (0x08, "r"),
        (0x09, b"\0"),
        (0x26, ("b", "1")),
        (0x26, ("a", "2")),
        (0x26, ("b", "3")),
    ]
    broker.client("pub").publish("a", b"x", qos, properties=wire.props(*properties, (0x23, 1)))
    (message,) = five.take_kind(wire.PUBLISH)
    assert message.properties == properties
    assert four.heard() == [("a", b"x")]


@pytest.mark.spec("MQTT-3.1.2-26", "MQTT-3.1.2-27", "MQTT-3.3.2-10", "MQTT-3.3.2-11")
def test_server_sets_topic_aliases_for_clients_that_allow_them(broker: Broker) -> None:
    subscriber = broker.client("sub", clean=False, properties=wire.props((0x11, 100), (0x22, 2)))
    subscriber.subscribe(("#", 1))
    publisher = broker.client("pub")
    for topic in ("long/topic", "long/topic", "x/y", "other/topic", "third/topic", "long/topic"):
        publisher.publish(topic, b"p", 1)
    publisher.send(wire.publish("other/topic", b"1", version=5), wire.publish("other/topic", b"2", version=5))
    heard = subscriber.take_kind(wire.PUBLISH)
    assert [(message.topic, message.get(0x23)) for message in heard] == [
        ("long/topic", 1),
        ("", 1),
        ("x/y", None),
        ("other/topic", 2),
        ("third/topic", None),
        ("", 1),
        ("", 2),
        ("", 2),
    ]
    subscriber.drop()
    again = broker.client("sub", clean=False, properties=wire.props((0x11, 100), (0x22, 2)))
    assert [(m.topic, m.get(0x23), m.dup) for m in again.take_kind(wire.PUBLISH)][:2] == [
        ("long/topic", 1, True),
        ("", 1, True),
    ]
    assert (
        Broker(topic_alias_maximum=0).client("none", properties=wire.props((0x22, 9))).connack.get(0x22)
        is None
    )


def test_alias_of_a_packet_that_was_too_large_is_not_used(broker: Broker) -> None:
    subscriber = broker.client("sub", properties=wire.props((0x22, 5), (0x27, 60)))
    subscriber.subscribe(("#", 0))
    publisher = broker.client("pub")
    for payload in (bytes(100), b"1", b"2"):
        publisher.publish("a/long/topic", payload)
    assert [(m.topic, m.get(0x23)) for m in subscriber.take_kind(wire.PUBLISH)] == [
        ("a/long/topic", 1),
        ("", 1),
    ]


def test_both_versions_hear_the_same_run(broker: Broker) -> None:
    subscribers = [broker.client(f"sub{version}", version) for version in (3, 4, 5)]
    for subscriber in subscribers:
        subscriber.subscribe(("#", 0))
    for version in (4, 5):
        publisher = broker.client("pub", version)
        publisher.send(*(wire.publish("a", b"%d" % number, version=version) for number in range(5)))
        for subscriber in subscribers:
            writes = subscriber.transport.writes
            assert subscriber.heard() == [("a", b"%d" % number) for number in range(5)]
            assert writes <= 5
    assert subscribers[0].transport.writes == 4


def test_early_acknowledgements_of_what_is_still_to_be_sent_again(broker: Broker) -> None:
    """A client may acknowledge what an earlier connection sent before this one has sent it again."""
    subscriber = persistent(broker, "sub", 5)
    subscriber.subscribe(("#", 2))
    publisher = broker.client("pub")
    for number in range(1, 7):
        publisher.publish("a", b"%d" % number, 1 + number % 2, number)
    sent = subscriber.take_kind(wire.PUBLISH)
    subscriber.send(wire.ack(wire.PUBREC, sent[4].packet_id))
    subscriber.drop()
    again = broker.client("sub", clean=False, properties=wire.props((0x11, 1000), (0x21, 1)))
    assert [a.packet_id for a in again.take()] == [sent[0].packet_id]
    again.send(wire.ack(wire.PUBACK, sent[1].packet_id), wire.ack(wire.PUBREC, sent[2].packet_id, 0x80))
    again.send(wire.ack(wire.PUBACK, sent[3].packet_id), wire.ack(wire.PUBCOMP, sent[4].packet_id))
    again.send(wire.ack(wire.PUBREC, sent[0].packet_id), wire.ack(wire.PUBCOMP, sent[0].packet_id))
    assert [(a.kind, a.packet_id) for a in again.take()] == [
        (wire.PUBREL, sent[0].packet_id),
        (wire.PUBLISH, sent[5].packet_id),
    ]
    again.send(wire.ack(wire.PUBACK, sent[5].packet_id))
    session = broker.engine.roster._sessions["sub"]
    assert (session.inflight, list(session.resend)) == ({}, [])


# -- retained messages ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.spec("MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-7", "MQTT-3.3.1-8")
@pytest.mark.spec311("MQTT-3.3.1-5", "MQTT-3.3.1-7", "MQTT-3.3.1-10", "MQTT-3.3.1-11", "MQTT-3.3.1-12")
def test_retained_message(broker: Broker, version: int) -> None:
    early = broker.client("early", version)
    early.subscribe(("a/+", 1))
    publisher = broker.client("pub", version)
    publisher.publish("a/b", b"1", 1, retain=True)
    publisher.publish("a/b", b"2", 1, retain=True)
    publisher.publish("a/b", b"3", 1)
    assert [m.retain for m in early.take_kind(wire.PUBLISH)] == [False, False, False]
    late = broker.client("late", version)
    late.subscribe(("a/#", 0))
    (message,) = late.take_kind(wire.PUBLISH)
    assert (message.topic, message.payload, message.retain, message.qos) == ("a/b", b"2", True, 0)
    publisher.publish("a/b", b"", 0, retain=True)
    assert late.heard() == [("a/b", b"")]
    assert len(broker.engine.retained) == 0
    later = broker.client("later", version)
    later.subscribe(("a/#", 0))
    assert later.heard() == []


def test_retained_message_expires(broker: Broker) -> None:
    broker.client("pub").publish("a", b"x", 1, retain=True, properties=wire.props((0x02, 5)))
    broker.advance(3)
    subscriber = broker.client("sub")
    subscriber.subscribe(("a", 1))
    assert subscriber.take_kind(wire.PUBLISH)[0].get(0x02) == 2
    broker.advance(3)
    assert len(broker.engine.retained) == 0


@pytest.mark.spec("MQTT-4.7.2-1")
def test_retained_dollar_topics_are_spared_by_wildcards(broker: Broker) -> None:
    broker.client("pub").publish("$app/x", b"1", 0, retain=True)
    subscriber = broker.client("sub")
    subscriber.subscribe(("#", 0), ("+/x", 0))
    assert subscriber.heard() == []
    subscriber.subscribe(("$app/#", 0))
    assert subscriber.heard() == [("$app/x", b"1")]


def test_what_other_nodes_send_and_nobody_wants_is_counted(broker: Broker) -> None:
    client = broker.client("c")
    client.subscribe(("a/+", 0), ("$share/g/b", 0))
    batch = [Message(topic, b"", 0, retain) for topic, retain in (("a/1", False), ("x", False), ("y", True))]
    broker.engine.deliver_from_mesh([*batch, Message("b", b""), Message("a/1/2", b"", 1)], broker.now)
    assert broker.engine.stats.publish_from_mesh == 5
    assert broker.engine.stats.publish_unwanted == 2
