"""The shell around a connection: real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from broker.access.anonymous import Anonymous
from broker.net.door import Door
from broker.net.listener import Listener
from broker.ports import ALL_RIGHTS, Credentials
from tests.engine.harness import Broker
from tests.protocol import wire


class Faulty(Anonymous):
    """Fails for one topic."""

    def may_publish(self, credentials: Credentials, topic: str) -> int | None:
        if topic == "fault":
            raise RuntimeError("a transient error")
        return ALL_RIGHTS


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = Listener(Broker(Faulty()).engine, Door("test"), ("127.0.0.1", 0))
    await listener.open()
    yield int(listener.addresses[0][1])
    listener.close()
    await listener.wait_closed()


async def connected(port: int, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(wire.connect(name, 4))
    assert await asyncio.wait_for(reader.readexactly(4), 10) == b"\x20\x02\0\0"
    return reader, writer


@pytest.mark.spec311("MQTT-4.8.0-2")
async def test_error_of_the_brokers_own_ends_one_connection(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1, "asyncio")
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    reader, writer = await connected(port, "unlucky")
    other_reader, other = await connected(port, "other")
    writer.write(wire.publish("fault", b"x", 1))
    assert await asyncio.wait_for(reader.read(), 10) == b""
    other.write(wire.PINGREQ)
    assert await asyncio.wait_for(other_reader.readexactly(2), 10) == b"\xd0\0"
    for stream in (writer, other):
        stream.close()
        await stream.wait_closed()


async def test_rate_holds_on_the_wire_and_pings_are_answered() -> None:
    broker = Broker(message_rate=100.0)
    engine, loop = broker.engine, asyncio.get_running_loop()
    engine.turns.wake = lambda: loop.call_soon(lambda: engine.take_turns(loop.time()))
    listener = Listener(engine, Door("test"), ("127.0.0.1", 0))
    await listener.open()
    port = int(listener.addresses[0][1])
    reader, writer = await connected(port, "watcher")
    writer.write(wire.subscribe(1, [("t", 0)]))
    await asyncio.wait_for(reader.readexactly(5), 10)
    fast_reader, fast = await connected(port, "fast")
    packets = [wire.publish("t", b"%04d" % number) for number in range(300)]

    async def tick() -> None:
        while True:
            engine.tick(loop.time(), loop.time() + engine.wall_offset)
            await asyncio.sleep(0.1)

    ticking = loop.create_task(tick())
    began = loop.time()
    fast.write(b"".join(packets) + wire.PINGREQ)
    assert await asyncio.wait_for(fast_reader.readexactly(2), 1) == b"\xd0\0"
    heard = await asyncio.wait_for(reader.readexactly(sum(map(len, packets))), 10)
    assert heard == b"".join(packets)
    assert loop.time() - began > 1.9, "100 at once, and 200 at 100 a second"
    ticking.cancel()
    for stream in (writer, fast):
        stream.close()
        await stream.wait_closed()
    listener.close()
    await listener.wait_closed()
