"""Opening listeners: TCP and Unix sockets, with TLS, WebSocket and the PROXY protocol as they are asked for."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from broker.engine import Engine
from broker.net.door import Door
from broker.net.protocol import MqttProtocol
from broker.net.proxy import ProxyError, read_header
from broker.net.tls import TlsListener
from broker.net.websocket import WebSocketProtocol

logger = logging.getLogger("geomq.net")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_HEADER_TIMEOUT = 5.0
_BACKLOG = 1024


class Listener:
    """A listener: what it is told to be, and once :meth:`open` is through, where it really is.

    ``bind`` is (host, port), or the path of a Unix socket, which gets ``mode``. ``trusted`` are the networks of
    proxies; where there are any, each connection has to come from one and to begin with a PROXY header.
    """

    def __init__(
        self,
        engine: Engine,
        door: Door,
        bind: tuple[str, int] | Path,
        tls: TlsListener | None = None,
        trusted: Sequence[Network] = (),
        mode: int = 0o660,
    ) -> None:
        self.door = door
        self.tls = tls
        self.addresses: list[tuple[str, int] | str] = []
        self._engine = engine
        self._bind = bind
        self._trusted = tuple(trusted)
        self._mode = mode
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._arriving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Accept connections; OSError where that cannot be had."""
        factory: Callable[[], asyncio.BaseProtocol] = self._protocol
        context = self.tls.context if self.tls is not None else None
        if self._trusted:
            factory, context = self._handover, None
        if isinstance(self._bind, Path):
            _remove_stale(self._bind)
            self._server = await self._loop.create_unix_server(
                factory, str(self._bind), ssl=context, backlog=_BACKLOG
            )
            os.chmod(self._bind, self._mode)
            self.addresses = [str(self._bind)]
        else:
            host, port = self._bind
            self._server = await self._loop.create_server(
                factory, host, port, ssl=context, backlog=_BACKLOG, reuse_address=True
            )
            self.addresses = [sock.getsockname()[:2] for sock in self._server.sockets]

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()
            if isinstance(self._bind, Path):
                with contextlib.suppress(OSError):
                    self._bind.unlink()
        for task in self._arriving:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        if self._server is not None:
            await self._server.wait_closed()

    def _protocol(self, address: str | None = None) -> asyncio.Protocol:
        kind = WebSocketProtocol if self.door.websocket else MqttProtocol
        return kind(self._engine, self._loop, self.door, address)

    # -- behind a proxy ----------------------------------------------------------------------------------

    def _handover(self) -> asyncio.Protocol:
        return _Arrival(self._begin)

    def _begin(self, sock: socket.socket, proxy: str) -> None:
        """A connection on a plain socket of our own: the header comes first, TLS after it."""
        if not any(ipaddress.ip_address(proxy) in network for network in self._trusted):
            logger.warning("%s: %s is no trusted proxy", self.door.name, proxy)
            sock.close()
            return
        task = self._loop.create_task(self._behind_proxy(sock, proxy))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _behind_proxy(self, sock: socket.socket, proxy: str) -> None:
        try:
            async with asyncio.timeout(_HEADER_TIMEOUT):
                address = await read_header(self._loop, sock)
            context = self.tls.context if self.tls is not None else None
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(address if address is not None else proxy), sock, ssl=context
            )
        except (ProxyError, OSError, TimeoutError) as error:
            logger.warning(
                "%s: connection from the proxy %s: %s", self.door.name, proxy, error or "no header"
            )
            sock.close()
        except BaseException:
            sock.close()
            raise


class _Arrival(asyncio.Protocol):
    """Takes the socket off the event loop's transport before anything is read from it."""

    def __init__(self, begin: Callable[[socket.socket, str], None]) -> None:
        self._begin = begin

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Duplicate the socket and let the transport go."""
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        peer = transport.get_extra_info("peername")
        sock = transport.get_extra_info("socket")
        own = socket.socket(fileno=os.dup(sock.fileno()))
        own.setblocking(False)
        transport.abort()
        self._begin(own, str(peer[0]))


def _remove_stale(path: Path) -> None:
    """Remove a Unix socket that nobody listens on any more; OSError where somebody does."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise OSError(98, "another process listens on this socket")
    path.unlink()
