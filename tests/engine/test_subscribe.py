"""SUBSCRIBE and UNSUBSCRIBE: options, overlaps, shared subscriptions, wills."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.access.anonymous import Anonymous
from broker.ports import ALL_RIGHTS, Credentials, Decision
from tests.engine.harness import Broker
from tests.protocol import wire

BOTH = pytest.mark.parametrize("version", [4, 5])

NO_LOCAL, AS_PUBLISHED, ONLY_NEW, NEVER = 0x04, 0x08, 0x10, 0x20


@pytest.fixture
def broker() -> Broker:
    return Broker()


@BOTH
@pytest.mark.spec(
    "MQTT-3.8.4-5", "MQTT-3.8.4-7", "MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.8.4-6", "MQTT-3.9.3-1"
)
@pytest.mark.spec311("MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.9.3-1")
def test_suback_has_a_code_for_each_filter_in_order(broker: Broker, version: int) -> None:
    assert broker.client(version=version).subscribe(("a", 2), ("b", 0), ("c", 1)) == [2, 0, 1]


@BOTH
@pytest.mark.spec("MQTT-3.8.4-3")
@pytest.mark.spec311("MQTT-3.8.4-3")
def test_same_filter_again_replaces(broker: Broker, version: int) -> None:
    client = broker.client(version=version)
    broker.client("pub").publish("a", b"kept", retain=True)
    client.subscribe(("a", 0))
    client.subscribe(("a", 1))
    assert client.heard() == [("a", b"kept")] * 2
    assert broker.engine.subscriptions.count == 1
    broker.client("pub").publish("a", b"x", 1)
    assert [m.qos for m in client.take_kind(wire.PUBLISH)] == [1]


@BOTH
@pytest.mark.spec(
    "MQTT-3.10.4-2",
    "MQTT-3.10.4-6",
    "MQTT-3.10.4-1",
    "MQTT-3.10.4-4",
    "MQTT-3.10.4-5",
    "MQTT-3.11.3-1",
    "MQTT-3.11.3-2",
)
@pytest.mark.spec311("MQTT-3.10.4-1", "MQTT-3.10.4-2", "MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-3.10.4-6")
def test_unsubscribe(broker: Broker, version: int) -> None:
    client = broker.client(version=version)
    client.subscribe(("a/+", 0), ("$share/g/b", 0))
    answer = client.ask(wire.unsubscribe(5, ["a/+", "a/#", "$share/g/b"], version))
    assert (answer.kind, answer.packet_id) == (wire.UNSUBACK, 5)
    assert answer.reasons == ([0, 0x11, 0] if version == 5 else [])
    broker.client("pub").publish("a/b")
    assert client.heard() == []


@pytest.mark.spec("MQTT-3.3.4-2", "MQTT-3.3.4-3", "MQTT-3.3.4-4")
def test_overlapping_subscriptions_are_delivered_once_with_all_identifiers(broker: Broker) -> None:
    client = broker.client()
    client.subscribe(("a/+", 0), identifier=7)
    client.subscribe(("a/#", 2), identifier=300)
    client.subscribe(("a/b", 1))
    client.subscribe(("+/b", 0), identifier=7)
    broker.client("pub").publish("a/b", b"x", 2)
    (message,) = client.take_kind(wire.PUBLISH)
    assert message.qos == 2
    assert sorted(message.all(0x0B)) == [7, 7, 300], "one for each subscription, even where they are the same"


@pytest.mark.spec("MQTT-3.8.3-3")
def test_no_local(broker: Broker) -> None:
    client = broker.client()
    client.subscribe(("a", NO_LOCAL), ("b", 0))
    client.publish("a", b"own")
    client.publish("a", b"own", 1)
    client.publish("b", b"own")
    broker.client("other").publish("a", b"other")
    assert client.heard() == [("b", b"own"), ("a", b"other")]


@pytest.mark.spec("MQTT-3.3.1-12", "MQTT-3.3.1-13")
def test_retain_as_published(broker: Broker) -> None:
    client = broker.client()
    client.subscribe(("a", AS_PUBLISHED), ("b", 0))
    publisher = broker.client("pub")
    for topic in ("a", "b"):
        publisher.publish(topic, retain=True)
        publisher.publish(topic)
    assert [m.retain for m in client.take_kind(wire.PUBLISH)] == [True, False, False, False]


@pytest.mark.spec("MQTT-3.3.1-9", "MQTT-3.3.1-10", "MQTT-3.3.1-11")
def test_retain_handling(broker: Broker) -> None:
    broker.client("pub").publish("a", b"kept", retain=True)
    client = broker.client()
    client.subscribe(("a", NEVER))
    assert client.heard() == []
    client.subscribe(("a", ONLY_NEW))
    assert client.heard() == []
    client.subscribe(("a", 0))
    assert client.heard() == [("a", b"kept")]
    other = broker.client("other")
    other.subscribe(("a", ONLY_NEW))
    assert other.heard() == [("a", b"kept")]


@pytest.mark.spec("MQTT-4.8.2-3")
@BOTH
def test_shared_subscription_is_served_in_turn(broker: Broker, version: int) -> None:
    broker.client("pub").publish("a/x", b"kept", retain=True)
    members = [broker.client(f"m{number}", version) for number in range(3)]
    for member in members:
        member.subscribe(("$share/g/a/+", 1))
    single = broker.client("single", version)
    single.subscribe(("a/#", 1))
    assert [member.heard() for member in members] == [[], [], []], "retained messages are not for shared ones"
    single.heard()
    publisher = broker.client("pub")
    for number in range(9):
        publisher.publish("a/x", b"%d" % number, 1)
    for member in members:
        heard = member.take_kind(wire.PUBLISH)
        assert len(heard) == 3
        member.send(*(wire.ack(wire.PUBACK, message.packet_id) for message in heard))
    assert len(single.heard()) == 9
    members[0].drop()
    for number in range(4):
        publisher.publish("a/x", b"%d" % number, 1)
    assert [len(member.heard()) for member in members[1:]] == [2, 2]


@pytest.mark.spec("MQTT-4.8.2-4", "MQTT-4.8.2-5", "MQTT-4.8.2-6")
def test_what_a_member_leaves_behind_is_the_next_ones(broker: Broker) -> None:
    leaving = broker.client("leaving", properties=wire.props((0x11, 5), (0x21, 3)))
    leaving.subscribe(("$share/g/a", 2), ("own", 1))
    publisher = broker.client("pub")
    for number, qos in enumerate((2, 1, 1, 1, 2), 1):
        publisher.publish("a", b"%d" % number, qos, number)
    publisher.publish("own", b"own", 1, 9)
    sent = leaving.take_kind(wire.PUBLISH)
    assert [message.payload for message in sent] == [b"1", b"2", b"3"], "its quota is 3"
    leaving.send(wire.ack(wire.PUBACK, sent[1].packet_id, 0x80))
    assert [m.payload for m in leaving.take_kind(wire.PUBLISH)] == [b"4"], "refused: for nobody else"
    staying = broker.client("staying")
    staying.subscribe(("$share/g/a", 1))
    leaving.drop()
    broker.advance(3)
    assert staying.heard() == [], "the member may come back"
    broker.advance(4)
    assert staying.heard() == [("a", b"3"), ("a", b"4"), ("a", b"5")]


@pytest.mark.spec("MQTT-3.8.4-7", "MQTT-3.9.3-2")
@pytest.mark.spec311("MQTT-3.8.4-5", "MQTT-3.9.3-2")
def test_denied_filter(broker: Broker) -> None:
    class Strict(Anonymous):
        """Nobody may subscribe to secrets or publish them."""

        def authenticate(self, credentials: Credentials, done: Callable[[Decision], None]) -> None:
            done(Decision(0x86 if credentials.username == "bad" else 0))

        def may_publish(self, credentials: Credentials, topic: str) -> int | None:
            return 0 if topic == "secret" else ALL_RIGHTS

        def may_subscribe(self, credentials: Credentials, topic_filter: str, qos: int) -> bool | None:
            return topic_filter != "secret"

    broker = Broker(Strict())
    assert broker.client().subscribe(("secret", 1), ("open", 1)) == [0x87, 1]
    assert broker.client("four", 4).subscribe(("secret", 1), ("open", 1)) == [0x80, 1]
    assert broker.client("pub").ask(wire.publish("secret", b"", 1, 1, 5)).reason == 0x87
    for version, reason in ((4, 4), (5, 0x86)):
        peer = broker.peer()
        peer.version = version
        assert peer.ask(wire.connect("x", version, username="bad")).reason == reason
        assert peer.closed


# -- wills ---------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.spec("MQTT-3.1.2-7", "MQTT-3.1.2-15", "MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.14.4-3")
@pytest.mark.spec311("MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.1.2-17", "MQTT-3.14.4-3")
def test_will(broker: Broker, version: int) -> None:
    watcher = broker.client("watcher")
    watcher.subscribe(("w", 2))
    will = ("w", b"gone", 1, True)
    broker.client("a", version, will=will).drop()
    (message,) = watcher.take_kind(wire.PUBLISH)
    assert (message.payload, message.qos) == (b"gone", 1)
    assert broker.engine.retained.get("w") is not None
    broker.client("a", version, will=will).send(wire.disconnect(version))
    assert watcher.heard() == []
    broker.client("a", version, will=will).send(wire.packet(0, b""))
    assert watcher.heard() == [("w", b"gone")]
    silent = broker.client("a", version, will=will, keep_alive=5)
    broker.advance(10)
    assert silent.closed
    assert watcher.heard() == [("w", b"gone")]
    first = broker.client("a", version, will=will)
    broker.client("a", version)
    assert first.closed
    assert watcher.heard() == [("w", b"gone")]


def test_disconnect_with_will(broker: Broker) -> None:
    watcher = broker.client("watcher")
    watcher.subscribe(("w", 0))
    broker.client("a", will=("w", b"gone", 0, False)).send(wire.disconnect(5, 4))
    assert watcher.heard() == [("w", b"gone")]


@pytest.mark.spec("MQTT-3.1.2-8", "MQTT-3.1.3-9", "MQTT-3.1.3-10")
def test_will_delay(broker: Broker) -> None:
    watcher = broker.client("watcher")
    watcher.subscribe(("w", 0))

    def device() -> None:
        client = broker.client(
            "a",
            clean=False,
            properties=wire.props((0x11, 20)),
            will=("w", b"gone", 0, False),
            will_properties=wire.props((0x18, 10), (0x02, 30), (0x26, ("k", "v")), (0x26, ("a", "b"))),
        )
        client.drop()

    device()
    broker.advance(5)
    device()
    broker.advance(8)
    assert watcher.heard() == [], "the client was back before the delay was over"
    broker.advance(5)
    (message,) = watcher.take_kind(wire.PUBLISH)
    assert message.payload == b"gone"
    assert message.all(0x26) == [("k", "v"), ("a", "b")]
    assert message.get(0x02) is not None
    broker.client(
        "a",
        properties=wire.props((0x11, 3)),
        will=("w", b"soon", 0, False),
        will_properties=wire.props((0x18, 60)),
    ).drop()
    broker.advance(6)
    assert watcher.heard() == [("w", b"soon")], "the session ended before the delay was over"
