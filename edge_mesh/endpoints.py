"""Why a configured endpoint cannot be reached: asked beside Zenoh, which tries again without saying why."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edge_mesh.settings import MeshTls

logger = logging.getLogger("geomq.mesh.endpoints")

_TIMEOUT = 3.0
_TLS_RECORDS = (b"\x15", b"\x16")
"""First bytes of an alert and of a handshake."""
_VERDICT_SECONDS = 1.0
"""In TLS 1.3 a server refuses a client's certificate after the client's handshake is over."""


class Place(NamedTuple):
    """Where an endpoint is."""

    scheme: str
    host: str
    port: int


def parse(endpoint: str) -> Place | None:
    """The place of an endpoint as ``tcp/host:port``; None where it is none of an address and a port."""
    scheme, _, rest = endpoint.partition("/")
    address = rest.split("?", 1)[0].split("#", 1)[0]
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return None
    return Place(scheme, host.removeprefix("[").removesuffix("]"), int(port))


def why_not(place: Place, tls: MeshTls | None, sound: bool = False) -> str | None:
    """Why nobody can be reached there, in words; None where somebody can. Waits for the network.

    ``sound`` where a node was reached there before: it is not asked again whether it speaks TLS or not.
    """
    try:
        with socket.create_connection((place.host, place.port), _TIMEOUT) as plain:
            if place.scheme == "tls" and tls is not None:
                return _why_no_tls(plain, place.host, tls)
            if place.scheme == "tcp" and not sound and _speaks_tls(plain):
                return f"TLS is spoken there: its endpoint is tls/{place.host}:{place.port}"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


def _why_no_tls(plain: socket.socket, host: str, tls: MeshTls) -> str | None:
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.check_hostname = tls.verify_name
    context.load_cert_chain(tls.certificate, tls.key)
    try:
        with context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False) as connection:
            try:
                connection.do_handshake()
            except (TimeoutError, ssl.SSLEOFError, ConnectionError):
                return "no TLS is spoken there: is its endpoint one of tcp/?"
            connection.settimeout(_VERDICT_SECONDS)
            connection.recv(1)
    except TimeoutError:
        return None
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted here: {error.verify_message}"
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).lower().replace("_", " ")
        return f"it does not accept the certificate of this node ({reason})"
    return None


def _speaks_tls(plain: socket.socket) -> bool:
    """Whether there is any answer to the beginning of a TLS handshake; a node says nothing first without TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="mesh")
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    plain.sendall(outgoing.read())
    plain.settimeout(_VERDICT_SECONDS)
    try:
        return plain.recv(1) in _TLS_RECORDS
    except OSError:
        return False


class Endpoints:
    """Watches the endpoints that this node has to connect to.

    ``links()`` are the far ends of the links that there are, as Zenoh writes them (``tcp/127.0.0.1:7447``).
    """

    def __init__(
        self, connect: Sequence[str], tls: MeshTls | None, links: Callable[[], Sequence[str]]
    ) -> None:
        self._places = {endpoint: place for endpoint in connect if (place := parse(endpoint)) is not None}
        self._tls = tls
        self._links = links
        self._told: dict[str, str] = {}
        self._sound: set[str] = set()
        """Those that were reached once: two nodes that connect to each other have one link, to one of both."""
        self._checking = False

    async def check(self) -> None:
        """Say once what is wrong with an endpoint, and once that it is not any more."""
        if self._checking:
            return
        self._checking = True
        try:
            reasons = await asyncio.to_thread(self._reasons)
        finally:
            self._checking = False
        for endpoint, reason in reasons.items():
            if reason == self._told.get(endpoint):
                continue
            if reason is None:
                del self._told[endpoint]
                logger.info("the mesh endpoint %s can be reached", endpoint)
            else:
                self._told[endpoint] = reason
                logger.warning("the mesh endpoint %s cannot be reached, trying again: %s", endpoint, reason)

    def _reasons(self) -> dict[str, str | None]:
        linked = set(self._links())
        reasons = {
            endpoint: None
            if _addresses(place) & linked
            else why_not(place, self._tls, endpoint in self._sound)
            for endpoint, place in self._places.items()
        }
        self._sound = {endpoint for endpoint, reason in reasons.items() if reason is None}
        return reasons


def _addresses(place: Place) -> set[str]:
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {
        f"{place.scheme}/[{address[0]}]:{place.port}"
        if family == socket.AF_INET6
        else f"{place.scheme}/{address[0]}:{place.port}"
        for family, _, _, _, address in found
    }
