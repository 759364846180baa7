"""The PROXY protocol, versions 1 and 2: the address of a client that reaches us through a proxy."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct

V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_LONGEST = 107
_FIRST = len(V2_SIGNATURE)


class ProxyError(Exception):
    """What is no header of the PROXY protocol."""


def parse_v1(line: bytes) -> str | None:
    """The client's address in a header of version 1 without its CR LF; None where the proxy does not know it."""
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProxyError("version 1 is ASCII") from None
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return None
    if len(words) != 6 or words[0] != "PROXY" or words[1] not in ("TCP4", "TCP6"):
        raise ProxyError("not PROXY TCP4|TCP6 source destination port port")
    try:
        source, destination = map(ipaddress.ip_address, words[2:4])
        ports = [int(word) for word in words[4:] if word.isascii() and word.isdigit() and len(word) < 6]
    except ValueError:
        raise ProxyError("not an address") from None
    version = 4 if words[1] == "TCP4" else 6
    if source.version != version or destination.version != version or len(ports) != 2 or max(ports) > 65535:
        raise ProxyError("addresses and ports do not fit the protocol")
    return str(source)


def parse_v2(head: bytes, body: bytes) -> str | None:
    """The client's address in a header of version 2; None for the proxy's own checks and for other families.

    ``head`` are the four bytes behind the signature, ``body`` what they announce.
    """
    version_command, family, length = struct.unpack("!BBH", head)
    if version_command >> 4 != 2 or version_command & 15 > 1 or length != len(body):
        raise ProxyError("not version 2, LOCAL or PROXY")
    if version_command & 15 == 0:
        return None
    size = {1: 4, 2: 16}.get(family >> 4)
    if size is None:
        return None
    if len(body) < 2 * size + 4:
        raise ProxyError("the addresses are cut")
    return str(ipaddress.ip_address(body[:size]))


async def read_header(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> str | None:
    """Take the header, and not a byte more, off a socket that does not block; the client's address.

    None where the header does not tell it; ProxyError where there is none, or the stream ends.
    """
    start = await _exactly(loop, sock, _FIRST)
    if start == V2_SIGNATURE:
        head = await _exactly(loop, sock, 4)
        return parse_v2(head, await _exactly(loop, sock, int.from_bytes(head[2:], "big")))
    if not start.startswith(b"PROXY "):
        raise ProxyError("no header of the PROXY protocol")
    line = bytearray(start)
    while not line.endswith(b"\r\n"):
        if len(line) >= _V1_LONGEST:
            raise ProxyError("a header of version 1 without an end")
        line += await _exactly(loop, sock, 1)
    return parse_v1(bytes(line[:-2]))


async def _exactly(loop: asyncio.AbstractEventLoop, sock: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        part = await loop.sock_recv(sock, count - len(found))
        if not part:
            raise ProxyError("the connection ended within the header")
        found += part
    return bytes(found)
