"""The node's database: opened, brought to the newest schema, set aside where it is damaged, with what can be read."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from broker.message import Message

logger = logging.getLogger("geomq.store")

_MIGRATIONS = (
    """
    CREATE TABLE retained (
        topic TEXT PRIMARY KEY, payload BLOB NOT NULL, qos INTEGER NOT NULL, properties BLOB NOT NULL,
        expires_at REAL NOT NULL, publisher TEXT NOT NULL, origin TEXT NOT NULL, stamp INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX retained_expiry ON retained (expires_at) WHERE expires_at > 0;
    """,
)
"""The steps from each schema version to the next; version 0 is an empty file."""

_COLUMNS = "topic, payload, qos, properties, expires_at, publisher, origin, stamp"


_LARGEST_SALVAGE = 16 << 30


class StoreError(Exception):
    """Why the database cannot be used, in words for the operator."""


class Database:
    """One file; used by one thread at a time. StoreError where it cannot be had.

    A retained message with an empty payload is a deletion, kept so that other nodes do not bring the message back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = _opened(path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise StoreError(f"{path}: {error}") from None
            self._connection = _replaced(path, error)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def save(self, retained: Iterable[Message]) -> None:
        """Write retained messages in one transaction; sqlite3.Error where that fails, and nothing is written."""
        rows = [
            (m.topic, m.payload, m.qos, m.properties, m.expires_at, m.publisher, m.origin, m.stamp)
            for m in retained
        ]
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            _insert(connection, rows)

    def forget_expired(self, now: float, deletions_before: int) -> None:
        """Remove what has expired at ``now`` (wall-clock seconds), and deletions with stamps below a stamp."""
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM retained WHERE expires_at > 0 AND expires_at <= ?", (now,))
            connection.execute("DELETE FROM retained WHERE payload = x'' AND stamp < ?", (deletions_before,))

    def retained(self) -> Iterator[Message]:
        """Every retained message and deletion."""
        for row in self._connection.execute(f"SELECT {_COLUMNS} FROM retained"):  # noqa: S608 - a constant
            yield _message(row)


def _message(row: tuple[str, bytes, int, bytes, float, str, str, int]) -> Message:
    topic, payload, qos, properties, expires_at, publisher, origin, stamp = row
    return Message(topic, payload, qos, True, properties, expires_at, publisher, origin, stamp)


def _insert(connection: sqlite3.Connection, rows: Iterable[tuple[object, ...]]) -> None:
    connection.executemany(
        f"INSERT OR REPLACE INTO retained ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        rows,
    )


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(f"database disk image is malformed: {state}")
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise StoreError(
            f"{path}: schema version {version} is newer than this GeoMQ knows ({len(_MIGRATIONS)}): update it"
        )
    for step, script in enumerate(_MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN; {script} PRAGMA user_version = {step}; COMMIT;")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return not isinstance(error, sqlite3.OperationalError)


def _replaced(path: Path, error: sqlite3.DatabaseError) -> sqlite3.Connection:
    """A new database in place of a damaged one, which is kept under another name, with what it still gives."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    connection = _opened(path)
    saved = 0
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for row in _salvaged(aside):
            _insert(connection, [row])
            saved += 1
    logger.error(
        "%s is damaged (%s): it is kept as %s; %d retained messages could be read from it",
        path,
        error,
        aside,
        saved,
    )
    return connection


def _salvaged(path: Path) -> Iterator[tuple[object, ...]]:
    """The rows that a damaged database gives before it fails, from the front and from the back."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="salvage-") as folder:
        copy = _whole_copy(path, Path(folder))
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(copy)) as connection:
                query = f"SELECT {_COLUMNS} FROM retained ORDER BY topic {order}"  # noqa: S608 - constants
                for row in connection.execute(query):
                    if isinstance(row[0], str) and isinstance(row[1], bytes) and isinstance(row[7], int):
                        yield row


def _whole_copy(path: Path, folder: Path) -> Path:
    """A copy to read from, as long as its header says: SQLite gives nothing of a file whose end is missing."""
    copy = folder / "copy.db"
    shutil.copyfile(path, copy)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(path.with_name(path.name + "-wal"), folder / "copy.db-wal")
    with copy.open("r+b") as file:
        header = file.read(32)
        page, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
        size = page * pages
        if copy.stat().st_size < size <= _LARGEST_SALVAGE:
            file.truncate(size)
    return copy
