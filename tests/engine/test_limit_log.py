"""Each limit: what it did is counted by its key, and told in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from broker.config.reference import reference
from broker.limit_log import LimitLog
from broker.ports import Party
from broker.ports import Peer as Origin
from broker.stats import Stats
from tests.engine.harness import Broker, Notes, Peer
from tests.protocol import wire

PERSISTENT: dict[str, Any] = {"clean": False, "properties": wire.props((0x11, 100))}
SMALL = wire.publish("t", b"x", 1, 1, 5, retain=True)


def connect_again(broker: Broker, **more: Any) -> None:
    broker.client("first", **more)
    for number in range(3):
        broker.peer().send(wire.connect(f"c{number}", 5, **more))


def crowd(broker: Broker) -> None:
    """Three messages for a client that is away."""
    absent = broker.client("absent", **PERSISTENT)
    absent.subscribe(("t", 1))
    absent.drop()
    publisher = broker.client("publisher")
    for number in range(3):
        publisher.publish("t", b"four", 1, number + 1)


def retain(broker: Broker) -> None:
    publisher = broker.client("publisher")
    for topic in ("a", "b", "c"):
        publisher.publish(topic, b"four", 1, retain=True)


def send(*data: bytes) -> Callable[[Broker], None]:
    """A client sends something."""
    return lambda broker: broker.client("c").send(*data)


def stay_silent(broker: Broker) -> None:
    broker.peer()
    broker.advance(20)


def receive_slowly(broker: Broker) -> None:
    client = broker.client("c", properties=wire.props((0x21, 1)))
    client.subscribe(("t", 1))
    publisher = broker.client("publisher")
    for number in range(4):
        publisher.publish("t", b"four", 1, number + 1)
    broker.advance(1)


def overload(broker: Broker) -> None:
    broker.engine.overloaded(True, broker.now)
    broker.peer().send(wire.connect("c", 5))


def will(topic: str) -> Callable[[Broker], None]:
    return lambda broker: broker.peer().send(wire.connect("c", 5, will=(topic, b"", 0, False)))


USER = {"username": "joe", "password": b""}
CASES: list[tuple[str, dict[str, Any], Callable[[Broker], None], int]] = [
    ("max_connections", {"max_connections": 1}, connect_again, 3),
    ("max_connections_per_address", {"max_connections_per_address": 1}, connect_again, 3),
    ("max_connections_per_user", {"max_connections_per_user": 1}, lambda b: connect_again(b, **USER), 3),
    ("connection_rate", {"connection_rate": 1.0}, connect_again, 3),
    ("connection_rate_per_address", {"connection_rate_per_address": 1.0}, connect_again, 3),
    ("connect_timeout", {"connect_timeout": 5.0}, stay_silent, 1),
    ("max_connect_size", {"max_connect_size": 99}, lambda b: b.peer().send(wire.connect("x" * 99, 5)), 1),
    ("max_packet_size", {"max_packet_size": 99}, send(wire.publish("t", bytes(99), version=5)), 1),
    ("receive_maximum", {"receive_maximum": 1}, send(*[wire.publish("t", b"", 2, n, 5) for n in (1, 2)]), 1),
    (
        "topic_alias_maximum",
        {"topic_alias_maximum": 1},
        send(wire.publish("t", b"", version=5, properties=wire.props((0x23, 2)))),
        1,
    ),
    ("message_rate", {"message_rate": 1.0}, send(SMALL * 3), 1),
    ("byte_rate", {"byte_rate": 10}, send(wire.publish("t", bytes(20), version=5)), 1),
    ("queue_max_messages", {"queue_max_messages": 1}, crowd, 2),
    ("queue_max_bytes", {"queue_max_bytes": 4}, crowd, 2),
    ("queue_total_bytes", {"queue_total_bytes": 4}, crowd, 2),
    ("queue_max_messages", {"queue_max_messages": 1, "queue_full": "drop_oldest"}, crowd, 2),
    ("retained_max_messages", {"retained_max_messages": 1}, retain, 2),
    ("retained_max_bytes", {"retained_max_bytes": 5}, retain, 2),
    (
        "retained_max_messages",
        {"retained_max_messages": 0},
        lambda b: b.client("four", 4).publish("t", b"x", 1, retain=True),
        1,
    ),
    ("max_subscriptions", {"max_subscriptions": 1}, send(wire.subscribe(1, [("a", 0), ("b", 0)], 5)), 1),
    ("max_topic_length", {"max_topic_length": 3}, send(wire.publish("long", b"", version=5) * 2), 2),
    ("max_topic_length", {"max_topic_length": 3}, send(wire.subscribe(1, [("long", 0)], 5)), 1),
    ("max_topic_length", {"max_topic_length": 3}, will("long"), 1),
    ("max_topic_levels", {"max_topic_levels": 2}, send(wire.publish("a/b/c", b"", 1, 1, 5)), 1),
    ("max_topic_levels", {"max_topic_levels": 2}, send(wire.subscribe(1, [("a/b/c", 0)], 5)), 1),
    ("max_topic_levels", {"max_topic_levels": 2}, will("a/b/c"), 1),
    ("overload", {}, overload, 1),
]


@pytest.mark.parametrize(("limit", "limits", "attack", "count"), CASES)
def test_what_a_limit_did_is_counted_and_told(
    limit: str, limits: dict[str, Any], attack: Callable[[Broker], None], count: int
) -> None:
    broker = Broker(**limits)
    attack(broker)
    counters = broker.engine.stats.as_dict()
    assert {name: value for name, value in counters.items() if name.startswith("limited_") and value} == {
        f"limited_{limit}": count
    }
    lines = [detail for event, _, detail in broker.notes.lines if event == "limited"]
    bound = f" is {limits[limit]}" if limit in limits else ""
    assert len(lines) == (count if limit == "max_connections_per_user" else 1), (
        "one for each client that is known"
    )
    assert {line.split(": ")[0] for line in lines} == {limit + bound}


def test_whose_message_is_not_retained_is_told_in_full() -> None:
    broker = Broker(retained_max_messages=0)
    broker.client("four", 4, username="joe", password=b"").publish("t", b"x", 1, retain=True)
    assert broker.notes.parties == [Party("four", "joe", "192.0.2.1", "test")]


def test_full_queue_that_costs_the_connection() -> None:
    broker = Broker(queue_max_messages=1, queue_full="disconnect")
    receive_slowly(broker)
    stats = broker.engine.stats
    assert (stats.limited_queue_full, stats.limited_queue_max_messages) == (1, 2)
    assert [detail for _, _, detail in broker.notes.lines] == [
        "queue_max_messages is 1: messages that wait for it are dropped",
        "queue_full is disconnect: its queue is full, DISCONNECT 0x97",
    ]


def test_full_queue_is_told_again_when_its_client_was_there() -> None:
    broker = Broker(queue_max_messages=1)
    crowd(broker)
    assert len(broker.notes.lines) == 1
    broker.advance(61)
    broker.client("absent", **PERSISTENT).drop()
    for number in range(3):
        broker.client("publisher").publish("t", b"four", 1, number + 1)
    assert len(broker.notes.lines) == 2


class Disk:
    """A store that takes nothing."""

    failing = True
    behind = False
    owes = False

    def retain(self, message: object) -> None:
        raise AssertionError("refused before")


class Full:
    """A mesh that has no room for what should wait."""

    failing = False
    full = True

    def refuses(self, nodes: object, retain: bool, size: int) -> bool:
        return self.full


@pytest.mark.parametrize(
    ("limit", "part", "value"), [("disk_reserve", "store", Disk()), ("outbox_full", "mesh", Full())]
)
def test_publisher_that_is_refused_for_want_of_disk(limit: str, part: str, value: Any) -> None:
    broker = Broker()
    client = broker.client("c")
    setattr(broker.engine, part, value)
    assert client.ask(SMALL).reason == 0x97
    assert broker.engine.stats.as_dict()[f"limited_{limit}"] == 1
    assert broker.notes.lines == [("limited", "c", f"{limit}: PUBLISH is answered by 0x97")]


@pytest.mark.parametrize("qos", [1, 2])
def test_publisher_that_cannot_be_told_waits_for_room(qos: int) -> None:
    broker = Broker()
    listener = broker.client("l")
    listener.subscribe(("t", 0))
    client = broker.client("c", 4)
    broker.engine.mesh = mesh = Full()  # type: ignore[assignment]
    client.publish("t", b"first", qos, 1)
    client.publish("t", b"second", 0)
    client.send(wire.PINGREQ)
    for _ in range(3):
        broker.advance(1)
        assert client.take() == []
    assert listener.heard() == []
    mesh.full = False
    broker.advance(1)
    assert [payload for _, payload in listener.heard()] == [b"first", b"second"]
    assert [answer.kind for answer in client.take()] == [
        wire.PUBACK if qos == 1 else wire.PUBREC,
        wire.PINGRESP,
    ]
    assert broker.engine.stats.publish_received == 2, "counted once, however often it was tried"


def test_publisher_that_leaves_without_room_is_forgotten() -> None:
    broker = Broker()
    client = broker.client("c", 4)
    broker.engine.mesh = mesh = Full()  # type: ignore[assignment]
    client.publish("t", b"first", 1, 1)
    client.drop()
    mesh.full = False
    broker.advance(1)
    assert broker.engine.stats.publish_received == 0
    assert client.take() == []


# -- the log -----------------------------------------------------------------------------------------------


def test_client_is_named_once_a_minute_and_no_more_than_twenty_of_them() -> None:
    notes, stats = Notes(), Stats()
    log = LimitLog(stats, notes)
    log.tick(0.0)
    for _ in range(3):
        log.hit("max_subscriptions", 5, Party("c"), "refused")
    assert notes.lines == [("limited", "c", "max_subscriptions is 5: refused")]
    for number in range(100):
        log.hit("max_subscriptions", 5, Party(f"c{number}"), "refused")
    assert len(notes.lines) == 20
    log.hit("max_half_open", 9, Party(address="192.0.2.1"), "closed")
    assert notes.lines[-1] == ("limited", "", "max_half_open is 9: closed"), (
        "another limit is heard all the same"
    )
    log.tick(59.0)
    assert len(notes.lines) == 21
    log.tick(61.0)
    assert notes.lines[-1] == ("limited", "", "max_subscriptions: 81 times more, by others")
    log.hit("max_subscriptions", 5, Party("c"), "refused")
    assert len(notes.lines) == 23
    assert (stats.limited_max_subscriptions, stats.limited_max_half_open) == (104, 1)


# -- the documents -----------------------------------------------------------------------------------------


def test_every_limit_has_an_answer_and_a_counter_in_the_reference() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", reference(), re.MULTILINE)
    counters = set(Stats().as_dict())
    named = {
        name
        for _, text in rows
        for name in re.findall(r"`(\w+)`", text.partition("Counter")[2].partition("Allowed")[0])
    }
    assert {name for name in counters if name.startswith("limited_")} <= named
    assert {name for name in named if name not in dict(rows)} <= counters
    limits = reference().split("\n## limits\n")[1].split("\n## ")[0]
    keys = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", limits, re.MULTILINE))
    assert [key for key, text in keys.items() if "Answer" not in text] == ["ban_window", "ban_time"]


def test_connection_that_said_nothing_is_named_by_its_address() -> None:
    broker = Broker(connect_timeout=5.0)
    Peer(broker, origin=Origin("192.0.2.7"))
    Peer(broker, origin=Origin("192.0.2.7"))
    broker.advance(20)
    assert len(broker.notes.lines) == 1
    assert broker.engine.stats.limited_connect_timeout == 2


def test_client_that_breaks_the_protocol_is_named_with_its_mistake() -> None:
    broker = Broker()
    clients = [broker.client("second"), broker.client("reserved"), broker.client("clean")]
    clients[0].send(wire.connect("second", 5))
    clients[1].send(b"\xd0\x00")
    clients[2].send(wire.disconnect(5))
    assert [line[:2] for line in broker.notes.lines] == [("ended", "second"), ("ended", "reserved")]
    assert all(detail.startswith("0x82, ") for _, _, detail in broker.notes.lines)
