"""What `$SYS` tells, by Mosquitto's names."""

from __future__ import annotations

import math

import pytest

from broker.observe.load import Load
from broker.observe.sys_topics import SysTopics
from tests.engine.harness import Broker
from tests.protocol import wire

LOADS = [
    *("messages/received", "messages/sent", "publish/dropped", "publish/received", "publish/sent"),
    *("bytes/received", "bytes/sent", "sockets", "connections"),
]
MOSQUITTO = {
    *("version", "uptime", "bytes/received", "bytes/sent", "heap/current", "heap/maximum"),
    *(f"clients/{name}" for name in ("active", "connected", "disconnected", "expired", "inactive")),
    *("clients/maximum", "clients/total", "messages/received", "messages/sent", "messages/stored"),
    *("publish/bytes/received", "publish/bytes/sent", "publish/messages/dropped"),
    *("publish/messages/received", "publish/messages/sent", "store/messages/bytes", "store/messages/count"),
    *("subscriptions/count", "shared_subscriptions/count", "retained messages/count"),
    *(f"load/{name}/{minutes}min" for name in LOADS for minutes in (1, 5, 15)),
}


def figures(broker: Broker, sys_topics: SysTopics, uptime: float = 10.0) -> dict[str, str]:
    """What a client that subscribes to all of $SYS hears."""
    sys_topics.publish(uptime, {}, broker.now)
    watcher = broker.client("watcher")
    watcher.subscribe(("$SYS/#", 0))
    heard = {topic.removeprefix("$SYS/broker/"): payload.decode() for topic, payload in watcher.heard()}
    watcher.send(wire.disconnect(5))
    return heard


def test_names_are_those_of_mosquitto() -> None:
    broker = Broker()
    heard = figures(broker, SysTopics(broker.engine))
    assert set(heard) >= MOSQUITTO
    assert heard["version"].startswith("geomq version")
    assert heard["uptime"] == "10 seconds"
    assert int(heard["heap/current"]) > 1 << 20
    assert int(heard["heap/maximum"]) >= int(heard["heap/current"]) // 2


def test_figures_are_right() -> None:
    broker = Broker()
    subscriber = broker.client("subscriber", clean=False, properties=wire.props((0x11, 100)))
    subscriber.subscribe(("a", 1), ("$share/g/b", 1))
    publisher = broker.client("publisher")
    for number in range(3):
        publisher.publish("a", b"four", 1, number + 1)
    publisher.publish("kept", b"sixsix", 0, retain=True)
    publisher.send(wire.PINGREQ)
    subscriber.send(*[wire.ack(wire.PUBACK, number) for number in (1, 2, 3)])
    subscriber.drop()
    publisher.publish("a", b"waits", 1, 9)
    heard = figures(broker, SysTopics(broker.engine))
    expected = {
        "clients/connected": 1,
        "clients/disconnected": 1,
        "clients/total": 2,
        "clients/maximum": 2,
        "publish/messages/received": 5,
        "publish/messages/sent": 3,
        "publish/bytes/received": 3 * 4 + 6 + 5,
        "publish/bytes/sent": 3 * 4,
        # CONNECT twice, SUBSCRIBE, PINGREQ, three PUBACK
        "messages/received": 5 + 7,
        # CONNACK twice, SUBACK, PINGRESP, four PUBACK
        "messages/sent": 3 + 8,
        "subscriptions/count": 2,
        "shared_subscriptions/count": 1,
        "retained messages/count": 1,
        "store/messages/count": 2,
        "store/messages/bytes": 11,
        "load/connections/1min": f"{2 * 6 * (1 - math.exp(-1 / 6)):.2f}",
    }
    assert {name: heard[name] for name in expected} == {name: str(value) for name, value in expected.items()}


def test_nothing_stays_counted_of_a_session_that_expired() -> None:
    broker = Broker()
    subscriber = broker.client("subscriber", clean=False, properties=wire.props((0x11, 5)))
    subscriber.subscribe(("a", 1))
    subscriber.drop()
    broker.client("publisher").publish("a", b"waits", 1)
    assert broker.engine.stats.queued_bytes == 5
    broker.advance(7)
    assert (broker.engine.stats.queued_messages, broker.engine.stats.queued_bytes) == (0, 0)
    assert figures(broker, SysTopics(broker.engine))["clients/expired"] == "1"


def test_only_what_changed_is_published_again() -> None:
    broker = Broker()
    watcher = broker.client("watcher")
    watcher.subscribe(("$SYS/broker/clients/#", 0))
    sys_topics = SysTopics(broker.engine)
    sys_topics.publish(1.0, {}, broker.now)
    assert watcher.heard()
    sys_topics.publish(2.0, {}, broker.now)
    assert watcher.heard() == []


@pytest.mark.parametrize("limit", [{"retained_max_messages": 1}, {"retained_max_bytes": 4}])
def test_figures_are_outside_what_clients_may_retain(limit: dict[str, int]) -> None:
    broker = Broker(**limit)
    sys_topics = SysTopics(broker.engine)
    assert figures(broker, sys_topics)["clients/connected"] == "0", "they take no client's place"
    client = broker.client(properties=wire.props((0x21, 10)))
    client.publish("kept", b"four", 1, retain=True)
    assert [answer.reason for answer in client.take_kind(wire.PUBACK)] == [0x10]
    assert figures(broker, sys_topics, 20.0)["clients/connected"] == "1", "a full quota makes them stale"
    assert (len(broker.engine.retained), broker.engine.retained.bytes) == (1, 4)
    client.publish("kept", b"", 1, 2, retain=True)
    assert (len(broker.engine.retained), broker.engine.retained.bytes) == (0, 0)


def mesh_status(**changes: object) -> dict[str, object]:
    ledger = {
        "accepted": 9,
        "acknowledged": 5,
        "queued": 2,
        "expired": 1,
        "dropped": {"age": 0, "overflow": 1},
    }
    peer = {
        "name": "far",
        "alive": True,
        "version": "1.0",
        "backlog_age": 3.5,
        "round_trip_ms": 1.25,
        "clock_difference": None,
        "ledger": ledger,
        "rates": {"bytes_sent": 7.5},
    }
    alarms = {"filled": True, "dropping": False, "late": ["far"], "raised": 2}
    outbox = {"bytes": 900, "capacity": 1000, "dropped": 1, "alarms": alarms}
    counters = {"publish_unwanted": 3}
    mesh = {"outbox": outbox, "retained_withheld": 3}
    return {"mesh": mesh, "peers": [peer | changes], "counters": counters}


def test_ledger_and_links_are_told() -> None:
    broker = Broker()
    sys_topics = SysTopics(broker.engine)
    watcher = broker.client("watcher")
    watcher.subscribe(("$SYS/broker/geomq/#", 0))
    watcher.heard()
    sys_topics.publish(1.0, mesh_status(), broker.now)
    heard = {topic.removeprefix("$SYS/broker/geomq/"): text.decode() for topic, text in watcher.heard()}
    heard.pop("status")
    figures = ("accepted", "acknowledged", "queued", "expired", "dropped/age", "dropped/overflow", "alive")
    values = ("9", "5", "2", "1", "0", "1", "1")
    assert heard == {
        **{f"mesh/far/{name}": value for name, value in zip(figures, values, strict=True)},
        "mesh/unwanted": "3",
        "mesh/far/version": "1.0",
        "mesh/far/backlog_age": "3.5",
        "mesh/far/round_trip_ms": "1.25",
        "mesh/far/rate/bytes_sent": "7.5",
        "mesh/retained_withheld": "3",
        "outbox/bytes": "900",
        "outbox/capacity": "1000",
        "outbox/dropped": "1",
        "outbox/alarms/filled": "1",
        "outbox/alarms/dropping": "0",
        "outbox/alarms/late": "1",
        "outbox/alarms/raised": "2",
    }
    sys_topics.publish(2.0, mesh_status(round_trip_ms=None), broker.now)
    later = dict(watcher.heard())
    later.pop("$SYS/broker/geomq/status")
    assert later == {"$SYS/broker/geomq/mesh/far/round_trip_ms": b""}
    fresh = broker.client("fresh")
    fresh.subscribe(("$SYS/broker/geomq/mesh/far/round_trip_ms", 0))
    assert fresh.heard() == []


def test_load_nears_a_steady_rate() -> None:
    load = Load()
    for number in range(1, 1000):
        load.update(number * 100, 10.0)
    assert load.averages == pytest.approx({1: 600, 5: 600, 15: 600}, rel=0.01)
    load.update(999 * 100, 60.0)
    assert load.averages[1] == pytest.approx(600 / math.e, rel=0.01)
    assert load.averages[15] == pytest.approx(600 * math.exp(-1 / 15), rel=0.01)
