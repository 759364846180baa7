"""Damaged SQLite files: set aside under another name, never deleted; and what they still give."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_LARGEST = 16 << 30
"""Bytes up to which a header's word about the file's size is believed."""
_KINDS: dict[str, type | tuple[type, ...]] = {
    "TEXT": str,
    "BLOB": bytes,
    "INTEGER": int,
    "REAL": (float, int),
}


class _Table(NamedTuple):
    name: str
    columns: list[str]
    kinds: list[tuple[type, ...]]


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file itself is bad, not that it cannot be reached, or is full."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)


def check(connection: sqlite3.Connection) -> None:
    """sqlite3.DatabaseError where the file is damaged."""
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError(f"database disk image is malformed: {state}")


def set_aside(path: Path) -> Path:
    """Give a database, with its log, another name; which."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def salvage(aside: Path, into: sqlite3.Connection) -> None:
    """Copy what a damaged database still gives, for each table of a new one.

    Rows are read from the front and from the back of each table, until that fails; those whose values are not
    of their columns' types are left out. Whether rows fit together is for the caller to see.
    """
    with tempfile.TemporaryDirectory(dir=aside.parent, prefix="salvage-") as folder:
        copy = _whole_copy(aside, Path(folder))
        for table in _tables(into):
            marks = ", ".join("?" * len(table.columns))
            insert = f"INSERT OR REPLACE INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"  # noqa: S608
            for row in _rows(copy, table):
                into.execute(insert, row)


def _tables(connection: sqlite3.Connection) -> list[_Table]:
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return [_table(connection, name) for (name,) in names.fetchall()]


def _table(connection: sqlite3.Connection, name: str) -> _Table:
    columns: list[str] = []
    kinds: list[tuple[type, ...]] = []
    for _, column, declared, required, _, primary in connection.execute(f"PRAGMA table_info({name})"):
        kind = _KINDS[declared]
        allowed = kind if isinstance(kind, tuple) else (kind,)
        columns.append(column)
        kinds.append(allowed if required or primary else (*allowed, type(None)))
    return _Table(name, columns, kinds)


def _rows(path: Path, table: _Table) -> Iterator[tuple[Any, ...]]:
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
            query = f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY 1 {order}"  # noqa: S608
            for row in connection.execute(query):
                if all(isinstance(value, kind) for value, kind in zip(row, table.kinds, strict=True)):
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
        if copy.stat().st_size < size <= _LARGEST:
            file.truncate(size)
    return copy
