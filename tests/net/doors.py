"""Listeners on real sockets, and clients that speak MQTT by hand over any stream."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from broker.net.door import Door
from broker.net.listener import Listener
from tests.engine.harness import Broker
from tests.protocol import wire
from tests.protocol.wire import Answer

TIMEOUT = 10


class Doors:
    """Listeners of one broker, closed at the end."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._open: list[Listener] = []

    async def open(self, bind: Any = ("127.0.0.1", 0), **more: Any) -> Listener:
        """Open a listener; what is no parameter of the listener is one of its door's."""
        own = {key: more.pop(key) for key in ("tls", "trusted", "mode") if key in more}
        listener = Listener(self.broker.engine, Door("test", **more), bind, **own)
        await listener.open()
        self._open.append(listener)
        return listener

    async def close(self) -> None:
        for listener in self._open:
            listener.close()
        for listener in self._open:
            await listener.wait_closed()


class Stream:
    """A client's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int = 5) -> None:
        self.reader = reader
        self.writer = writer
        self.version = version

    @classmethod
    async def to(cls, listener: Listener, version: int = 5, **more: Any) -> Stream:
        """Connect to a listener, wherever it is."""
        address = listener.addresses[0]
        if isinstance(address, str):
            opened = asyncio.open_unix_connection(address, **more)
        else:
            opened = asyncio.open_connection(*address[:2], **more)
        return cls(*await asyncio.wait_for(opened, TIMEOUT), version)

    async def answer(self) -> Answer:
        """The next packet of the server."""
        head = await asyncio.wait_for(self.reader.readexactly(2), TIMEOUT)
        length, shift, at = head[1] & 127, 7, 1
        while head[at] > 127:
            head += await asyncio.wait_for(self.reader.readexactly(1), TIMEOUT)
            at += 1
            length |= (head[at] & 127) << shift
            shift += 7
        body = await asyncio.wait_for(self.reader.readexactly(length), TIMEOUT)
        (found,) = wire.answers(head + body, self.version)
        return found

    async def ask(self, *data: bytes) -> Answer:
        self.writer.write(b"".join(data))
        return await self.answer()

    async def ended(self) -> bool:
        """Whether the server has closed; then this end is, too."""
        try:
            return await asyncio.wait_for(self.reader.read(), TIMEOUT) == b""
        except ConnectionError:
            return True
        finally:
            await self.close()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self.writer.wait_closed(), TIMEOUT)


async def until(condition: Any) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.005)
