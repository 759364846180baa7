"""Each limit: the standard's answer, a count, and everybody else undisturbed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from broker.admission import Admission
from broker.flow import Pause
from broker.limits import Limits
from broker.overload import Overload
from broker.ports import LOCAL
from broker.ports import Peer as Origin
from tests.engine.harness import Broker, Peer
from tests.protocol import wire

_numbers = itertools.count()


def connects(broker: Broker, version: int = 5, origin: Origin | None = None, **more: Any) -> int:
    """The code with which a CONNECT is answered."""
    peer = Peer(broker, version, origin)
    return peer.ask(wire.connect(more.pop("client_id", f"c{next(_numbers)}"), version, **more)).reason


# -- connections -------------------------------------------------------------------------------------------


def test_connections_of_an_address() -> None:
    broker = Broker(max_connections_per_address=2)
    here, there = Origin("192.0.2.1"), Origin("192.0.2.2")
    assert [connects(broker, 5, here) for _ in range(3)] == [0, 0, 0x97]
    assert connects(broker, 4, here) == 3
    assert connects(broker, 5, there) == 0
    assert broker.engine.stats.connections_refused == 2


def test_clients_of_a_unix_socket_share_no_address() -> None:
    broker = Broker(max_connections_per_address=1, connection_rate_per_address=1.0)
    assert [connects(broker, 5, Origin(LOCAL)) for _ in range(3)] == [0, 0, 0]


def test_place_of_a_connection_that_ended_is_free() -> None:
    broker = Broker(max_connections_per_address=1)
    for _ in range(3):
        client = broker.client()
        assert connects(broker) == 0x97
        client.drop()
    silent = broker.peer()
    assert connects(broker) == 0x97
    silent.drop()
    assert connects(broker) == 0


def test_connections_of_a_user() -> None:
    broker = Broker(max_connections_per_user=2)
    joe = {"username": "joe", "password": b""}
    first = broker.client("one", **joe)
    assert connects(broker, **joe) == 0
    assert connects(broker, **joe) == 0x97
    assert connects(broker, 4, **joe) == 3
    assert connects(broker, username="ann", password=b"") == 0
    assert connects(broker) == 0, "clients without a name are not one user"
    first.drop()
    assert connects(broker, **joe) == 0


@pytest.mark.parametrize(
    "limit", ["max_connections", "max_connections_per_address", "max_connections_per_user"]
)
def test_take_over_needs_no_second_place(limit: str) -> None:
    broker = Broker(**{limit: 1})
    joe = {"username": "joe", "password": b""}
    first = broker.client("same", **joe)
    assert connects(broker, client_id="same", **joe) == 0, (
        "its old connection is dead, and nobody knows it yet"
    )
    assert first.closed
    assert connects(broker, client_id="other", **joe) == 0x97
    if limit != "max_connections":
        there = Origin("192.0.2.9")
        assert connects(broker, 5, there, client_id="else", username="ann", password=b"") == 0
        assert connects(broker, client_id="else", **joe) == 0x97, "one more of this address, and of this user"


@pytest.mark.parametrize("each", [True, False])
def test_rate_of_connections(each: bool) -> None:
    broker = Broker(**{"connection_rate_per_address" if each else "connection_rate": 2.0})
    assert [connects(broker) for _ in range(3)] == [0, 0, 0x9F]
    assert connects(broker, 4) == 3
    assert connects(broker, origin=Origin("192.0.2.9")) == (0 if each else 0x9F)
    broker.advance(1.0)
    assert connects(broker) == 0


def test_addresses_that_come_once_are_forgotten() -> None:
    admission = Admission(Limits(connection_rate_per_address=1.0))
    for number in range(30_000):
        assert admission.objection(f"2001:db8::{number:x}", number * 0.001) == ""
    assert len(admission._rate_per_address) <= 10_000


def test_half_open_connections() -> None:
    broker = Broker(max_half_open=2)
    silent = [broker.peer(), broker.peer()]
    assert not broker.engine.admission.half_open.has_room
    silent[0].ask(wire.connect("c", 5))
    assert broker.engine.admission.half_open.has_room
    broker.advance(20)
    assert silent[1].closed
    assert len(broker.engine.admission.half_open) == 0


def test_first_packet_is_small() -> None:
    broker = Broker(max_connect_size=1000)
    peer = broker.peer()
    peer.send(wire.connect("x" * 2000, 5)[:10])
    assert peer.take() == []
    assert peer.closed
    client = broker.client()
    client.subscribe(("t", 0))
    client.publish("t", bytes(5000))
    assert len(client.heard()) == 1, "a client that was let in may send more"


# -- topics and subscriptions ------------------------------------------------------------------------------


def test_subscriptions_of_a_client() -> None:
    broker = Broker(max_subscriptions=2)
    client = broker.client()
    assert client.subscribe(("a", 1), ("b", 1), ("c", 1)) == [1, 1, 0x97]
    assert client.subscribe(("a", 2)) == [2], "one that is there may be replaced"
    client.send(wire.unsubscribe(1, ["b"], 5))
    client.take()
    assert client.subscribe(("c", 1)) == [1]
    assert broker.client("four", 4).subscribe(("a", 1), ("b", 1), ("c", 1)) == [1, 1, 0x80]


@pytest.mark.parametrize(
    ("limit", "fits", "too_much"),
    [({"max_topic_length": 5}, "a/b/c", "a/b/cd"), ({"max_topic_levels": 3}, "a/b/cd", "a/b/c/d")],
)
def test_topics_that_are_too_long_or_deep(limit: dict[str, int], fits: str, too_much: str) -> None:
    broker = Broker(**limit)
    watcher = broker.client("watcher")
    assert watcher.subscribe(("#", 1), (fits, 1), (too_much, 1)) == [1, 1, 0x8F]
    client = broker.client()
    assert client.ask(wire.publish(fits, b"x", 1, 1, 5)).reason == 0
    refused = client.ask(wire.publish(too_much, b"x", 1, 2, 5))
    assert (refused.reason, refused.get(0x1F)) == (0x90, "the topic has too many characters or levels")
    client.publish(too_much, b"x", 0)
    old = broker.client("four", 4)
    assert old.ask(wire.publish(too_much, b"x", 1, 1, 4)).kind == wire.PUBACK
    assert watcher.heard() == [(fits, b"x")]
    counters = broker.engine.stats.as_dict()
    assert [counters[f"limited_{name}"] for name in limit] == [4], "three messages and a filter"
    assert counters["publish_denied"] == 0


# -- retained messages and queues --------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [{"retained_max_messages": 1}, {"retained_max_bytes": 6}])
def test_retained_messages(limit: dict[str, int]) -> None:
    broker = Broker(**limit)
    client = broker.client()
    client.subscribe(("#", 0))
    client.publish("a", b"12345", 1, 1, retain=True)
    client.take()
    client.send(wire.publish("b", b"12345", 1, 2, 5, retain=True))
    (refused,) = client.take()
    assert (refused.kind, refused.reason) == (wire.PUBACK, 0x97)
    client.send(wire.publish("a", b"123456", 1, 3, 5, retain=True))
    assert [(a.kind, a.reason) for a in client.take_kind(wire.PUBACK)] == [(wire.PUBACK, 0)]
    assert client.heard() == [("a", b"123456")]
    client.publish("b", b"live", 0, retain=True)
    old = broker.client("four", 4)
    old.publish("c", b"live", 1, retain=True)
    assert client.heard() == [("b", b"live"), ("c", b"live")], "delivered, and not kept"
    assert {message.topic for message in broker.engine.retained.messages()} == {"a"}
    assert sum(broker.engine.stats.as_dict()[f"limited_{key}"] for key in limit) == 3
    client.publish("a", b"", 0, retain=True)
    client.publish("b", b"12345", 1, 4, retain=True)
    assert [(a.kind, a.reason) for a in client.take_kind(wire.PUBACK)] == [(wire.PUBACK, 0)]
    assert broker.engine.retained.bytes == 5


@pytest.mark.parametrize(
    ("policy", "kept"),
    [("drop_newest", [b"1", b"2"]), ("drop_oldest", [b"3", b"4"]), ("disconnect", [b"1", b"2"])],
)
def test_full_queue(policy: str, kept: list[bytes]) -> None:
    broker = Broker(queue_max_messages=2, queue_full=policy)
    persistent = {"clean": False, "properties": wire.props((0x11, 100))}
    client = broker.client(**persistent)
    client.subscribe(("t", 1))
    client.drop()
    publisher = broker.client("publisher")
    for payload in (b"1", b"2", b"3", b"4"):
        publisher.publish("t", payload, 1)
    assert broker.engine.stats.dropped_queue_full == 2
    assert [payload for _, payload in broker.client(**persistent).heard()] == kept


def test_client_whose_queue_is_full_goes() -> None:
    broker = Broker(queue_max_messages=2, queue_full="disconnect")
    client = broker.client(properties=wire.props((0x21, 1)))
    client.subscribe(("t", 1))
    publisher = broker.client("publisher")
    for number in range(5):
        publisher.publish("t", b"%d" % number, 1)
    client.take()
    broker.advance(1)
    assert [(a.kind, a.reason) for a in client.take()] == [(wire.DISCONNECT, 0x97)]
    assert client.closed
    assert not publisher.closed


def test_queues_of_all_clients_together() -> None:
    broker = Broker(queue_total_bytes=10)
    persistent = {"clean": False, "properties": wire.props((0x11, 100))}
    for name in ("a", "b"):
        client = broker.client(name, **persistent)
        client.subscribe(("t", 1))
        client.drop()
    publisher = broker.client("publisher")
    for payload in (b"1234", b"5678"):
        publisher.publish("t", payload, 1)
    assert broker.engine.stats.queued_bytes == 8
    assert broker.engine.stats.dropped_queue_full == 2
    assert broker.client("a", **persistent).heard() == [("t", b"1234")]
    assert broker.engine.stats.queued_bytes == 4


# -- slow consumers ----------------------------------------------------------------------------------------


def test_client_that_takes_nothing_is_named_and_cut_off() -> None:
    broker = Broker(slow_consumer_timeout=30.0)
    slow, other = broker.client("slow"), broker.client("other")
    for client in (slow, other):
        client.connection.block(broker.now)
    broker.advance(20)
    other.unblock()
    other.connection.block(broker.now)
    broker.advance(15)
    assert slow.closed
    assert not other.closed
    assert broker.notes.lines == [("slow", "slow", "took nothing for 30 s")]
    assert broker.engine.stats.limited_slow_consumer_timeout == 1


# -- overload ----------------------------------------------------------------------------------------------


def test_overload_lasts_until_it_is_well_over() -> None:
    overload = Overload(memory=100, lag=1.0)
    assert not overload.update(0.0, 99)
    assert overload.update(0.0, 101)
    assert overload.update(0.0, 96)
    assert not overload.update(0.0, 94)
    assert not overload.update(1.5, 0), "one long task is none"
    assert overload.update(1.5, 0)
    assert overload.update(0.9, 0)
    assert not overload.update(0.0, 0)
    assert not Overload(0, 0.0).update(100.0, 1 << 40)


def test_overload_tells_its_figures() -> None:
    overload = Overload(memory=100 << 20, lag=1.0)
    overload.update(0.5, 101 << 20)
    assert str(overload) == "memory 101 MiB of 100 MiB, event loop late by 0.25 s of 1 s"
    overload.change(0, 0.0)
    assert str(overload) == "memory 101 MiB, event loop late by 0.25 s"


def test_overloaded_node_sends_new_clients_away_and_slows_those_it_has() -> None:
    broker = Broker()
    client = broker.client()
    client.subscribe(("t", 0))
    broker.engine.overloaded(True, broker.now)
    assert connects(broker) == 0x89
    assert connects(broker, 4) == 3
    client.send(*[wire.publish("t", b"x", version=5) for _ in range(5)])
    assert len(client.heard()) == 5
    assert client.transport.paused
    broker.engine.overloaded(False, broker.now)
    broker.advance(5)
    assert not client.transport.paused
    assert connects(broker) == 0
    client.send(*[wire.publish("t", b"x", version=5) for _ in range(500)])
    assert not client.transport.paused


def test_reasons_to_pause_are_kept_apart() -> None:
    client = Broker().client()
    valve = client.connection.valve
    valve.pause(Pause.RATE)
    valve.pause(Pause.ACKNOWLEDGEMENTS)
    valve.resume(Pause.RATE)
    assert client.transport.paused
    valve.resume(Pause.RATE)
    assert client.transport.paused
    valve.resume(Pause.ACKNOWLEDGEMENTS)
    assert not client.transport.paused
