"""A TCP relay between two nodes: it can be slow, cut, also in one direction only, and healed.

It keeps every byte of both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

_IN_FLIGHT = 256
"""Reads of one direction that may be on their way at once: more than any window of the mesh."""


class Relay:
    """Listens on ``port`` (chosen by the system at ``start``) and forwards to ``target_port`` on loopback.

    Runs on a thread of its own; its methods may be called from any other.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.recorded = bytearray()
        """Every byte that was forwarded, both ways, in the order of forwarding."""
        self.connections = 0
        """How many connections were forwarded so far."""
        self.refused = 0
        """How many were refused."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._forth, self._back = asyncio.Event(), asyncio.Event()
        """Set while bytes may pass to the target, and from it."""
        self._delay = 0.0
        self._refusing = False
        self._heal()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def cut(self, silent: bool = False) -> None:
        """End all connections and refuse new ones; ``silent``: keep them open, but let nothing through."""
        self._call(lambda: self._cut(silent))

    def cut_one_way(self, forth: bool) -> None:
        """Keep the connections open, but let nothing through to the target (``forth``), or nothing from it."""
        self._call((self._forth if forth else self._back).clear)

    def slow(self, round_trip: float) -> None:
        """What is read from now on takes half of so many seconds on its way, in either direction."""
        self._delay = round_trip / 2

    def heal(self) -> None:
        """Let everything through again."""
        self._call(self._heal)

    # -- on the relay's own loop ---------------------------------------------------------------------------

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            self.refused += 1
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._forth.wait()
            there, onward = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers.add(onward)
            self.connections += 1
            await asyncio.gather(
                self._pump(reader, onward, self._forth), self._pump(there, writer, self._back)
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
    ) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
        arrivals = asyncio.create_task(self._arrive(line, writer, flowing))
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    await line.put((self._loop.time() + self._delay, data))
        finally:
            arrivals.cancel()
            writer.transport.abort()

    async def _arrive(
        self,
        line: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        flowing: asyncio.Event,
    ) -> None:
        """Hand on what is on the line when its time has come."""
        with contextlib.suppress(OSError):
            while True:
                due, data = await line.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await flowing.wait()
                self.recorded += data
                writer.write(data)
                await writer.drain()

    def _cut(self, silent: bool) -> None:
        if silent:
            self._forth.clear()
            self._back.clear()
            return
        self._refusing = True
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def _heal(self) -> None:
        self._refusing = False
        self._forth.set()
        self._back.set()

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._cut(False)
        self._forth.set()
        self._back.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(5)

    def _call(self, work: Callable[[], None]) -> None:
        async def call() -> None:
            work()

        self._run(call())
