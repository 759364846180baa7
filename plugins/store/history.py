"""The local history: messages by topic and time in SQLite beside the node, written in batches by one thread."""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from broker.message import Message
from broker.protocol.topics import matches
from broker.salvage import check, check_tables, open_sound

logger = logging.getLogger("geomq.history")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, time REAL NOT NULL, payload BLOB NOT NULL,
    qos INTEGER NOT NULL, retain INTEGER NOT NULL, properties BLOB NOT NULL, publisher TEXT NOT NULL,
    size INTEGER NOT NULL, user TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS message_topic ON message (topic, time);
CREATE INDEX IF NOT EXISTS message_time ON message (time);
"""
_FORMAT = 2
_ROW_BYTES = 64
"""What a row takes beside its texts and bytes, roughly."""

_GATHER_SECONDS = 0.05
_MAX_WAITING = 100_000
"""Messages that wait for the disk; beyond that they are dropped and counted."""
_PRUNE_SECONDS = 10.0
_CLOSE_SECONDS = 10.0


class HistoryError(RuntimeError):
    """The history cannot be opened or read."""


class Stored(NamedTuple):
    """A message of the history; ``time`` is wall-clock seconds."""

    topic: str
    time: float
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    publisher: str
    user: str


class History:
    """``retention_seconds`` and ``retention_bytes`` bound what is kept; the oldest goes first.

    ``append`` is for the event loop and never waits; ``query`` and ``flush`` wait for the disk and are for
    other threads. HistoryError where the file cannot be opened.
    """

    def __init__(self, path: Path, retention_seconds: float, retention_bytes: int) -> None:
        self._path = path
        self._retention_seconds = retention_seconds
        self._retention_bytes = retention_bytes
        self._waiting = 0
        self._written = 0
        self._dropped = 0
        self._told = ""
        self._next_prune = 0.0
        self._stopping = threading.Event()
        self._ending = threading.Lock()
        self._items: queue.SimpleQueue[tuple[Sequence[Message], float] | Callable[[], None] | None] = (
            queue.SimpleQueue()
        )
        try:
            self._db = self._open()
        except (OSError, sqlite3.Error) as error:
            raise HistoryError(f"the history {path} cannot be opened: {error}") from None
        self._oldest: float | None = self._find_oldest()
        self._thread = threading.Thread(target=self._run, name="geomq-history", daemon=True)
        self._thread.start()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db, aside = open_sound(self._path, self._opened, prepare, _fit, is_synced=False)
        if aside is not None:
            logger.error(
                "the history %s was damaged: it is kept as %s; %d messages could be read",
                self._path,
                aside,
                self._count,
            )
        return db

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > _FORMAT:
                raise HistoryError(
                    f"the history {self._path} has format {version}, this version knows {_FORMAT}"
                )
            check(db)
            if version == 1:
                _add_users(db)
            check_tables(db, prepare)
            prepare(db)
            self._count, self._bytes = db.execute(
                "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM message"
            ).fetchone()
            self._topics: dict[str, int] = dict(db.execute("SELECT name, id FROM topic"))
        except BaseException:
            db.close()
            raise
        return db

    # -- for the event loop ------------------------------------------------------------------------------

    def append(self, messages: Sequence[Message], now: float) -> None:
        """Keep messages, as of ``now`` (wall-clock seconds)."""
        if self._waiting + len(messages) > _MAX_WAITING:
            self._dropped += len(messages)
            return
        self._waiting += len(messages)
        self._items.put((messages, now))

    def bound(self, retention_seconds: float, retention_bytes: int) -> None:
        """Keep this much from now on; what is beyond it goes soon."""
        if (retention_seconds, retention_bytes) != (self._retention_seconds, self._retention_bytes):
            self._retention_seconds, self._retention_bytes = retention_seconds, retention_bytes
            self._next_prune = 0.0
            self._items.put(lambda: None)

    def stats(self) -> dict[str, Any]:
        """Figures as of the last commit, ready for JSON."""
        return {
            "path": str(self._path),
            "messages": self._count,
            "bytes": self._bytes,
            "oldest": self._oldest,
            "waiting": max(0, self._waiting - self._written),
            "dropped": self._dropped,
            "last_error": self._told,
        }

    # -- for other threads -------------------------------------------------------------------------------

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until all that was appended before is on disk; HistoryError where it takes too long."""
        done = threading.Event()
        with self._ending:
            is_closed = self._stopping.is_set()
            if not is_closed:
                self._items.put(done.set)
        if is_closed:
            # Behind what it writes last, which nobody would tell any more.
            self._thread.join(timeout)
            done.set()
        if not done.wait(timeout):
            raise HistoryError("the history does not keep up")

    def query(
        self,
        topic_filter: str,
        *,
        last: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[Stored]:
        """The newest ``last`` messages of matching topics in a span of wall-clock time, the oldest first.

        HistoryError where the history cannot be read.
        """
        self.flush()
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as db:
                # One text that is none should hide no other message.
                db.text_factory = _text
                return _query(db, topic_filter, last, since, until)
        except sqlite3.Error as error:
            raise HistoryError(f"the history cannot be read: {error}") from None

    def close(self) -> None:
        """Write what waits, then close the file."""
        with self._ending:
            self._stopping.set()
            self._items.put(None)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._db.close()

    # -- the writer's thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        running = True
        while running:
            batches, waiters, running = self._gather()
            try:
                if batches:
                    self._write(batches)
                if time.monotonic() >= self._next_prune or self._bytes > self._retention_bytes:
                    self._next_prune = time.monotonic() + _PRUNE_SECONDS
                    self._prune(time.time())
                self._told = ""
            except sqlite3.Error as error:
                self._dropped += sum(len(messages) for messages, _ in batches)
                with contextlib.suppress(sqlite3.Error):
                    self._db.rollback()
                if str(error) != self._told:
                    self._told = str(error)
                    logger.error("the history %s cannot be written, messages are lost: %s", self._path, error)
            self._written += sum(len(messages) for messages, _ in batches)
            for wake in waiters:
                wake()

    def _gather(self) -> tuple[list[tuple[Sequence[Message], float]], list[Callable[[], None]], bool]:
        """(what to write, who waits for it, whether to go on); waits until there is anything."""
        batches: list[tuple[Sequence[Message], float]] = []
        waiters: list[Callable[[], None]] = []
        try:
            item = self._items.get(timeout=_PRUNE_SECONDS)
        except queue.Empty:
            return batches, waiters, True
        if isinstance(item, tuple):
            self._stopping.wait(_GATHER_SECONDS)
        while True:
            if item is None:
                return batches, waiters, False
            if isinstance(item, tuple):
                batches.append(item)
            else:
                waiters.append(item)
            try:
                item = self._items.get_nowait()
            except queue.Empty:
                return batches, waiters, True

    def _write(self, batches: Sequence[tuple[Sequence[Message], float]]) -> None:
        db = self._db
        db.execute("BEGIN")
        rows = [self._row(message, now) for messages, now in batches for message in messages]
        db.executemany("INSERT INTO message VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
        self._count += len(rows)
        self._bytes += sum(row[-2] for row in rows)
        if self._oldest is None and rows:
            self._oldest = rows[0][1]

    def _row(self, message: Message, now: float) -> tuple[int, float, bytes, int, bool, bytes, str, int, str]:
        topic = self._topics.get(message.topic)
        if topic is None:
            self._db.execute("INSERT OR IGNORE INTO topic (name) VALUES (?)", (message.topic,))
            (topic,) = self._db.execute("SELECT id FROM topic WHERE name = ?", (message.topic,)).fetchone()
            self._topics[message.topic] = topic
        size = _ROW_BYTES + len(message.payload) + len(message.properties) + len(message.publisher)
        return (
            topic,
            now,
            message.payload,
            message.qos,
            message.retain,
            message.properties,
            message.publisher,
            size,
            message.user,
        )

    def _prune(self, now: float) -> None:
        """Delete what is too old, then the oldest while there is too much."""
        db = self._db
        db.execute("BEGIN")
        db.execute("DELETE FROM message WHERE time < ?", (now - self._retention_seconds,))
        self._recount()
        surplus = self._bytes - self._retention_bytes
        if surplus > 0:
            self._delete_oldest(surplus + self._retention_bytes // 20)
            self._recount()
        db.execute("DELETE FROM topic WHERE id NOT IN (SELECT topic FROM message)")
        self._topics = dict(db.execute("SELECT name, id FROM topic"))
        db.execute("COMMIT")
        self._oldest = self._find_oldest()

    def _delete_oldest(self, surplus: int) -> None:
        last = None
        for number, moment, size in self._db.execute("SELECT id, time, size FROM message ORDER BY time, id"):
            last = (moment, number)
            surplus -= size
            if surplus <= 0:
                break
        if last is not None:
            self._db.execute("DELETE FROM message WHERE (time, id) <= (?, ?)", last)

    def _recount(self) -> None:
        self._count, self._bytes = self._db.execute(
            "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM message"
        ).fetchone()

    def _find_oldest(self) -> float | None:
        (oldest,) = self._db.execute("SELECT MIN(time) FROM message").fetchone()
        return None if oldest is None else float(oldest)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _query(
    db: sqlite3.Connection, topic_filter: str, last: int | None, since: float | None, until: float | None
) -> list[Stored]:
    chosen = [number for name, number in _topics_like(db, topic_filter) if matches(topic_filter, name)]
    if not chosen:
        return []
    db.execute("CREATE TEMP TABLE chosen (topic INTEGER PRIMARY KEY)")
    db.executemany("INSERT INTO chosen VALUES (?)", [(number,) for number in chosen])
    rows = db.execute(
        "SELECT topic.name, time, payload, qos, retain, properties, publisher, user FROM message "
        "JOIN topic ON topic.id = message.topic "
        "WHERE message.topic IN (SELECT topic FROM temp.chosen) AND time >= ? AND time <= ? "
        "ORDER BY time DESC, message.id DESC LIMIT ?",
        (
            since if since is not None else 0.0,
            until if until is not None else 1e12,
            -1 if last is None else last,
        ),
    ).fetchall()
    return [
        Stored(topic, moment, payload, qos, bool(retain), properties, publisher, user)
        for topic, moment, payload, qos, retain, properties, publisher, user in reversed(rows)
    ]


def _topics_like(db: sqlite3.Connection, topic_filter: str) -> Iterator[tuple[str, int]]:
    """The topics that begin as the filter does before its first wildcard."""
    literal = topic_filter.split("+", 1)[0].split("#", 1)[0].rstrip("/")
    if literal == topic_filter:
        yield from db.execute("SELECT name, id FROM topic WHERE name = ?", (topic_filter,))
    else:
        yield from db.execute(
            "SELECT name, id FROM topic WHERE name >= ? AND name < ?", (literal, literal + "\U0010ffff")
        )


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables that are not there."""
    # At once: whoever is killed here leaves no half of them, which would count as damage.
    db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_FORMAT}; COMMIT;")


def _add_users(db: sqlite3.Connection) -> None:
    """Format 1 did not know who had published."""
    if "user" not in {name for _, name, *_ in db.execute("PRAGMA table_info(message)")}:
        db.execute("ALTER TABLE message ADD COLUMN user TEXT NOT NULL DEFAULT ''")


def _fit(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM message WHERE topic NOT IN (SELECT id FROM topic)")
