"""What a node that starts again knows: sessions, queues, wills, their time, and who may have what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

from broker.store.database import Database
from tests.engine.harness import Peer
from tests.protocol import wire
from tests.store.harness import DurableBroker, StepStore, database

NEVER = 0xFFFFFFFF


@pytest.fixture
def broker() -> DurableBroker:
    return DurableBroker(database())


@pytest.fixture
def short_memory() -> Iterator[None]:
    """Queues have two messages in memory, and read three at a time."""
    with (
        patch("broker.queue._IN_MEMORY", 2),
        patch("broker.session.LOAD", 3),
        patch("broker.roster.LOAD", 3),
    ):
        yield


def connect(
    broker: DurableBroker, client_id: str, version: int = 5, expiry: int = NEVER, **more: Any
) -> Peer:
    """A client that keeps its session."""
    properties = wire.props((0x11, expiry)) if version == 5 else b""
    return broker.client(client_id, version, clean=False, properties=properties, **more)


def subscribed(broker: DurableBroker, client_id: str, *wanted: tuple[str, int], **more: Any) -> Peer:
    peer = connect(broker, client_id, **more)
    peer.send(wire.subscribe(1, wanted, peer.version))
    broker.settle()
    assert [answer.kind for answer in peer.take()] == [wire.SUBACK]
    return peer


def publish(broker: DurableBroker, topic: str, *payloads: bytes, qos: int = 1) -> None:
    publisher = broker.client("publisher")
    for number, payload in enumerate(payloads, 1):
        publisher.publish(topic, payload, qos, number)
    broker.settle()
    publisher.drop()


def payloads(peer: Peer, broker: DurableBroker) -> list[bytes]:
    """Everything that comes, acknowledged as it comes."""
    found: list[bytes] = []
    busy = True
    while busy:
        broker.settle()
        answers = peer.take()
        busy = bool(answers)
        for answer in answers:
            if answer.kind == wire.PUBLISH:
                found.append(answer.payload)
                if answer.qos:
                    peer.send(wire.ack(wire.PUBACK if answer.qos == 1 else wire.PUBREC, answer.packet_id))
            elif answer.kind == wire.PUBREL:
                peer.send(wire.ack(wire.PUBCOMP, answer.packet_id))
    return found


@pytest.mark.parametrize("version", [4, 5])
def test_subscriptions_with_all_their_options_outlive_the_process(
    broker: DurableBroker, version: int
) -> None:
    peer = connect(broker, "c", version)
    options = 1 | (0b101100 if version == 5 else 0)  # no local, retain as published, no retained messages
    properties = wire.props((0x0B, 77)) if version == 5 else b""
    peer.send(wire.subscribe(1, [("a/+", options), ("b", 2), ("gone", 1)], version, properties))
    peer.send(wire.unsubscribe(2, ["gone"], version))
    assert peer.take() == [], "SUBACK and UNSUBACK say that it is on disk"
    broker.settle()
    assert [answer.kind for answer in peer.take()] == [wire.SUBACK, wire.UNSUBACK]
    broker = broker.crashed()
    (session,) = broker.engine.roster
    held = session.subscriptions["a/+"]
    assert set(session.subscriptions) == {"a/+", "b"}
    extended = (True, True, 77) if version == 5 else (False, False, 0)
    assert (held.qos, held.no_local, held.retain_as_published, held.identifier) == (1, *extended)
    peer = connect(broker, "c", version)
    assert peer.connack.session_present
    publish(broker, "a/x", b"1")
    (message,) = peer.take()
    assert (message.topic, message.payload, message.qos) == ("a/x", b"1", 1)


def test_clean_start_ends_the_session_on_disk_too(broker: DurableBroker) -> None:
    subscribed(broker, "c", ("t", 1)).drop()
    publish(broker, "t", b"1")
    broker.client("c", clean=True).drop()
    broker.settle()
    broker = broker.crashed()
    assert len(broker.engine.roster) == 0
    assert not connect(broker, "c").connack.session_present
    while broker.store.database.tidy():
        pass
    count = broker.store.database._connection.execute("SELECT count(*) FROM message").fetchone()
    assert count == (0,)


def test_session_without_expiry_needs_no_disk(broker: DurableBroker) -> None:
    receiver = broker.client("c")
    assert receiver.subscribe(("t", 2)) == [2], "SUBACK at once"
    publisher = broker.client("p")
    publisher.publish("t", b"x", 1, 1)
    assert [answer.kind for answer in publisher.take()] == [wire.PUBACK], "so is PUBACK"
    assert not broker.store.step()


@pytest.mark.spec("MQTT-3.1.2-23", "MQTT-4.1.0-2")
@pytest.mark.parametrize(("away", "present"), [(50.0, True), (101.0, False)])
def test_expiry_goes_on_while_the_node_is_down(broker: DurableBroker, away: float, present: bool) -> None:
    peer = connect(broker, "c", expiry=100)
    peer.drop()
    broker.settle()
    assert connect(broker.crashed(away), "c").connack.session_present == present


def test_expiry_of_a_client_that_was_connected_begins_with_the_restart(broker: DurableBroker) -> None:
    connect(broker, "c", expiry=100)
    broker.settle()
    broker = broker.crashed(after=5000.0)
    broker.advance(99.0)
    assert len(broker.engine.roster) == 1
    broker.advance(2.0)
    assert len(broker.engine.roster) == 0


def test_clock_that_was_set_back_prolongs_nothing(broker: DurableBroker) -> None:
    """A gateway without a clock of its own may start in 1970."""
    will = wire.props((0x18, 60))
    connect(broker, "c", expiry=100, will=("w", b"x", 1, False), will_properties=will).drop()
    listener = subscribed(broker, "listener", ("w", 1))
    listener.drop()
    broker.settle()
    broker = broker.crashed(after=-1_000_000.0)
    listener = connect(broker, "listener")
    broker.advance(61.0)
    assert payloads(listener, broker) == [b"x"]
    assert len(broker.engine.roster) == 2
    broker.advance(40.0)
    assert len(broker.engine.roster) == 1


@pytest.mark.parametrize("by", [1_000_000.0, -1_000_000.0])
@pytest.mark.parametrize("written", [False, True])
def test_clock_that_is_set_while_the_node_runs_changes_no_time_to_live(
    broker: DurableBroker, by: float, written: bool
) -> None:
    """A gateway hears from a time server a minute after its start."""
    connect(broker, "away", expiry=100).drop()
    subscribed(broker, "c", ("t", 1)).drop()
    publisher = broker.client("p")
    lives = wire.props((0x02, 60))
    publisher.publish("t", b"queued", 1, 1, properties=lives)
    publisher.publish("r", b"retained", 1, 2, retain=True, properties=lives)
    if written:
        broker.settle()
    broker.jump(by)
    broker.advance(30.0)
    reader = broker.client("reader")
    reader.subscribe(("r", 1))
    assert reader.heard() == [("r", b"retained")]
    if written:
        broker.settle()
        broker = broker.crashed()
    peer = connect(broker, "c")
    broker.settle()
    (message,) = peer.take()
    assert message.payload == b"queued"
    assert message.properties == [(0x02, 30)]
    broker.advance(31.0)
    assert len(broker.engine.retained) == 0
    assert "away" in {session.client_id for session in broker.engine.roster}
    broker.advance(41.0 if not written else 101.0)
    assert "away" not in {session.client_id for session in broker.engine.roster}


@pytest.mark.spec("MQTT-3.1.2-8", "MQTT-3.1.2-10", "MQTT-3.1.3-9")
def test_wills_of_clients_that_a_crash_cut_off(broker: DurableBroker) -> None:
    subscribed(broker, "listener", ("w/#", 1))
    delayed = wire.props((0x18, 30))
    for client_id, more in (
        ("at once", {}),
        ("later", {"will_properties": delayed}),
        ("back in time", {"will_properties": delayed}),
        ("gone properly", {}),
    ):
        peer = connect(broker, client_id, will=(f"w/{client_id}", b"", 1, False), **more)
        if client_id == "gone properly":
            peer.send(b"\xe0\x00")
    broker.client("clean", will=("w/clean", b"", 1, False))
    broker.settle()
    broker = broker.crashed()
    listener = connect(broker, "listener")
    connect(broker, "back in time")
    broker.advance(1.0)
    broker.settle()
    assert {topic for topic, _ in listener.heard()} == {"w/at once", "w/clean"}
    broker.advance(40.0)
    assert {topic for topic, _ in listener.heard()} == {"w/later"}
    broker.settle()
    broker = broker.crashed()
    broker.advance(50.0)
    peer = connect(broker, "listener")
    assert {topic for topic, _ in peer.heard()} <= {"w/at once", "w/clean", "w/later"}, (
        "only what is unacknowledged"
    )


def test_expired_messages_are_not_delivered_after_the_restart(broker: DurableBroker) -> None:
    subscribed(broker, "c", ("t", 1)).drop()
    publisher = broker.client("p")
    publisher.publish("t", b"short", 1, 1, properties=wire.props((0x02, 10)))
    publisher.publish("t", b"long", 1, 2, properties=wire.props((0x02, 1000)))
    broker.settle()
    broker = broker.crashed(after=100.0)
    peer = connect(broker, "c")
    assert payloads(peer, broker) == [b"long"]
    assert broker.engine.stats.dropped_expired == 1
    broker.settle()
    count = broker.store.database._connection.execute("SELECT count(*) FROM message").fetchone()
    assert count == (0,)


@pytest.mark.usefixtures("short_memory")
@pytest.mark.parametrize("crash", [False, True])
def test_long_queue_is_on_disk_and_comes_in_order(broker: DurableBroker, crash: bool) -> None:
    subscribed(broker, "c", ("t", 2)).drop()
    expected = [b"%d" % number for number in range(50)]
    publish(broker, "t", *expected[:25], qos=1)
    publish(broker, "t", *expected[25:], qos=2)
    session = next(one for one in broker.engine.roster if one.client_id == "c")
    assert (len(session.queue), session.queue.on_disk) == (50, 48)
    if crash:
        broker = broker.crashed()
        session = next(one for one in broker.engine.roster if one.client_id == "c")
        assert (len(session.queue), session.queue.on_disk) == (50, 50)
    peer = connect(broker, "c")
    peer.block()
    peer.unblock()
    assert payloads(peer, broker) == expected
    assert (broker.engine.stats.queued_messages, broker.engine.stats.queued_bytes) == (0, 0)


@pytest.mark.usefixtures("short_memory")
def test_full_queue_drops_the_oldest_also_from_disk() -> None:
    broker = DurableBroker(database(), queue_max_messages=10, queue_full="drop_oldest")
    subscribed(broker, "c", ("t", 1)).drop()
    publish(broker, "t", *(b"%d" % number for number in range(30)))
    broker = broker.crashed()
    publish(broker, "t", b"a", b"b", b"c")
    peer = connect(broker, "c")
    found = payloads(peer, broker)
    assert found[-3:] == [b"a", b"b", b"c"]
    assert found == sorted(found, key=lambda payload: (payload.isalpha(), payload.zfill(3))), "in order"
    assert len(found) <= 10


@pytest.mark.usefixtures("short_memory")
@pytest.mark.spec("MQTT-4.8.2-4", "MQTT-4.8.2-6")
def test_what_a_member_of_a_group_leaves_on_disk_is_for_the_others(broker: DurableBroker) -> None:
    subscribed(broker, "one", ("$share/g/t", 1)).drop()
    publish(broker, "t", *(b"%d" % number for number in range(20)))
    other = subscribed(broker, "other", ("$share/g/t", 1))
    broker = broker.crashed()
    other = connect(broker, "other")
    broker.client("one", clean=True)
    assert sorted(payloads(other, broker), key=int) == [b"%d" % number for number in range(20)]


def test_message_that_all_have_taken_is_never_written(broker: DurableBroker) -> None:
    peer = subscribed(broker, "c", ("t", 1))
    publisher = broker.client("p")
    publisher.publish("t", b"x", 1, 1)
    assert publisher.take() == [], "not before the receiver has it, or the disk"
    (message,) = peer.take()
    peer.send(wire.ack(wire.PUBACK, message.packet_id))
    broker.store.release()
    assert [answer.kind for answer in publisher.take()] == [wire.PUBACK]
    broker.settle()
    assert broker.store.rows == 0


def test_large_messages_of_a_queue_stay_on_disk() -> None:
    broker = DurableBroker(database(), queue_max_messages=1000, queue_max_bytes=1 << 30)
    subscribed(broker, "c", ("t", 1)).drop()
    sent = [b"%d" % number + bytes(300_000) for number in range(60)]
    publish(broker, "t", *sent)
    broker = broker.crashed()
    properties = wire.props((0x11, NEVER), (0x21, 1))
    slow = broker.client("c", clean=False, properties=properties)
    broker.settle()
    (session,) = (one for one in broker.engine.roster if one.client_id == "c")
    in_memory = sum(len(delivery[0].payload) for delivery in session.queue.in_memory())
    assert 0 < in_memory <= 2 * (1 << 20) + 300_010
    assert len(session.queue) + len(session.inflight) == 60
    assert payloads(slow, broker) == sent, "and all of them come"


def test_failing_disk_refuses_what_it_should_keep(broker: DurableBroker) -> None:
    subscribed(broker, "c", ("kept", 1)).drop()
    listener = broker.client("listener")
    listener.subscribe(("other", 1))
    broker.store.failed = True
    publisher = broker.client("p")
    publisher.publish("kept", b"x", 1, 1)
    publisher.publish("kept", b"x", 2, 2)
    publisher.publish("kept", b"x", 0)
    publisher.publish("other", b"x", 1, 3)
    publisher.publish("other", b"x", 1, 4, retain=True)
    found = [(answer.packet_id, answer.reason) for answer in publisher.take()]
    assert found == [(1, 0x97), (2, 0x97), (3, 0), (4, 0x97)]
    assert len(listener.heard()) == 1
    old = broker.client("p3", 4)
    old.publish("kept", b"late", 1, 5)
    assert old.take() == [], "nobody can be told, so the client waits"
    broker.store.failed = False
    broker.settle()
    assert [answer.packet_id for answer in old.take()] == [5]
    peer = connect(broker, "c")
    assert payloads(peer, broker) == [b"late"]


def test_user_and_mount_point_of_a_session_are_known_again() -> None:
    """By them the authority decides on what is delivered to a client that is away."""
    from broker.ports import Peer as Origin

    broker = DurableBroker(database())
    peer = broker.peer(Origin("192.0.2.7", "tenants", "tenant/"))
    peer.send(wire.connect("c", 4, clean=False, username="ana", password=b"secret"))
    peer.send(wire.subscribe(1, [("t", 1)]))
    broker.settle()
    broker = broker.crashed()
    (session,) = broker.engine.roster
    assert session.credentials is not None
    shown = session.credentials
    assert (shown.username, shown.address, shown.listener) == ("ana", "192.0.2.7", "tenants")
    assert shown.password is None
    assert b"secret" not in b"".join(
        repr(row).encode() for row in broker.store.database._connection.iterdump()
    )
    assert session.mount_point == "tenant/"
    assert isinstance(broker.store, StepStore)
    assert isinstance(broker.store.database, Database)
    publish(broker, "tenant/t", b"x")
    peer = broker.peer(Origin("192.0.2.7", "tenants", "tenant/"))
    peer.version = 4
    peer.send(wire.connect("c", 4, clean=False, username="ana"))
    broker.settle()
    assert [(a.topic, a.payload) for a in peer.take() if a.kind == wire.PUBLISH] == [("t", b"x")]


@pytest.mark.parametrize("moment", ["gathered", "at the disk"])
def test_what_another_disk_refused_is_not_kept(broker: DurableBroker, moment: str) -> None:
    """The outbox fails while the store's own disk is well."""
    subscribed(broker, "c", ("t", 1)).drop()
    publisher = broker.client("p")
    publisher.publish("t", b"refused", 1, 1)
    if moment == "at the disk":
        broker.store.begin()
    broker.engine.roster.refuse_waiting()
    broker.store.drop_refused()
    assert [answer.reason for answer in publisher.take()] == [0x97]
    publisher.publish("t", b"again", 1, 1)
    broker.settle()
    broker = broker.crashed()
    assert payloads(connect(broker, "c"), broker) == [b"again"]


def test_what_comes_with_a_repetition_is_refused_and_the_repetition_is_not(broker: DurableBroker) -> None:
    subscribed(broker, "c", ("t", 1)).drop()
    publisher = connect(broker, "p")
    publisher.publish("t", b"first", 2, 1)
    publisher.drop()
    broker.settle()
    publisher = connect(broker, "p")
    broker.settle()
    publisher.send(
        wire.publish("t", b"new", 1, 7, 5)
        + wire.publish("t", b"first", 2, 1, 5, dup=True)
        + wire.publish("t", b"newer", 2, 8, 5)
    )
    assert publisher.take() == [], "all of it waits for the disk"
    broker.engine.roster.refuse_waiting()
    broker.store.drop_refused()
    assert [(answer.packet_id, answer.reason) for answer in publisher.take()] == [(7, 0x97), (8, 0x97)]
    broker.settle()
    assert [(answer.kind, answer.packet_id, answer.reason) for answer in publisher.take()] == [
        (wire.PUBREC, 1, 0)
    ]
    broker = broker.crashed()
    assert payloads(connect(broker, "c"), broker) == [b"first"]
