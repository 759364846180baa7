"""The writer thread: what the event loop gathered goes to disk in groups, and whoever waits for it is told."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator

from broker.message import Message
from broker.ports import Stored, StoredSession, StoredWill
from broker.retained import TOMBSTONE_LIFETIME
from broker.store.database import Database
from broker.store.gathering import AT_ONCE, GatheringStore
from broker.store.group import Group

logger = logging.getLogger("geomq.store")

_RETRY = 1.0
_CLEAN = 600.0
_IDLE = 0.02
_BUSY = 0.25
"""Seconds between two slices of tidying up, when nothing else is to do, and when there is."""
_NOTHING = Group()

_Loaded = list[tuple[Callable[[Stored], None], Stored]]


class StoreWriter(GatheringStore):
    """A :class:`broker.ports.Store` over a database. All methods are called on the event loop.

    Where the disk is full, or fails, everything is kept and tried again until it works; ``on_failure`` is called each
    time, and what it withdraws is kept no longer. ``told`` is called after others were told that something is safe.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database.next_session())
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._groups: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self._timer: asyncio.Handle | None = None
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.told: Callable[[], None] = _nothing
        self.on_failure: Callable[[], None] = _nothing
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    async def close(self) -> None:
        """Write what is left, then close the file."""
        self._stopping = True
        if not self._thread.ident:
            # What was there could not be read: nothing is written over it.
            self._database.close()
            return
        while self.group or self._young or self._at_disk is not None:
            self._delay = AT_ONCE
            self._hand_over()
            await self._idle.wait()
        if self._timer is not None:
            self._timer.cancel()
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)
        self._database.close()

    # -- what earlier processes left; to be called before start ------------------------------------------

    def settle(self) -> None:
        """The processes before this one have ended: see :meth:`Database.settle`."""
        self._database.settle(time.time())

    def retained(self) -> Iterator[Message]:
        """Every retained message and deletion."""
        return self._database.retained()

    def sessions(self) -> Iterator[StoredSession]:
        """Every session."""
        return self._database.sessions()

    def count_sessions(self) -> int:
        """How many sessions there are."""
        return self._database.count_sessions()

    def wills(self) -> Iterator[tuple[str, StoredWill]]:
        """The wills whose time had not come."""
        return self._database.wills()

    def marks(self) -> dict[str, tuple[int, int]]:
        """How far other nodes' durable lanes were heard."""
        return self._database.marks()

    def last_crossing(self) -> int:
        """The greatest number of a message on its way to other nodes."""
        return self._database.last_crossing()

    # -- on the event loop -------------------------------------------------------------------------------

    def wall(self) -> float:
        """Wall-clock seconds."""
        return time.time()

    def _write_within(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        call = self._loop.call_soon if seconds <= AT_ONCE else None
        self._timer = call(self._hand_over) if call else self._loop.call_later(seconds, self._hand_over)

    def release_soon(self) -> None:
        """See :class:`GatheringStore`."""
        self._loop.call_soon(self._release_now)

    def _release_now(self) -> None:
        self._release()
        self.told()

    def _hand_over(self) -> None:
        self._timer = None
        group = self._next_group()
        if group is not None:
            self._idle.clear()
            self._groups.put(group)

    def _back(self, group: Group, loaded: _Loaded) -> None:
        """The thread is done with a group."""
        self._idle.set()
        self._written(group)
        for done, stored in loaded:
            done(stored)
        self.told()

    def _not_written(self, group: Group, seen: threading.Event) -> None:
        """The disk did not take a group; the thread tries again once the event is set."""
        try:
            self.on_failure()
            for one in (group, self.group):
                self._drop_withdrawn(one)
        finally:
            seen.set()

    # -- the thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        untidy = True
        tidy_at = clean_at = 0.0
        while True:
            try:
                group = self._groups.get(timeout=_IDLE if untidy else _CLEAN)
            except queue.Empty:
                group = _NOTHING
            if group is None:
                return
            if group:
                if not self._write(group):
                    continue
                untidy = untidy or bool(group.dones or group.ended)
                loaded = self._load(group)
                try:
                    self._loop.call_soon_threadsafe(self._back, group, loaded)
                except RuntimeError:
                    # The loop is gone: the process ends, and nobody is left to be told.
                    return
            now = time.monotonic()
            if untidy and (now >= tidy_at or not group):
                tidy_at = now + _BUSY
                untidy = self._tidy()
            if now >= clean_at:
                clean_at = now + _CLEAN
                self._clean()

    def _write(self, group: Group) -> bool:
        """Write until it works; False where the node stops before it does."""
        while True:
            try:
                self._database.write(group)
            except sqlite3.Error as error:
                if not self.failed:
                    logger.error(
                        "%s cannot be written: %s; it is tried again each second", self._database.path, error
                    )
                self.failed = True
                if self._stopping:
                    self._give_up(group)
                    return False
                seen = threading.Event()
                try:
                    self._loop.call_soon_threadsafe(self._not_written, group, seen)
                except RuntimeError:
                    return False
                seen.wait()
                time.sleep(_RETRY)
                continue
            if self.failed:
                self.failed = False
                logger.warning("%s can be written again", self._database.path)
            return True

    def _give_up(self, group: Group) -> None:
        logger.error(
            "the disk does not take what was to be written: %d queued and %d retained messages are lost",
            len(group.adds),
            len(group.retained),
        )
        group.waiting.clear()
        self._loop.call_soon_threadsafe(self._back, group, [])

    def _load(self, group: Group) -> _Loaded:
        loaded: _Loaded = []
        now = time.time()
        for request in group.loads:
            try:
                stored = self._database.load(request, now)
            except sqlite3.Error as error:
                logger.error("%s cannot be read: %s", self._database.path, error)
                stored = Stored([], True, now)
            loaded.append((request.done, stored))
        return loaded

    def _tidy(self) -> bool:
        try:
            return self._database.tidy()
        except sqlite3.Error as error:
            logger.warning("%s could not be tidied: %s", self._database.path, error)
            return False

    def _clean(self) -> None:
        now = time.time()
        oldest = int((now - TOMBSTONE_LIFETIME) * 1000) << 16
        try:
            self._database.forget_expired(now, oldest)
        except sqlite3.Error as error:
            logger.warning("%s could not be cleaned: %s", self._database.path, error)


def _nothing() -> None:
    """Nobody else has to know."""
