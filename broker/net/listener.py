"""Opening listeners: TCP and Unix sockets, with TLS, WebSocket and the PROXY protocol as they are asked for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broker.admission import Arrival
from broker.engine import Engine
from broker.net.door import Door
from broker.net.protocol import MqttProtocol
from broker.net.proxy import ProxyError, read_header
from broker.net.tls import TlsListener
from broker.net.websocket import WebSocketProtocol
from broker.ports import LOCAL, Party

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_HEADER_TIMEOUT = 5.0
_BACKLOG = 1024
_ACCEPTED = 16
"""Connections that are taken at a time."""
_REST = 1.0
_TLS_WORDS = {
    "HTTP_REQUEST": "HTTP was spoken to a listener with TLS",
    "WRONG_VERSION_NUMBER": "what came is no TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client showed no certificate, and this listener asks for one",
}


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
        self._sockets: list[socket.socket] = []
        self._arriving: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Accept connections; OSError where that cannot be had."""
        if self._trusted or self.tls is not None:
            self._sockets = await self._bound()
            for sock in self._sockets:
                self._loop.add_reader(sock, self._accept, sock)
        elif isinstance(self._bind, Path):
            _remove_stale(self._bind)
            self._server = await self._loop.create_unix_server(
                self._protocol, str(self._bind), backlog=_BACKLOG
            )
        else:
            self._server = await self._loop.create_server(
                self._protocol, *self._bind, backlog=_BACKLOG, reuse_address=True
            )
        sockets = self._server.sockets if self._server is not None else self._sockets
        if isinstance(self._bind, Path):
            os.chmod(self._bind, self._mode)
            self.addresses = [str(self._bind)]
        else:
            self.addresses = [sock.getsockname()[:2] for sock in sockets]

    async def _bound(self) -> list[socket.socket]:
        """Sockets of our own that listen."""
        places: list[tuple[int, Any]] = []
        if isinstance(self._bind, Path):
            _remove_stale(self._bind)
            places.append((socket.AF_UNIX, str(self._bind)))
        else:
            found = await self._loop.getaddrinfo(
                *self._bind, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            places += [(place[0], place[4]) for place in found]
        sockets: list[socket.socket] = []
        try:
            for family, address in places:
                sock = socket.socket(family, socket.SOCK_STREAM)
                sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setblocking(False)
                sock.bind(address)
                sock.listen(_BACKLOG)
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        if isinstance(self._bind, Path) and self.addresses:
            with contextlib.suppress(OSError):
                self._bind.unlink()
        for task in self._arriving:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        if self._server is not None:
            await self._server.wait_closed()

    def _protocol(self, address: str | None = None, arrival: Arrival | None = None) -> asyncio.Protocol:
        kind = WebSocketProtocol if self.door.websocket else MqttProtocol
        return kind(self._engine, self._loop, self.door, address, arrival)

    # -- what comes before MQTT --------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        """Take what has arrived, some at a time: others want to be served, too."""
        for _ in range(_ACCEPTED):
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._rest(listening, error)
                return
            sock.setblocking(False)
            self._begin(sock, str(peer[0]) if isinstance(peer, tuple) else LOCAL)

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        """There is no descriptor for another connection: try again when some are free."""
        self._engine.refused("", self.door.name, str(error.strerror or error))
        self._loop.remove_reader(listening)

        def resume() -> None:
            if listening.fileno() >= 0:
                self._loop.add_reader(listening, self._accept, listening)

        self._loop.call_later(_REST, resume)

    def _begin(self, sock: socket.socket, address: str) -> None:
        """A connection on a plain socket of our own: the proxy's header comes first, TLS after it."""
        # All that a proxy brings has its address until the header is read: it is not the client's.
        arrival = self._arrival(LOCAL if self._trusted else address)
        if arrival is None:
            sock.close()
            return
        task = self._loop.create_task(self._arrive(sock, address, arrival))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _arrival(self, address: str) -> Arrival | None:
        """A place for a connection until MQTT begins; None, and the limit is told, where there is none."""
        admission = self.door.admission or self._engine.admission
        refusal = admission.refusal(address)
        if refusal is None:
            return Arrival(admission, address)
        self._engine.stats.connections_refused += 1
        who = Party(address=address, listener=self.door.name)
        self._engine.limit_log.hit(refusal.limit, refusal.bound, who, refusal.answer)
        return None

    async def _arrive(self, sock: socket.socket, address: str, arrival: Arrival) -> None:
        try:
            if self._trusted:
                address = await self._behind_proxy(sock, address)
                arrival.over()
                known = self._arrival(address)
                if known is None:
                    sock.close()
                    return
                arrival = known
            await self._hand_over(sock, address, arrival)
        except (ProxyError, OSError, TimeoutError) as error:
            self._engine.refused(address, self.door.name, _why(error))
            sock.close()
        except BaseException:
            sock.close()
            raise
        finally:
            arrival.over()

    async def _hand_over(self, sock: socket.socket, address: str, arrival: Arrival) -> None:
        """Shake hands, where TLS is spoken, and begin MQTT; OSError where that cannot be had."""
        limits = self.door.limits or self._engine.limits
        context = self.tls.context if self.tls is not None else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(address, arrival),
                sock,
                ssl=context,
                ssl_handshake_timeout=limits.connect_timeout if context is not None else None,
            )
        except ConnectionAbortedError:
            # So asyncio tells that the handshake took too long.
            who, answer = Party(address=address, listener=self.door.name), "closed within the TLS handshake"
            self._engine.limit_log.hit("connect_timeout", limits.connect_timeout, who, answer)
            sock.close()

    async def _behind_proxy(self, sock: socket.socket, proxy: str) -> str:
        """The client's address, as a trusted proxy tells it."""
        if not any(ipaddress.ip_address(proxy) in network for network in self._trusted):
            raise ProxyError("the connection comes from none of `proxies`")
        try:
            async with asyncio.timeout(_HEADER_TIMEOUT):
                address = await read_header(self._loop, sock)
        except TimeoutError:
            raise ProxyError(f"none within {_HEADER_TIMEOUT:g} s") from None
        return address if address is not None else proxy


def _why(error: Exception) -> str:
    """What went wrong before the first packet, in a line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        about = "; ".join(getattr(error, "__notes__", ()))
        return f"TLS: the client's certificate is refused: {error.verify_message}{about and f' ({about})'}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        return f"TLS: {_TLS_WORDS.get(reason) or reason.replace('_', ' ').lower()}"
    if isinstance(error, ProxyError):
        return f"PROXY header: {error}"
    if isinstance(error, ConnectionError):
        return "the client was gone before its first packet"
    return str(error) or type(error).__name__


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


def why_not_open(bind: str, error: OSError) -> str:
    """Why an address cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return f"cannot listen on {bind}: another program has this port; choose one with `listeners`"
    if error.errno == errno.EACCES:
        return f"cannot listen on {bind}: ports below 1024 need privileges"
    return f"cannot listen on {bind}: {error.strerror or error}"
