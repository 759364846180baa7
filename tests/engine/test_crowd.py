"""Clients that are here and do not keep up with other nodes: what waits there is waited with, but not for ever."""

from __future__ import annotations

import pytest

from broker.message import Message
from tests.engine.harness import Broker, Peer
from tests.protocol import wire


@pytest.fixture
def broker() -> Broker:
    return Broker(queue_max_messages=100, queue_max_bytes=10_000)


def slow(broker: Broker, **more: object) -> Peer:
    """A client that takes one message at a time."""
    client = broker.client("slow", properties=wire.props((0x21, 1), (0x11, 100)), clean=False, **more)
    client.subscribe(("t", 1))
    return client


def arrive(broker: Broker, count: int, size: int = 1) -> None:
    broker.engine.deliver_from_mesh([Message("t", bytes(size), 1, origin="far")] * count, broker.now)


def crowded(broker: Broker) -> bool:
    return broker.engine.crowd.is_waited_for(broker.now)


def test_half_a_queue_is_a_crowd_until_the_client_has_taken_it(broker: Broker) -> None:
    client = slow(broker)
    arrive(broker, 50)
    assert not crowded(broker)
    arrive(broker, 10)
    assert crowded(broker)
    while crowded(broker):
        (message,) = client.take_kind(wire.PUBLISH)
        client.send(wire.ack(wire.PUBACK, message.packet_id))
    assert 45 < len(next(iter(broker.engine.roster)).queue) <= 50


def test_bytes_count_too(broker: Broker) -> None:
    slow(broker)
    arrive(broker, 10, 700)
    assert crowded(broker)


def test_nobody_waits_for_long_for_a_client_that_takes_nothing(broker: Broker) -> None:
    client = slow(broker)
    arrive(broker, 90)
    broker.advance(4)
    assert crowded(broker)
    (message,) = client.take_kind(wire.PUBLISH)
    client.send(wire.ack(wire.PUBACK, message.packet_id))
    assert crowded(broker)
    broker.advance(4)
    assert crowded(broker), "it has taken one since"
    broker.advance(2)
    assert not crowded(broker)
    arrive(broker, 1)
    assert not crowded(broker), "still the same"
    (message,) = client.take_kind(wire.PUBLISH)
    client.send(wire.ack(wire.PUBACK, message.packet_id))
    client.send(wire.ack(wire.PUBACK, client.take_kind(wire.PUBLISH)[0].packet_id))
    assert crowded(broker), "it goes on"


def test_clients_that_are_away_or_leave_are_not_waited_for(broker: Broker) -> None:
    client = slow(broker)
    arrive(broker, 90)
    assert crowded(broker)
    client.drop()
    assert not crowded(broker)
    arrive(broker, 5)
    assert not crowded(broker)
