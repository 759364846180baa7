"""The outbox's database: what waits for other nodes, and how far this node has heard each of them.

Synchronous: :mod:`edge_mesh.outbox` calls it from its writer thread, between ``begin`` and ``commit``. A
message is stored once, with a pointer for each destination.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from broker.salvage import check, check_tables, last_written, open_sound
from edge_mesh.ledger import REASONS, Ledger

logger = logging.getLogger("geomq.mesh.outbox")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY, record BLOB NOT NULL, accepted_at REAL NOT NULL, expires_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS message_expiry ON message (expires_at) WHERE expires_at > 0;
CREATE TABLE IF NOT EXISTS pointer (
    destination INTEGER NOT NULL, sequence INTEGER NOT NULL, message INTEGER NOT NULL,
    PRIMARY KEY (destination, sequence)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pointer_message ON pointer (message);
CREATE TABLE IF NOT EXISTS peer (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, region TEXT NOT NULL, seen_at REAL NOT NULL,
    accepted INTEGER NOT NULL DEFAULT 0, acknowledged INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0, age INTEGER NOT NULL DEFAULT 0,
    overflow INTEGER NOT NULL DEFAULT 0, forgotten INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS interest (
    peer TEXT NOT NULL, topic_filter TEXT NOT NULL, PRIMARY KEY (peer, topic_filter)) WITHOUT ROWID;
"""

_FORMAT = 1
_EPOCH_OF = "epoch of "
_CROSSED = "crossed "
_COUNTERS_SECONDS = 1.0
_SET_BACK = 5.0
"""Seconds by which the clock has to be behind the last write to count as set back."""
_SLICE = 500
"""Pages that are given back to the file system at a time: nobody should wait for more."""
_MANY_FREE = 1024
"""Free pages that are worth giving back."""
_COUNTERS = ("accepted", "acknowledged", "expired", *REASONS)


class OutboxError(RuntimeError):
    """The outbox cannot be opened."""


class Entry(NamedTuple):
    """A message for one or more destinations."""

    record: bytes
    expires_at: float
    """Wall-clock seconds; 0.0 for never."""
    targets: tuple[tuple[str, int], ...]
    """(destination, sequence)."""
    crossing: int = 0
    """What the node's own store knows the message by until it is here; 0 where it does not. Nothing else is here of a
    message that rules have dropped, and emitted others for: it has no destination."""


class KnownPeer(NamedTuple):
    """What was remembered about another node."""

    name: str
    region: str
    seen_at: float
    topic_filters: tuple[str, ...]


class Row(NamedTuple):
    """A stored message on its way to one destination."""

    sequence: int
    record: bytes


class SharedRow(NamedTuple):
    """A stored message on its way to several destinations."""

    record: bytes
    targets: tuple[tuple[str, int], ...]
    """(destination, sequence)."""


class OutboxStore:
    """``path`` is the database's file, None for memory only. OutboxError where it cannot be opened.

    ``new_epoch`` names the epoch of a file that is new; later ones have to be greater.
    """

    def __init__(self, path: Path | None, new_epoch: Callable[[], int] = time.time_ns) -> None:
        self._new_epoch = new_epoch
        self._peers: dict[str, int] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._touched: set[str] = set()
        self._saved: tuple[dict[str, int], dict[str, Ledger], int, int] = ({}, {}, 0, 0)
        self._changes_before = 0
        self._counted_at = 0.0
        self._written = 0.0
        self.known_peers: list[KnownPeer] = []
        """As of the opening."""
        self._db: sqlite3.Connection
        try:
            if path is None:
                self._open(path)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._written = last_written(path)
            _, aside = open_sound(path, lambda: self._open(path), prepare, _fit)
            if aside is not None:
                (count,) = self._db.execute("SELECT COUNT(*) FROM message").fetchone()
                logger.error(
                    "the outbox %s was damaged: it is kept as %s; %d messages could be read",
                    path,
                    aside,
                    count,
                )
        except (OSError, sqlite3.Error) as error:
            raise OutboxError(f"the outbox {path} cannot be opened: {error}") from error

    def _open(self, path: Path | None) -> None:
        self._db = sqlite3.connect(
            str(path) if path else ":memory:", isolation_level=None, check_same_thread=False
        )
        try:
            self._set_up(path)
        except BaseException:
            self._db.close()
            raise

    def _set_up(self, path: Path | None) -> None:
        db = self._db
        if path is not None:
            if not path.exists() or not path.stat().st_size:
                # Before the first table: only then it takes effect without rewriting the file.
                db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA journal_size_limit=4194304")
            check(db)
            check_tables(db, prepare)
            if not db.execute("PRAGMA auto_vacuum").fetchone()[0]:
                db.execute("PRAGMA auto_vacuum=INCREMENTAL")
                db.execute("VACUUM")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute("CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY)")
        db.execute("BEGIN IMMEDIATE")
        self._create()
        now = time.time()
        if now < self._written - _SET_BACK:
            self.shift(now - self._written)
        self._load()
        db.execute("COMMIT")

    def _create(self) -> None:
        db = self._db
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _FORMAT):
            raise OutboxError(f"the outbox has format {version}, this version knows {_FORMAT}")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version={_FORMAT}")
        # A new file is a new epoch: receivers' marks of a lost one must not swallow what is sent now.
        db.execute("INSERT OR IGNORE INTO meta VALUES ('epoch', ?)", (self._new_epoch(),))
        db.execute("INSERT INTO meta VALUES ('run', 1) ON CONFLICT DO UPDATE SET value = value + 1")
        meta = dict(db.execute("SELECT name, value FROM meta"))
        self.epoch: int = meta["epoch"]
        self.run: int = meta["run"]
        self.epochs: dict[str, int] = {
            name.removeprefix(_EPOCH_OF): value for name, value in meta.items() if name.startswith(_EPOCH_OF)
        }
        """Those of destinations that have one of their own."""
        self.crossed: frozenset[int] = frozenset(
            value for name, value in meta.items() if name.startswith(_CROSSED)
        )
        """Numbers of messages that earlier processes have taken from the node's own store."""

    def _load(self) -> None:
        db = self._db
        self.known_peers = []
        filters: dict[str, list[str]] = {}
        for peer, topic_filter in db.execute("SELECT peer, topic_filter FROM interest"):
            filters.setdefault(peer, []).append(topic_filter)
        for number, name, region, seen_at, *counts in db.execute(
            f"SELECT id, name, region, seen_at, {', '.join(_COUNTERS)} FROM peer"
        ).fetchall():
            self.known_peers.append(KnownPeer(name, region, seen_at, tuple(filters.get(name, ()))))
            self._peers[name] = number
            ledger = self._ledgers[name] = Ledger(**dict(zip(_COUNTERS, counts, strict=True)))
            (ledger.queued,) = db.execute(
                "SELECT COUNT(*) FROM pointer WHERE destination = ?", (number,)
            ).fetchone()
        (self._bytes, last) = db.execute(
            "SELECT COALESCE(SUM(LENGTH(record)), 0), COALESCE(MAX(id), 0) FROM message"
        ).fetchone()
        self._next_message: int = last + 1

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self._write_counters()
        self._db.close()

    # -- transactions -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a transaction; what is in memory is kept, too."""
        ledgers = {name: copy(ledger) for name, ledger in self._ledgers.items()}
        self._saved = (dict(self._peers), ledgers, self._bytes, self._next_message)
        self._db.execute("BEGIN IMMEDIATE")
        self._changes_before = self._db.total_changes

    def commit(self) -> None:
        """Make everything since ``begin`` last.

        Where only counters changed, because everything was acknowledged in time, the disk is left alone but for
        once in :data:`_COUNTERS_SECONDS`: a crash forgets what was both accepted and acknowledged since.
        """
        now = time.monotonic()
        if self._db.total_changes != self._changes_before or now - self._counted_at >= _COUNTERS_SECONDS:
            self._counted_at = now
            self._write_counters()
        self._db.execute("COMMIT")

    def _write_counters(self) -> None:
        assignments = ", ".join(f"{counter} = ?" for counter in _COUNTERS)
        self._db.executemany(
            f"UPDATE peer SET {assignments} WHERE id = ?",
            [
                (*(getattr(self._ledgers[name], counter) for counter in _COUNTERS), self._peers[name])
                for name in self._touched
            ],
        )
        self._touched.clear()

    def rollback(self) -> None:
        """Undo everything since ``begin``."""
        # When the disk is full SQLite may have rolled back by itself.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._peers, self._ledgers, self._bytes, self._next_message = self._saved
        # Some may have been counted in transactions that left them to this one.
        self._touched = set(self._ledgers)

    @property
    def bytes(self) -> int:
        """The size of all records that wait."""
        size: int = self._bytes
        return size

    def oldest(self) -> dict[str, float]:
        """When the oldest message was accepted (wall-clock seconds) that waits for each destination."""
        found: dict[str, float] = {}
        for name, number in self._peers.items():
            row = self._db.execute(
                "SELECT accepted_at FROM pointer JOIN message ON message.id = pointer.message"
                " WHERE destination = ? ORDER BY sequence LIMIT 1",
                (number,),
            ).fetchone()
            if row is not None:
                found[name] = row[0]
        return found

    def ledgers(self) -> dict[str, Ledger]:
        """A copy of every destination's account."""
        return {name: copy(ledger) for name, ledger in self._ledgers.items()}

    # -- messages ---------------------------------------------------------------------------------------

    def add(self, entries: Sequence[Entry], now: float, acknowledged: Mapping[str, int]) -> None:
        """Store messages, but for those that all their destinations have acknowledged already."""
        messages: list[tuple[int, bytes, float, float]] = []
        pointers: list[tuple[int, int, int]] = []
        identifier = self._next_message
        crossed: list[tuple[str, int]] = []
        for record, expires_at, targets, crossing in entries:
            if crossing:
                crossed.append((f"{_CROSSED}{crossing}", crossing))
            waiting = False
            for name, sequence in targets:
                ledger = self._touch(name, now)
                ledger.accept(1)
                if sequence <= acknowledged.get(name, 0):
                    ledger.acknowledge(1)
                else:
                    pointers.append((self._peers[name], sequence, identifier))
                    waiting = True
            if waiting:
                messages.append((identifier, record, now, expires_at))
                self._bytes += len(record)
                identifier += 1
        self._next_message = identifier
        if messages:
            self._db.executemany("INSERT INTO message VALUES (?, ?, ?, ?)", messages)
            self._db.executemany("INSERT INTO pointer VALUES (?, ?, ?)", pointers)
        if crossed:
            self._db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", crossed)

    def forget_crossed(self, numbers: Iterable[int]) -> None:
        """These will not come again."""
        self._db.executemany(
            "DELETE FROM meta WHERE name = ?", [(f"{_CROSSED}{number}",) for number in numbers]
        )

    def acknowledge(self, destination: str, sequence: int) -> None:
        """The destination has everything up to here."""
        number = self._peers.get(destination)
        if number is not None:
            count = self._delete("destination = ? AND sequence <= ?", (number, sequence))
            if count:
                self._touch(destination, 0.0).acknowledge(count)

    def read(self, destination: str, after: int, max_bytes: int) -> list[Row]:
        """The next messages of a destination, in order: at least one where there is any."""
        rows: list[Row] = []
        size = 0
        cursor = self._db.execute(
            "SELECT sequence, record FROM pointer JOIN message ON message.id = pointer.message"
            " WHERE destination = ? AND sequence > ? ORDER BY sequence",
            (self._peers.get(destination, -1), after),
        )
        for sequence, record in cursor:
            rows.append(Row(sequence, record))
            size += len(record)
            if size >= max_bytes:
                break
        cursor.close()
        return rows

    def read_together(
        self, positions: Sequence[tuple[str, int]], max_bytes: int
    ) -> tuple[list[SharedRow], bool]:
        """The next messages of several (destination, sequence that it has), in order, and whether that was all."""
        rows: list[SharedRow] = []
        size = 0
        pointers = heapq.merge(*(self._pointers(name, after) for name, after in positions))
        for message, group in groupby(pointers, key=itemgetter(0)):
            if size >= max_bytes:
                return rows, False
            (record,) = self._db.execute("SELECT record FROM message WHERE id = ?", (message,)).fetchone()
            rows.append(SharedRow(record, tuple((name, sequence) for _, name, sequence in group)))
            size += len(record)
        return rows, True

    def _pointers(self, name: str, after: int) -> Iterator[tuple[int, str, int]]:
        # Sequences and message numbers are given in the same order.
        for message, sequence in self._db.execute(
            "SELECT message, sequence FROM pointer WHERE destination = ? AND sequence > ? ORDER BY sequence",
            (self._peers.get(name, -1), after),
        ):
            yield message, name, sequence

    def shift(self, by: float) -> None:
        """The wall clock was set by so many seconds: what waits has not waited any longer for it."""
        self._db.execute("UPDATE message SET accepted_at = accepted_at + ?", (by,))
        self._db.execute("UPDATE message SET expires_at = expires_at + ? WHERE expires_at > 0", (by,))
        self._db.execute("UPDATE peer SET seen_at = seen_at + ?", (by,))

    def prune(self, now: float, retention: float) -> None:
        """Give up what has expired, and what has waited for more than ``retention`` seconds."""
        overdue = "SELECT id FROM message WHERE expires_at > 0 AND expires_at <= ?"
        if self._db.execute(overdue, (now,)).fetchone():
            for name, number in self._peers.items():
                count = self._delete(f"destination = ? AND message IN ({overdue})", (number, now))
                if count:
                    self._touch(name, now).expire(count)
        (oldest,) = self._db.execute("SELECT MIN(id) FROM message").fetchone()
        row = self._db.execute(
            "SELECT id FROM message WHERE accepted_at > ? ORDER BY id LIMIT 1", (now - retention,)
        ).fetchone()
        first_young = row[0] if row else self._next_message
        if oldest is not None and oldest < first_young:
            for name, number in self._peers.items():
                count = self._delete("destination = ? AND message < ?", (number, first_young))
                if count:
                    self._touch(name, now).drop(count, "age")

    def bound(self, capacity: int) -> None:
        """Drop the oldest messages of the longest queue until all records have at most ``capacity`` bytes."""
        while self._bytes > capacity:
            name = max(self._ledgers, key=lambda name: self._ledgers[name].queued)
            number = self._peers[name]
            surplus = self._bytes - capacity
            last = 0
            for sequence, size in self._db.execute(
                "SELECT sequence, LENGTH(record) FROM pointer JOIN message ON message.id = pointer.message"
                " WHERE destination = ? ORDER BY sequence",
                (number,),
            ):
                last = sequence
                surplus -= size
                if surplus <= 0:
                    break
            count = self._delete("destination = ? AND sequence <= ?", (number, last))
            if not count:
                return
            self._touch(name, 0.0).drop(count, "overflow")

    def tidy(self) -> bool:
        """Give a slice of free space back to the file system, outside a transaction; whether there is more."""
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        if free <= _MANY_FREE or free <= pages // 4:
            return False
        # A script is stepped to its end; execute() would stop after the first page.
        self._db.executescript(f"PRAGMA incremental_vacuum({_SLICE})")
        return True

    def _delete(self, where: str, arguments: tuple[object, ...]) -> int:
        """Delete pointers, and the messages that nobody waits for any more; how many pointers there were."""
        db = self._db
        count = db.execute(f"INSERT INTO gone SELECT message FROM pointer WHERE {where}", arguments).rowcount
        if not count:
            return 0
        db.execute(f"DELETE FROM pointer WHERE {where}", arguments)
        db.execute("DELETE FROM gone WHERE id IN (SELECT message FROM pointer WHERE message = gone.id)")
        (size,) = db.execute(
            "SELECT COALESCE(SUM(LENGTH(record)), 0) FROM gone JOIN message USING (id)"
        ).fetchone()
        db.execute("DELETE FROM message WHERE id IN (SELECT id FROM gone)")
        db.execute("DELETE FROM gone")
        self._bytes -= size
        return count

    def _touch(self, name: str, now: float) -> Ledger:
        """A destination's account, which is about to change."""
        self._touched.add(name)
        ledger = self._ledgers.get(name)
        if ledger is None:
            self._db.execute(
                "INSERT INTO peer (name, region, seen_at) VALUES (?, '', ?) ON CONFLICT DO NOTHING",
                (name, now),
            )
            (self._peers[name],) = self._db.execute("SELECT id FROM peer WHERE name = ?", (name,)).fetchone()
            ledger = self._ledgers[name] = Ledger()
        return ledger

    # -- peers ------------------------------------------------------------------------------------------

    def remember_peer(self, name: str, region: str, now: float) -> None:
        """A node was seen."""
        self._touch(name, now)
        self._db.execute("UPDATE peer SET region = ?, seen_at = ? WHERE name = ?", (region, now, name))

    def forget_peer(self, name: str) -> None:
        """A node will not come back: what waits for it is given up. Its account stays, should it come after all."""
        number = self._peers.get(name)
        if number is not None:
            count = self._delete("destination = ?", (number,))
            if count:
                self._touch(name, 0.0).drop(count, "forgotten")
        self._db.execute("DELETE FROM interest WHERE peer = ?", (name,))

    def keep_epoch(self, name: str, epoch: int) -> None:
        """A destination has an epoch of its own."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_EPOCH_OF + name, epoch))

    def save_interest(self, name: str, added: Iterable[str], removed: Iterable[str]) -> None:
        """A node's interest changed."""
        self._db.executemany(
            "INSERT OR IGNORE INTO interest VALUES (?, ?)", [(name, topic_filter) for topic_filter in added]
        )
        self._db.executemany(
            "DELETE FROM interest WHERE peer = ? AND topic_filter = ?",
            [(name, topic_filter) for topic_filter in removed],
        )


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables of a new outbox."""
    connection.executescript(f"PRAGMA auto_vacuum=INCREMENTAL; {_SCHEMA} PRAGMA user_version={_FORMAT};")


def _fit(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM pointer WHERE message NOT IN (SELECT id FROM message)")
    connection.execute("DELETE FROM pointer WHERE destination NOT IN (SELECT id FROM peer)")
    connection.execute("DELETE FROM message WHERE id NOT IN (SELECT message FROM pointer)")
