"""The thin shell between the event loop's transports and a connection."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from broker.admission import Arrival, Refusal
from broker.connection import Connection
from broker.engine import Engine
from broker.net.door import Door
from broker.ports import LOCAL, Certificate, Party, Peer


class MqttProtocol(asyncio.Protocol):
    """One connection that carries MQTT. All that a chunk causes is done before this returns to the event loop.

    ``address`` is the client's where a proxy told it; else the transport's other end. ``arrival`` is the place that
    the connection has had until now.
    """

    __slots__ = ("_address", "_arrival", "_connection", "_door", "_engine", "_loop")

    def __init__(
        self,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        door: Door,
        address: str | None = None,
        arrival: Arrival | None = None,
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._door = door
        self._address = address
        self._arrival = arrival
        self._connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection and the time in which CONNECT has to come; or end it where there is no room."""
        stream = cast(asyncio.Transport, transport)
        door = self._door
        door.open += 1
        address = self._address if self._address is not None else _address_of(transport)
        now = self._loop.time()
        if self._arrival is not None:
            self._arrival.over()
            self._arrival = None
        if not self._has_room(address):
            self._engine.stats.connections_refused += 1
            stream.abort()
            return
        stream.set_write_buffer_limits(high=(door.limits or self._engine.limits).write_buffer)
        certificate = _certificate(transport, door.identity)
        peer = Peer(address, door.name, door.mount_point, certificate, door.limits, door.admission)
        self._connection = Connection(self._engine, stream, now, peer)
        self._engine.roster.greet(self._connection, now)

    def _has_room(self, address: str) -> bool:
        """Whether the listener and the node have room for a connection that has said nothing yet."""
        door, engine = self._door, self._engine
        if door.max_connections and door.open > door.max_connections:
            refusal = Refusal("listener_max_connections", door.max_connections, "closed")
        else:
            found = (door.admission or engine.admission).refusal(address)
            if found is None:
                return True
            refusal = found
        who = Party(address=address, listener=door.name)
        engine.limit_log.hit(refusal.limit, refusal.bound, who, refusal.answer)
        return False

    def refused(self, why: str) -> None:
        """The connection is refused by what comes before MQTT; the caller ends it."""
        if self._connection is not None:
            self._engine.refused(self._connection.peer.address, self._door.name, why)

    def ended(self, why: str) -> None:
        """The client breaks the rules of what carries MQTT, and the connection ends; the caller ends it."""
        if self._connection is not None:
            self._engine.note("ended", self._connection, why)

    def data_received(self, data: bytes) -> None:
        """Handle a chunk: every packet in it, then one write per connection touched."""
        if self._connection is not None:
            self._connection.receive(data, self._loop.time())
            if self._engine.dirty:
                self._engine.flush()

    def pause_writing(self) -> None:
        """The client does not take what we send."""
        if self._connection is not None:
            self._connection.block(self._loop.time())

    def resume_writing(self) -> None:
        """The client takes data again."""
        if self._connection is not None:
            self._connection.unblocked(self._loop.time())
            self._engine.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The network connection is gone."""
        self._door.open -= 1
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost(self._loop.time())
            self._engine.flush()


def _address_of(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    # A Unix socket's other end has no address.
    return str(peer[0]) if isinstance(peer, tuple) and peer else LOCAL


def _certificate(transport: asyncio.BaseTransport, identity: str) -> Certificate | None:
    """The certificate that the client showed, which TLS has verified; None where it showed none."""
    tls = transport.get_extra_info("ssl_object")
    shown: dict[str, Any] | None = tls.getpeercert() if tls is not None else None
    if not shown:
        return None
    return Certificate(tls.getpeercert(True), name_in_certificate(shown, identity))


def name_in_certificate(shown: dict[str, Any], identity: str) -> str | None:
    """The user's name in a certificate, as :meth:`ssl.SSLSocket.getpeercert` describes one."""
    if identity == "common_name":
        for part in shown.get("subject", ()):
            for key, value in part:
                if key == "commonName":
                    return str(value)
    elif identity == "alternative_name":
        for _, value in shown.get("subjectAltName", ()):
            return str(value)
    return None
