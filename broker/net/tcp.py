"""MQTT over TCP: the thin shell between the event loop and a connection."""

from __future__ import annotations

import asyncio
from typing import cast

from broker.connection import Connection
from broker.engine import Engine


class MqttProtocol(asyncio.Protocol):
    """One TCP connection. All that a chunk causes is done before this returns to the event loop."""

    __slots__ = ("_connection", "_engine", "_listener", "_loop", "_transport")

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop, listener: str) -> None:
        self._engine = engine
        self._loop = loop
        self._listener = listener
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection and the time in which CONNECT has to come."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._engine.limits.write_buffer)
        peer = transport.get_extra_info("peername")
        now = self._loop.time()
        self._connection = Connection(
            self._engine, self._transport, now, str(peer[0]) if peer else "", self._listener
        )
        self._engine.roster.greet(self._connection, now)

    def data_received(self, data: bytes) -> None:
        """Handle a chunk: every packet in it, then one write per connection touched."""
        if self._connection is not None:
            self._connection.receive(data, self._loop.time())
            if self._engine.dirty:
                self._engine.flush()

    def pause_writing(self) -> None:
        """The client does not take what we send."""
        if self._connection is not None:
            self._connection.blocked = True

    def resume_writing(self) -> None:
        """The client takes data again."""
        if self._connection is not None:
            self._connection.unblocked(self._loop.time())
            self._engine.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The network connection is gone."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost(self._loop.time())
            self._engine.flush()


async def listen(engine: Engine, host: str, port: int, name: str) -> asyncio.Server:
    """Accept MQTT connections on an address; OSError where that cannot be had."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: MqttProtocol(engine, loop, name), host, port, reuse_address=True, backlog=1024
    )
