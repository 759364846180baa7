"""Why a configured endpoint cannot be reached: asked beside Zenoh, which tries again without saying why."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edge_mesh.settings import MeshTls

logger = logging.getLogger("geomq.mesh.endpoints")

_TIMEOUT = 3.0
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


def why_not(place: Place, tls: MeshTls | None) -> str | None:
    """Why nobody can be reached there, in words; None where somebody can. Waits for the network."""
    try:
        with socket.create_connection((place.host, place.port), _TIMEOUT) as plain:
            if place.scheme == "tls" and tls is not None:
                return _why_no_tls(plain, place.host, tls)
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
        with context.wrap_socket(plain, server_hostname=host) as connection:
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
        return {
            endpoint: None if _addresses(place) & linked else why_not(place, self._tls)
            for endpoint, place in self._places.items()
        }


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
