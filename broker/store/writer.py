"""The writer thread: what the event loop hands over goes to disk in groups, and whoever waits for it is told."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

from broker.message import Message
from broker.retained import TOMBSTONE_LIFETIME
from broker.store.database import Database

logger = logging.getLogger("geomq.store")

_LINGER = 1.0
"""Seconds for which what nobody waits for is gathered: flash memory wears out by commits, not by rows."""
_RETRY = 1.0
_CLEAN = 600.0


class StoreWriter:
    """A :class:`broker.ports.Store` over a database. All methods are called on the event loop.

    A topic's newest message replaces those that have not been written yet. Where the disk is full, or fails,
    everything is kept and tried again until it works.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._retained: dict[str, Message] = {}
        self._waiting: list[Callable[[], None]] = []
        self._stopping = False
        self.failing = False
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    async def close(self) -> None:
        """Write what is left, then close the file."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)
        self._database.close()

    def saved(self) -> Iterator[Message]:
        """What was kept by earlier processes. To be called before :meth:`start`."""
        return self._database.retained()

    def retain(self, message: Message) -> None:
        """See :class:`broker.ports.Store`."""
        with self._changed:
            self._retained[message.topic] = message
            self._changed.notify()

    def commit(self, on_safe: Callable[[], None]) -> None:
        """See :class:`broker.ports.Store`."""
        with self._changed:
            self._waiting.append(on_safe)
            self._changed.notify()

    # -- the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        clean_at = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._retained or self._waiting or self._stopping, _CLEAN)
                # What nobody waits for may gather a while.
                self._changed.wait_for(lambda: self._waiting or self._stopping, _LINGER)
                retained, self._retained = self._retained, {}
                waiting, self._waiting = self._waiting, []
                stopping = self._stopping
            written = self._write(retained)
            if not written:
                self._give_back(retained, waiting, stopping)
                if stopping:
                    return
                continue
            for on_safe in waiting:
                self._tell(on_safe)
            if time.monotonic() >= clean_at:
                clean_at = time.monotonic() + _CLEAN
                self._clean()
            if stopping and not self._retained:
                return

    def _write(self, retained: dict[str, Message]) -> bool:
        if not retained:
            return True
        try:
            self._database.save(retained.values())
        except sqlite3.Error as error:
            if not self.failing:
                logger.error(
                    "%s cannot be written: %s; it is tried again each second", self._database.path, error
                )
            self.failing = True
            return False
        if self.failing:
            self.failing = False
            logger.warning("%s can be written again", self._database.path)
        return True

    def _give_back(
        self, retained: dict[str, Message], waiting: list[Callable[[], None]], stopping: bool
    ) -> None:
        """Keep what could not be written, below what is newer, and wait a moment."""
        with self._changed:
            self._retained = retained | self._retained
            self._waiting = waiting + self._waiting
        if stopping:
            logger.error("%d retained messages are lost: the disk does not take them", len(self._retained))
        else:
            time.sleep(_RETRY)

    def _clean(self) -> None:
        now = time.time()
        oldest = int((now - TOMBSTONE_LIFETIME) * 1000) << 16
        try:
            self._database.forget_expired(now, oldest)
        except sqlite3.Error as error:
            logger.warning("%s could not be cleaned: %s", self._database.path, error)

    def _tell(self, on_safe: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(on_safe)
        except RuntimeError:
            # The loop is gone: the process ends, and nobody is left to be told.
            logger.debug("a commit came after the end")
