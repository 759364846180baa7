"""The writer: groups, waiting for the disk, a disk that is full, and a process that is killed."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from broker.store.database import Database
from broker.store.group import Group
from broker.store.writer import StoreWriter
from tests.end_to_end.nodes import Client, NodeProcess, wait_for
from tests.engine.harness import Broker
from tests.protocol import wire
from tests.store.test_database import kept


class Disk(Database):
    """A database that counts its commits, and fails when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.full = False
        self.groups: list[int] = []

    def write(self, group: Group) -> None:
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        self.groups.append(len(group.retained))
        super().write(group)


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[tuple[Disk, StoreWriter]]:
    database = Disk(tmp_path / "broker.db")
    writer = StoreWriter(database)
    writer.start()
    yield database, writer
    database.full = False
    await writer.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_commit_comes_after_what_was_handed_over(
    disk: tuple[Disk, StoreWriter], tmp_path: Path
) -> None:
    database, writer = disk
    told: list[int] = []
    for number in range(100):
        writer.retain(kept(f"t/{number}", stamp=number + 1))
        writer.commit(lambda number=number: told.append(number))  # type: ignore[misc]
    await until(lambda: len(told) == 100)
    assert told == list(range(100))
    assert len(database.groups) < 100, "commits are shared"
    with sqlite3.connect(tmp_path / "broker.db") as reader:
        assert reader.execute("SELECT count(*) FROM retained").fetchone() == (100,)


async def test_newest_of_a_topic_is_written_once(disk: tuple[Disk, StoreWriter]) -> None:
    database, writer = disk
    for number in range(1000):
        writer.retain(kept("t", b"%d" % number, stamp=number + 1))
    await until(lambda: database.groups)
    assert sum(database.groups) <= 2
    assert [message.payload for message in database.retained()] == [b"999"]


async def test_full_disk_is_waited_for(
    disk: tuple[Disk, StoreWriter], caplog: pytest.LogCaptureFixture
) -> None:
    database, writer = disk
    database.full = True
    told: list[str] = []
    with caplog.at_level(logging.WARNING):
        writer.retain(kept("t", b"old"))
        writer.commit(lambda: told.append("safe"))
        await until(lambda: writer.failing)
        writer.retain(kept("t", b"new", stamp=2))
        assert told == []
        database.full = False
        await until(lambda: told and len(database.groups) == 2)
        await until(lambda: not writer.group and writer._at_disk is None)
    assert [message.payload for message in database.retained()] == [b"new"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_broker_acknowledges_what_is_on_disk(disk: tuple[Disk, StoreWriter]) -> None:
    database, writer = disk
    broker = Broker()
    broker.engine.store = writer
    client = broker.client()
    client.publish("plain", b"x", 1, 1)
    assert [answer.packet_id for answer in client.take()] == [1], "what is not kept waits for nothing"
    database.full = True
    client.publish("kept", b"x", 1, 2, retain=True)
    client.publish("plain", b"x", 1, 3)
    await until(lambda: writer.failing)
    assert client.take() == [], "and the order is kept"
    client.publish("other", b"x", 2, 4, retain=True)
    database.full = False
    found: list[Any] = []
    await until(lambda: found.extend(client.take()) or len(found) == 3)
    assert [(a.kind, a.packet_id, a.reason) for a in found] == [
        (wire.PUBACK, 2, 0x10),
        (wire.PUBACK, 3, 0x10),
        (wire.PUBREC, 4, 0x97),
    ]
    assert {message.topic for message in database.retained()} == {"kept"}


async def test_who_waits_when_the_disk_fails_is_told(disk: tuple[Disk, StoreWriter]) -> None:
    """The failure comes after the message was taken: MQTT 5 clients hear of it, and nothing of it is kept."""
    database, writer = disk
    broker = Broker()
    broker.engine.store = writer
    writer.on_failure = broker.engine.roster.refuse_waiting
    sleeper = broker.client("sleeper", version=4, clean=False)
    sleeper.send(wire.subscribe(10, [("kept", 2)], 4))
    await until(sleeper.take)
    sleeper.drop()
    new, old = broker.client("new"), broker.client("old", 4)
    database.full = True
    new.publish("kept", b"refused 1", 1, 1)
    new.publish("kept", b"refused 2", 2, 2)
    old.publish("kept", b"waits", 1, 1)
    found: list[Any] = []
    await until(lambda: found.extend(new.take()) or len(found) == 2)
    assert [(a.kind, a.packet_id, a.reason) for a in found] == [
        (wire.PUBACK, 1, 0x97),
        (wire.PUBREC, 2, 0x97),
    ]
    assert old.take() == [], "it cannot be told, and waits"
    database.full = False
    await until(old.take)
    kept_now = database._connection.execute("SELECT payload FROM message").fetchall()
    assert kept_now == [(b"waits",)]
    new.publish("kept", b"again", 2, 2)
    await until(lambda: any(a.kind == wire.PUBREC and a.reason == 0 for a in new.take()))


def test_retained_messages_outlive_a_killed_node(tmp_path: Path) -> None:
    """Everything acknowledged is there again, the newest of each topic; what was deleted stays so."""
    node = NodeProcess(tmp_path, "node", f"store-{uuid.uuid4().hex[:8]}", mesh={"enabled": False})
    acknowledged: dict[str, bytes] = {}
    for round_ in range(5):
        node.start()
        client = Client(node, "publisher", paho.MQTTv5)
        sent: dict[int, tuple[str, bytes]] = {}
        for number in range(200):
            topic, payload = f"t/{number % 50}", b"" if number % 7 == 0 else b"%d-%d" % (round_, number)
            sent[client.publish(topic, payload, 1 + number % 2, retain=True)] = (topic, payload)
        wait_for(lambda: len(client.acknowledged) > 20 * round_, "some are acknowledged")  # noqa: B023
        node.kill()
        client.close()
        done = [sent[mid] for mid in sorted(client.acknowledged) if mid in sent]
        newest_sent: dict[str, list[bytes]] = {}
        for mid in sorted(sent):
            newest_sent.setdefault(sent[mid][0], []).append(sent[mid][1])
        acknowledged |= dict(done)
        in_this_round = {topic for topic, _ in done}
        node.start()
        reader = Client(node, "reader", paho.MQTTv5)
        reader.subscribe("t/#", 1)
        reader.subscribe("end", 1)
        Client(node, "marker", paho.MQTTv5).publish("end", b"", 1)
        wait_for(lambda: ("end", b"") in reader.received, "everything before is heard")  # noqa: B023
        heard = dict(reader.received)
        reader.close()
        for topic, payload in acknowledged.items():
            later = newest_sent.get(topic, [])
            if topic in in_this_round:  # what an earlier one acknowledged may look the same
                later = later[later.index(payload) :]
            allowed = {payload, *later}
            assert heard.get(topic, b"") in allowed, topic
        acknowledged = {topic: heard.get(topic, b"") for topic in acknowledged}
        node.kill()
    node.start()
    assert node.stop() == 0
