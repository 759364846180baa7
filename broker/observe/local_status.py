"""A node's status for whoever may read its folder: a Unix socket that says it, as JSON, to each that connects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

NAME = "status.sock"
_OWNER_ONLY = 0o600
_LONGEST = 100
"""Bytes of a path that surely fit into a socket's address."""


class LocalStatus:
    """The socket in the node's folder, which only the node's user (and root) may open."""

    def __init__(self, folder: Path, status: Callable[[], Mapping[str, Any]]) -> None:
        self._folder = folder
        self._status = status
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Answer from now on; OSError where the folder's file system has no sockets."""
        with contextlib.suppress(FileNotFoundError):
            # The folder is this process's: nobody listens there any more.
            (self._folder / NAME).unlink()
        sock = socket.socket(socket.AF_UNIX)
        try:
            # Before it has a name, so that there is no moment at which others may open it.
            os.fchmod(sock.fileno(), _OWNER_ONLY)
            with _address(self._folder) as address:
                sock.bind(address)
            os.chmod(self._folder / NAME, _OWNER_ONLY)
            sock.setblocking(False)
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: _Answer(self._status), sock=sock
            )
        except OSError:
            sock.close()
            raise

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                (self._folder / NAME).unlink()


class _Answer(asyncio.Protocol):
    """Says everything at once, and closes."""

    def __init__(self, status: Callable[[], Mapping[str, Any]]) -> None:
        self._status = status

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        stream.write(json.dumps(self._status()).encode())
        stream.close()


def read_status(folder: Path, timeout: float) -> dict[str, Any]:
    """What the node says that runs with a folder; OSError where none does, or none that we may ask."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        with _address(folder) as address:
            sock.connect(address)
        answer = bytearray()
        while part := sock.recv(1 << 16):
            answer += part
    found: dict[str, Any] = json.loads(answer)
    return found


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's address: a path of any length would not fit, but Linux lets us begin at an open folder."""
    path = folder / NAME
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{NAME}"
    finally:
        os.close(handle)
