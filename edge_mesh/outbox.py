"""The durable lanes' memory, as the event loop sees it: a writer thread, commits in groups, callbacks.

Sequence numbers have two parts: the *run*, how often this outbox was opened, and a counter. Messages are sent
before they are committed; after a crash the numbers of those that were not are never given to others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from edge_mesh.ledger import Ledger
from edge_mesh.outbox_store import Entry, OutboxStore, Row, SharedRow

logger = logging.getLogger("geomq.mesh.outbox")

RUN_BITS = 40
"""The counter of a sequence number; the run is above it."""

_RETRY_SECONDS = 1.0
_JUMP = 5.0
"""Seconds by which the wall clock has to part at once from one that never jumps to make it a jump."""
_CLOSE_SECONDS = 10.0
_TIDY_SECONDS = 0.25
"""Between two slices of free space that are given back to the file system."""

_Command = Callable[[], None]


class _Ticket:
    """Somebody waits until all of these are on disk, or acknowledged."""

    __slots__ = ("needs", "on_safe")

    def __init__(self, needs: dict[str, int], on_safe: Callable[[], None]) -> None:
        self.needs = needs
        self.on_safe: Callable[[], None] | None = on_safe


class Outbox:
    """``path`` is the database's file, None for memory only. All methods are called on the event loop.

    ``retention`` (seconds) and ``capacity`` (bytes of records) bound what waits. ``linger`` (seconds) lets
    acknowledgements come before the store is touched: what everybody has acknowledged is never written.
    ``on_failure`` is called on the event loop each time that the disk does not take a group. OutboxError where the
    file cannot be opened.
    """

    def __init__(
        self,
        path: Path | None,
        retention: float,
        capacity: int,
        linger: float = 0.0,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = OutboxStore(path, lambda: int(wall() * 1e9))
        self._where = str(path) if path else "memory"
        self._retention = retention
        self._capacity = capacity
        self._linger = linger
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self.epoch = self._store.epoch
        self._epochs = dict(self._store.epochs)
        self.first_sequence = self._store.run << RUN_BITS
        """Every sequence of this run is greater."""
        self.crossed = self._store.crossed
        """See :attr:`OutboxStore.crossed`."""
        self._forgotten_at: dict[str, int] = {}
        self.known_peers = self._store.known_peers
        self.failing = False
        """Whether the disk did not take the last group; it is tried again."""
        self.on_failure: Callable[[], None] = _nothing
        self._ledgers = self._store.ledgers()
        self._oldest = self._store.oldest()
        self.bytes = self._store.bytes
        """The size of what waits, as of the last commit."""
        self._added = self._group_added = self._committed = 0
        self._acknowledged: dict[str, int] = {}
        self._tickets: deque[_Ticket] = deque()
        self._commands: queue.SimpleQueue[_Command | None] = queue.SimpleQueue()
        self._after: list[Callable[[], None]] = []
        self._urgent = threading.Event()
        self._untidy = False
        """Whether there may be more free space than should be in the file."""
        self._tidy_at = 0.0
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="geomq-outbox", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the writer thread; callbacks come on this loop."""
        self._loop = loop
        self._thread.start()

    async def close(self) -> None:
        """Write what is left, then close the file."""
        self._stopping = True
        self._urgent.set()
        if self._loop is not None:
            self._commands.put(None)
            await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)
            if self._thread.is_alive():
                logger.error("the outbox %s did not close within %g s", self._where, _CLOSE_SECONDS)
                return
        self._store.close()

    def set_bounds(self, retention: float, capacity: int) -> None:
        """Bound what waits otherwise from now on; what is beyond goes with the next commit."""
        self._retention = retention
        self._capacity = capacity

    # -- messages ---------------------------------------------------------------------------------------

    def add(self, entries: Sequence[Entry], on_safe: Callable[[], None] | None, urgent: bool = False) -> None:
        """Store messages; ``on_safe`` once they are on disk, or acknowledged by all their destinations.

        ``urgent`` where no acknowledgement is to be expected soon: the next commit does not linger.
        """
        now = self._wall()
        size = sum(len(entry.record) for entry in entries)
        self._added += size
        self._commands.put(lambda: self._add(entries, now, size))
        if on_safe is not None:
            needs: dict[str, int] = {}
            for entry in entries:
                needs.update(entry.targets)
            ticket = _Ticket(needs, on_safe)
            self._tickets.append(ticket)
            self._commands.put(lambda: self._after.append(lambda: self._fire(ticket)))
        if urgent:
            self._urgent.set()

    def forget_crossed(self, numbers: Sequence[int]) -> None:
        """These crossings will not be added again."""
        self._commands.put(lambda: self._store.forget_crossed(numbers))

    def acknowledge(self, destination: str, sequence: int) -> None:
        """The destination has everything up to here."""
        acknowledged = self._acknowledged
        acknowledged[destination] = sequence
        while self._tickets:
            ticket = self._tickets[0]
            if any(acknowledged.get(name, 0) < last for name, last in ticket.needs.items()):
                break
            self._fire(ticket)
        self._commands.put(lambda: self._store.acknowledge(destination, sequence))

    def read(self, destination: str, after: int, max_bytes: int, done: Callable[[list[Row]], None]) -> None:
        """``done`` with the next messages of a destination, in order; with none where there is none."""

        def read() -> None:
            rows = self._store.read(destination, after, max_bytes)
            self._after.append(lambda: done(rows))

        self._commands.put(read)
        self._urgent.set()

    def read_together(
        self,
        positions: Sequence[tuple[str, int]],
        max_bytes: int,
        done: Callable[[list[SharedRow], bool], None],
    ) -> None:
        """``done`` with the next messages of several destinations, and whether that was all."""

        def read() -> None:
            rows, complete = self._store.read_together(positions, max_bytes)
            self._after.append(lambda: done(rows, complete))

        self._commands.put(read)
        self._urgent.set()

    def prune(self) -> float:
        """Give up what has expired or waited for longer than the retention.

        Seconds by which the wall clock was set since the last time, 0.0 for none.
        """
        now = self._wall()
        offset = now - self._steady()
        jump, self._offset = offset - self._offset, offset
        if abs(jump) < _JUMP:
            jump = 0.0
        if jump:
            self._commands.put(lambda: self._store.shift(jump))
        self._commands.put(lambda: self._prune(now))
        return jump

    def ledger(self, name: str) -> Ledger:
        """A destination's account as of the last commit."""
        return self._ledgers.get(name) or Ledger()

    def destinations(self) -> list[str]:
        """All that have an account, forgotten ones too, by name."""
        return sorted(self._ledgers)

    def backlog_age(self, name: str) -> float:
        """Seconds for which the oldest message has waited for a destination, as of the last :meth:`prune`."""
        oldest = self._oldest.get(name)
        return 0.0 if oldest is None else max(0.0, self._wall() - oldest)

    @property
    def uncommitted(self) -> int:
        """The size of what was added since the last commit, whether or not it will have to wait."""
        return self._added - self._committed

    @property
    def overflowed(self) -> int:
        """Messages that were dropped because the outbox was full, for all destinations that are known."""
        return sum(ledger.overflow for ledger in self._ledgers.values())

    # -- peers ------------------------------------------------------------------------------------------

    def remember_peer(self, name: str, region: str) -> None:
        """A node was seen."""
        now = self._wall()
        self._commands.put(lambda: self._store.remember_peer(name, region, now))

    def forget_peer(self, name: str, sequence: int) -> None:
        """A node will not come back: what waits for it is given up; ``sequence`` is the last that was used for it."""
        self._forgotten_at[name] = sequence
        self._commands.put(lambda: self._store.forget_peer(name))

    def last_sequence(self, name: str) -> int:
        """Where a new lane begins to count: a node that was forgotten and comes back remembers the old numbers."""
        return self._forgotten_at.get(name, self.first_sequence)

    def epoch_for(self, name: str) -> int:
        """The epoch in which the sequences for a destination count: its own, where it was given one."""
        return self._epochs.get(name, self.epoch)

    def keep_epoch(self, name: str, epoch: int) -> None:
        """A destination has an epoch of its own from now on."""
        self._epochs[name] = epoch
        self._commands.put(lambda: self._store.keep_epoch(name, epoch))

    def save_interest(self, name: str, added: Iterable[str], removed: Iterable[str]) -> None:
        """A node's interest changed."""
        added, removed = tuple(added), tuple(removed)
        self._commands.put(lambda: self._store.save_interest(name, added, removed))

    def _fire(self, ticket: _Ticket) -> None:
        on_safe, ticket.on_safe = ticket.on_safe, None
        tickets = self._tickets
        while tickets and tickets[0].on_safe is None:
            tickets.popleft()
        if on_safe is not None:
            on_safe()

    # -- the writer's thread ----------------------------------------------------------------------------

    def _add(self, entries: Sequence[Entry], now: float, size: int) -> None:
        self._store.add(entries, now, self._acknowledged)
        self._group_added += size

    def _prune(self, now: float) -> None:
        self._store.prune(now, self._retention)
        self._oldest = self._store.oldest()

    def _run(self) -> None:
        try:
            while self._write(self._next_group()):
                self._tidy()
        except Exception:
            # From here on nobody is told that anything is safe.
            logger.exception("the outbox %s has failed", self._where)

    def _next_group(self) -> list[_Command | None]:
        """Everything that has been asked for, once there is anything; None at its end means: close."""
        group: list[_Command | None] = []
        while not group:
            try:
                group.append(self._commands.get(timeout=_TIDY_SECONDS if self._untidy else None))
            except queue.Empty:
                self._tidy()
        if self._linger and not self._stopping:
            self._urgent.wait(self._linger)
        self._urgent.clear()
        with contextlib.suppress(queue.Empty):
            while True:
                group.append(self._commands.get_nowait())
        return group

    def _tidy(self) -> None:
        now = self._steady()
        if now < self._tidy_at:
            self._untidy = True
            return
        self._tidy_at = now + _TIDY_SECONDS
        try:
            self._untidy = self._store.tidy()
        except sqlite3.Error as error:
            self._untidy = False
            logger.warning("the outbox %s could not be tidied: %s", self._where, error)

    def _write(self, group: list[_Command | None]) -> bool:
        """Commit a group; tries again until the disk takes it, for those who wait must not be told a lie."""
        failed = False
        while True:
            try:
                self._store.begin()
                self._group_added = 0
                for command in group:
                    if command is not None:
                        command()
                self._store.bound(self._capacity)
                self._store.commit()
                break
            except sqlite3.Error as error:
                self._store.rollback()
                self._after.clear()
                self.failing = True
                if not failed:
                    logger.error("the outbox %s cannot be written, trying again: %s", self._where, error)
                    failed = True
                if self._stopping:
                    return False
                self._on_loop(self.on_failure)
                time.sleep(_RETRY_SECONDS)
        self.failing = False
        if failed:
            logger.warning("the outbox %s can be written again", self._where)
        self._ledgers = self._store.ledgers()
        self.bytes = self._store.bytes
        self._committed += self._group_added
        after, self._after = self._after, []
        if after:
            self._on_loop(lambda: _call_all(after))
        return None not in group

    def _on_loop(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback)


def _nothing() -> None:
    """Nobody has to know."""


def _call_all(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
