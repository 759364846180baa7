"""A node's ear for whoever may read its folder: a Unix socket that takes one question and gives one answer, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = "node.sock"
_OWNER_ONLY = 0o600
_LONGEST = 100
"""Bytes of a path that surely fit into a socket's address."""
_PATIENCE = 10.0
"""Seconds for a question to come."""

Answer = Callable[[], Awaitable[Mapping[str, Any]]]


class NodeSocket:
    """The socket in the node's folder, which only the node's user (and root) may open.

    ``answers`` has what can be asked; an answer may take as long as it has to.
    """

    def __init__(self, folder: Path, answers: Mapping[str, Answer]) -> None:
        self._folder = folder
        self._answers = answers
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
            self._server = await asyncio.start_unix_server(self._serve, sock=sock)
        except OSError:
            sock.close()
            raise

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                (self._folder / NAME).unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                question = await reader.readline()
            answer = self._answers.get(question.decode().rstrip("\n"))
            if answer is not None:
                writer.write(json.dumps(await answer()).encode())
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            # Whoever goes away, is silent or asks for what there is not gets no answer, and knows what that means.
            pass
        finally:
            writer.close()


class NoAnswer(Exception):
    """The node has heard the question, and ended, or knows no answer."""


def ask_node(folder: Path, question: str, timeout: float) -> dict[str, Any]:
    """What the node answers that runs with a folder.

    OSError where none does, or none that we may ask; TimeoutError after so many seconds; NoAnswer.
    """
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        with _address(folder) as address:
            sock.connect(address)
        sock.sendall(question.encode() + b"\n")
        answer = bytearray()
        while part := sock.recv(1 << 16):
            answer += part
            sock.settimeout(max(deadline - time.monotonic(), 1e-3))
    if not answer:
        raise NoAnswer
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
