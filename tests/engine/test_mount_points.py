"""Clients of a listener with a mount point live below it, and never see it."""

from __future__ import annotations

import pytest

from broker.ports import Peer as Origin
from tests.engine.harness import Broker, Peer
from tests.protocol import wire

SITE = Origin("192.0.2.1", "site", "plant1/")


@pytest.fixture
def broker() -> Broker:
    return Broker()


def inside(broker: Broker, name: str, version: int = 5, **more: object) -> Peer:
    peer = Peer(broker, version, SITE)
    assert peer.ask(wire.connect(name, version, **more)).reason == 0  # type: ignore[arg-type]
    return peer


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_topics_are_below_the_mount_point(broker: Broker, version: int, qos: int) -> None:
    outside = broker.client("outside", version)
    outside.subscribe(("plant1/a", 2), ("a", 2))
    device, other = inside(broker, "device", version), inside(broker, "other", version)
    other.subscribe(("+", 2))
    device.publish("a", b"in", qos)
    assert outside.heard() == [("plant1/a", b"in")]
    assert other.heard() == [("a", b"in")]
    outside.publish("plant1/a", b"out", qos)
    outside.publish("a", b"elsewhere", qos, 2)
    assert other.heard() == [("a", b"out")]


def test_runs_of_small_messages(broker: Broker) -> None:
    outside = broker.client("outside")
    outside.subscribe(("#", 0))
    device = inside(broker, "device")
    device.subscribe(("a", 0))
    device.send(*[wire.publish("a", b"%d" % number, version=5) for number in range(5)])
    assert outside.heard() == [("plant1/a", b"%d" % number) for number in range(5)]
    assert device.heard() == [("a", b"%d" % number) for number in range(5)]


def test_wills_retained_messages_and_shared_subscriptions(broker: Broker) -> None:
    outside = broker.client("outside")
    outside.subscribe(("plant1/#", 1))
    device = inside(broker, "device", will=("gone", b"bye", 1, True))
    device.publish("kept", b"x", 1, retain=True)
    device.drop()
    assert outside.heard() == [("plant1/kept", b"x"), ("plant1/gone", b"bye")]
    late = inside(broker, "late")
    assert late.subscribe(("$share/g/s", 1), ("gone", 1), ("kept", 1)) == [1, 1, 1]
    assert late.heard() == [("gone", b"bye"), ("kept", b"x")]
    outside.publish("plant1/s", b"shared", 1)
    assert late.heard() == [("s", b"shared")]


def test_the_brokers_own_topics_are_out_of_reach(broker: Broker) -> None:
    device = inside(broker, "device")
    device.subscribe(("$SYS/#", 0), ("#", 0))
    device.publish("$SYS/x", b"x", 1)
    assert [answer.kind for answer in device.take()] == [wire.PUBLISH, wire.PUBACK]
    assert [message.topic for message in broker.engine.retained.messages()] == []


def test_aliases_and_unsubscribing(broker: Broker) -> None:
    device = inside(broker, "device", properties=wire.props((0x22, 5)))
    device.subscribe(("long/topic", 1))
    for payload in (b"1", b"2"):
        device.send(wire.publish("long/topic", payload, 1, 1, 5))
    first, second = device.take_kind(wire.PUBLISH)
    assert (first.topic, second.topic) == ("long/topic", "")
    assert first.get(0x23) == second.get(0x23) == 1
    device.send(wire.unsubscribe(4, ["long/topic"], 5))
    (answer,) = device.take_kind(wire.UNSUBACK)
    assert answer.reasons == [0]
    assert broker.engine.subscriptions.count == 0
