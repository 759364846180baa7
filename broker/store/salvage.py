"""A damaged database is set aside, never deleted; what it still gives goes into a new one."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broker.store.schema import COLUMNS, TABLES, insert, migrate

logger = logging.getLogger("geomq.store")

_LARGEST = 16 << 30
"""Bytes up to which a header's word about the file's size is believed."""


def replace_damaged(path: Path, error: sqlite3.Error) -> Path:
    """Put a new database in the place of a damaged one; where the damaged one is now."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        migrate(connection)
        connection.execute("BEGIN IMMEDIATE")
        for table, row in _rows_of(aside):
            connection.execute(insert(table), row)
        _make_consistent(connection)
        counts = {table: connection.execute(_COUNT.format(table)).fetchone()[0] for table in _TOLD}
        connection.execute("COMMIT")
    logger.error(
        "%s is damaged (%s): it is kept as %s; what could be read from it: %s",
        path,
        error,
        aside,
        ", ".join(f"{count} {_TOLD[table]}" for table, count in counts.items()),
    )
    return aside


_COUNT = "SELECT count(*) FROM {}"
_TOLD = {"retained": "retained messages", "session": "sessions", "delivery": "queued messages"}


def _make_consistent(connection: sqlite3.Connection) -> None:
    """Drop what belongs to something that could not be read."""
    for table in ("subscription", "delivery", "incoming", "releasing"):
        connection.execute(f"DELETE FROM {table} WHERE session NOT IN (SELECT key FROM session)")  # noqa: S608
    connection.execute("DELETE FROM delivery WHERE message NOT IN (SELECT key FROM message)")
    connection.execute("DELETE FROM message WHERE key NOT IN (SELECT message FROM delivery)")


def _rows_of(path: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows that a damaged database gives before it fails, from the front and from the back of each table."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="salvage-") as folder:
        copy = _whole_copy(path, Path(folder))
        for table in TABLES:
            types = _types(table)
            for order in ("ASC", "DESC"):
                with (
                    contextlib.suppress(sqlite3.Error),
                    contextlib.closing(sqlite3.connect(copy)) as connection,
                ):
                    query = f"SELECT {COLUMNS[table]} FROM {table} ORDER BY 1 {order}"  # noqa: S608
                    for row in connection.execute(query):
                        if all(isinstance(value, kind) for value, kind in zip(row, types, strict=True)):
                            yield table, row


def _types(table: str) -> list[type | tuple[type, ...]]:
    """What the values of a table's columns have to be: a damaged page may hold anything."""
    kinds: dict[str, type | tuple[type, ...]] = {"TEXT": str, "BLOB": bytes, "INTEGER": int, "REAL": float}
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        migrate(connection)
        declared = {
            name: (kinds[kind], bool(strict or primary))
            for _, name, kind, strict, _, primary in connection.execute(f"PRAGMA table_info({table})")
        }
    none = type(None)
    found: list[type | tuple[type, ...]] = []
    for name in COLUMNS[table].split(", "):
        kind, required = declared[name.strip()]
        found.append(kind if required or isinstance(kind, tuple) else (kind, none))
    return found


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
        if copy.stat().st_size < size <= _LARGEST:
            file.truncate(size)
    return copy
