"""Listeners with limits of their own, beside one that has those of the node: on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from broker.access.bans import BanTerms
from broker.config import NodeConfig, load_text
from broker.config.limits import LimitsSection, ListenerLimits
from broker.config.model import MqttSection
from broker.configured import ban_terms, listener_door, node_limits
from broker.engine import Engine
from broker.limits import Limits
from broker.net.listener import Listener
from broker.new_limits import change_limits
from tests.engine.harness import Broker
from tests.net.doors import Stream, until
from tests.protocol import wire


def configured(own: dict[str, Any], **limits: Any) -> NodeConfig:
    listeners = [{"name": "front", "limits": own}, {"name": "back", "bind": "127.0.0.1:1884"}]
    return load_text(yaml.safe_dump({"listeners": listeners, "limits": limits}))


class Two:
    """A listener with limits of its own, and one without."""

    def __init__(self) -> None:
        self.engine: Engine
        self.doors: dict[str, Listener] = {}
        self.streams: list[Stream] = []

    async def open(self, own: dict[str, Any], **limits: Any) -> None:
        config = configured(own, **limits)
        known = node_limits(config)
        broker = Broker(**{name: getattr(known, name) for name in Limits.__slots__})
        self.engine, self.notes = broker.engine, broker.notes
        for settings in config.listeners:
            door = listener_door(settings, self.engine.limits, self.engine.admission)
            listener = Listener(self.engine, door, ("127.0.0.1", 0))
            await listener.open()
            self.doors[door.name] = listener

    async def stream(self, door: str) -> Stream:
        stream = await Stream.to(self.doors[door])
        self.streams.append(stream)
        return stream

    async def connect(self, door: str, **more: Any) -> int:
        """The code that a CONNECT gets; the connection stays."""
        stream = await self.stream(door)
        return (await stream.ask(wire.connect(f"c{len(self.streams)}", 5, **more))).reason

    async def connects(self, door: str, count: int, **more: Any) -> list[int]:
        return [await self.connect(door, **more) for _ in range(count)]

    async def close(self) -> None:
        for stream in self.streams:
            await stream.close()
        for listener in self.doors.values():
            listener.close()
            await listener.wait_closed()


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    found = Two()
    yield found
    await found.close()


@pytest.mark.parametrize("key", ["max_connections_per_address", "max_connections_per_user"])
async def test_connections_are_counted_apart(two: Two, key: str) -> None:
    await two.open({key: 1}, **{key: 2})
    joe = {"username": "joe", "password": b""}
    assert await two.connects("back", 3, **joe) == [0, 0, 0x97]
    assert await two.connects("front", 2, **joe) == [0, 0x97]
    await two.close()


async def test_listener_may_be_looser_than_the_node(two: Two) -> None:
    await two.open({"max_connections_per_address": 0}, max_connections_per_address=1, max_half_open=50)
    assert await two.connects("front", 3) == [0, 0, 0]
    assert await two.connects("back", 2) == [0, 0x97]


@pytest.mark.parametrize("key", ["connection_rate", "connection_rate_per_address"])
async def test_rates_are_counted_apart(two: Two, key: str) -> None:
    await two.open({key: 1}, **{key: 3})
    assert await two.connects("front", 3) == [0, 0x9F, 0x9F]
    assert await two.connects("back", 3) == [0, 0, 0]


async def test_half_open_connections_are_counted_apart(two: Two) -> None:
    await two.open({"max_half_open": 1}, max_half_open=2)
    for _ in range(2):
        await two.stream("front")
    await until(lambda: two.engine.stats.limited_max_half_open == 1)
    assert await two.streams[-1].ended()
    assert await two.connects("back", 2) == [0, 0]


async def test_one_address_leaves_half_of_the_places(two: Two) -> None:
    await two.open({}, max_half_open=4)
    silent = [await two.stream("back") for _ in range(3)]
    assert await silent[2].ended()
    note = "max_half_open is 4: closed, as half of them are of its address"
    assert two.engine.stats.limited_max_half_open == 1
    other = await Stream.to(two.doors["back"], local_addr=("127.0.0.2", 0))
    two.streams.append(other)
    assert (await other.ask(wire.connect("good", 5))).reason == 0
    assert ("limited", "", note) in two.notes.lines


async def test_time_to_connect(two: Two) -> None:
    await two.open({"connect_timeout": "1s"})
    front, _ = await two.stream("front"), await two.stream("back")
    await until(lambda: len(two.engine.admission.half_open) == 2)
    two.engine.roster.tick(asyncio.get_running_loop().time() + 3)
    assert await front.ended()
    assert len(two.engine.admission.half_open) == 1
    assert two.engine.stats.limited_connect_timeout == 1


async def test_slow_clients(two: Two) -> None:
    await two.open({"write_buffer": "4KiB", "slow_consumer_timeout": "5s", "session_expiry_max": "1m"})
    assert await two.connect("front", properties=wire.props((0x11, 1000))) == 0
    assert await two.connect("back", properties=wire.props((0x11, 1000))) == 0
    front, back = two.engine.roster.connections()
    highs = [each.transport.get_write_buffer_limits()[1] for each in (front, back)]  # type: ignore[attr-defined]
    assert highs == [4 << 10, 1 << 20]
    assert [session.expiry for session in two.engine.roster] == [60, 1000]
    now = asyncio.get_running_loop().time()
    for each in (front, back):
        each.block(now)
    two.engine.roster.tick(now + 6)
    assert (front.is_closed, back.is_closed) == (True, False)


async def test_full_queues(two: Two) -> None:
    await two.open({"queue_full": "disconnect", "queue_max_messages": 1})
    for door in ("front", "back"):
        stream = await two.stream(door)
        await stream.ask(wire.connect(door, 5, properties=wire.props((0x21, 1))))
        await stream.ask(wire.subscribe(1, [("t", 1)], 5))
    assert await two.connect("back") == 0
    for number in range(1, 5):
        two.streams[-1].writer.write(wire.publish("t", b"x", 1, number, 5))
    await until(lambda: two.engine.stats.limited_queue_max_messages == 2)
    two.engine.roster.tick(asyncio.get_running_loop().time())
    two.engine.flush()
    assert (await two.streams[0].answer()).kind == wire.PUBLISH
    assert (await two.streams[0].answer()).reason == 0x97
    assert two.engine.roster.connected == 2


async def test_node_takes_other_limits_and_the_listener_keeps_its_own(two: Two) -> None:
    await two.open({"max_connections_per_address": 1}, max_connections_per_address=1, max_half_open=9)
    old = two.engine.limits
    new = node_limits(configured({}, max_connections_per_address=2, max_half_open=1))
    change_limits(two.engine, [(old, new)])
    assert await two.connects("front", 2) == [0, 0x97]
    assert await two.connects("back", 3) == [0, 0, 0x97]
    for _ in range(2):
        await two.stream("front")
    await until(lambda: two.engine.stats.limited_max_half_open == 1)


def test_lock_outs() -> None:
    terms, own = ban_terms(configured({"ban_after": 3, "ban_time": "1h"}, ban_window="2m"))
    assert terms == BanTerms(10, 120.0, 60.0)
    assert own == {"front": BanTerms(3, 120.0, 3600.0)}


def test_what_makes_sense_for_a_listener_may_be_said_there() -> None:
    of_the_node = {
        *("max_connections", "queue_qos0", "retained_max_messages", "overlapping", "response_information"),
        *("sys_interval", "queue_total_bytes", "retained_max_bytes", "disk_reserve"),
        *("overload_memory", "overload_lag"),
    }
    everything = {*MqttSection.model_fields, *LimitsSection.model_fields}
    assert set(ListenerLimits.model_fields) == everything - of_the_node
