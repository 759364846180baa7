"""Damaged SQLite files: set aside under another name, never deleted; and what they still give."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger("geomq.salvage")

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
    keys: list[str]
    """The columns of the primary key."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file itself is bad, not that it cannot be reached, or is full."""
    if isinstance(error, sqlite3.OperationalError):
        return str(error).startswith(("Could not decode to UTF-8", "malformed database schema"))
    return isinstance(error, sqlite3.DatabaseError)


def check(connection: sqlite3.Connection) -> None:
    """sqlite3.DatabaseError where the file is damaged."""
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError(f"database disk image is malformed: {state}")


def check_text(connection: sqlite3.Connection, *names: str) -> None:
    """sqlite3.OperationalError where a text in these tables, or any, is none: :func:`check` does not look at it."""
    for table in _tables(connection):
        columns = [name for name, kinds in zip(table.columns, table.kinds, strict=True) if str in kinds]
        if columns and (not names or table.name in names):
            for _ in connection.execute(f"SELECT {', '.join(columns)} FROM {table.name}"):  # noqa: S608
                pass


def kinds_of(connection: sqlite3.Connection) -> dict[str, dict[str, tuple[type, ...]]]:
    """Which types of values each column of each table takes."""
    return {table.name: dict(zip(table.columns, table.kinds, strict=True)) for table in _tables(connection)}


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with a database, one line each; none where it is sound. Reads all of it."""
    try:
        lines = [line for (line,) in connection.execute("PRAGMA integrity_check(20)") if line != "ok"]
        if not lines:
            check_text(connection)
    except sqlite3.Error as error:
        return [f"SQLite: {error}"]
    return [f"SQLite: {line}" for line in lines]


def problems_of(path: Path) -> list[str]:
    """:func:`problems` of a file, whether or not a node uses it."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        ) as connection:
            return problems(connection)
    except sqlite3.Error as error:
        return [f"SQLite: {error}"]


def last_written(path: Path) -> float:
    """When a database was last written to, in wall-clock seconds of then; 0.0 where it is not there.

    To be asked before it is opened.
    """
    times = [0.0]
    for suffix in ("", "-wal"):
        with contextlib.suppress(OSError):
            times.append(path.with_name(path.name + suffix).stat().st_mtime)
    return max(times)


def replace_damaged(
    path: Path,
    error: sqlite3.Error,
    prepare: Callable[[sqlite3.Connection], None],
    fit: Callable[[sqlite3.Connection], None],
) -> Path:
    """Put a new database in the place of a damaged one, with what that still gives; where the damaged one is now.

    ``prepare`` makes the tables of a new database, ``fit`` removes rows to which others are missing. The new one is
    whole and on disk before anything is renamed: whoever is killed meanwhile, or finds no room (OSError or
    sqlite3.Error), begins again the next time. Call :func:`finish` before a database is opened.
    """
    logger.error("%s is damaged (%s): what can be read from it goes into a new one", path, error)
    fresh = _fresh(path)
    fresh.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            prepare(connection)
            connection.execute("BEGIN IMMEDIATE")
            _salvage(path, connection)
            fit(connection)
            connection.execute("COMMIT")
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync(fresh)
    aside = _set_aside(path)
    fresh.rename(path)
    _sync(path.parent)
    return aside


def finish(path: Path) -> None:
    """Where a new database was about to take a damaged one's place, let it."""
    fresh = _fresh(path)
    if fresh.exists() and not path.exists():
        _set_aside(path)
        fresh.rename(path)
        _sync(path.parent)


def _fresh(path: Path) -> Path:
    return path.with_name(path.name + ".salvaged")


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _set_aside(path: Path) -> Path:
    """Give a database, with its log, another name; which."""
    when = time.strftime("%Y%m%dT%H%M%S")
    names = (f"{path.name}.damaged-{when}{f'.{number}' if number else ''}" for number in count())
    aside = next(place for name in names if not (place := path.with_name(name)).exists())
    # The database first: whoever is killed now finds it gone, and sets its log aside before going on.
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _salvage(damaged: Path, into: sqlite3.Connection) -> None:
    """Copy what a damaged database still gives, for each table of a new one.

    Where a page is damaged the rows behind it are looked for. Rows whose values are not of their columns' types
    are left out. Whether rows fit together is for the caller to see.
    """
    folder = damaged.with_name(damaged.name + ".salvaging")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        copy = _whole_copy(damaged, folder)
        for table in _tables(into):
            marks = ", ".join("?" * len(table.columns))
            insert = f"INSERT OR REPLACE INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"  # noqa: S608
            for row in _rows(copy, table):
                if (fit := _fitting(row, table)) is not None:
                    into.execute(insert, fit)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tables(connection: sqlite3.Connection) -> list[_Table]:
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return [_table(connection, name) for (name,) in names.fetchall()]


def _table(connection: sqlite3.Connection, name: str) -> _Table:
    columns: list[str] = []
    kinds: list[tuple[type, ...]] = []
    keys: dict[int, str] = {}
    for _, column, declared, required, _, primary in connection.execute(f"PRAGMA table_info({name})"):
        kind = _KINDS[declared]
        allowed = kind if isinstance(kind, tuple) else (kind,)
        columns.append(column)
        kinds.append(allowed if required or primary else (*allowed, type(None)))
        if primary:
            keys[primary] = column
    return _Table(name, columns, kinds, [keys[number] for number in sorted(keys)])


def _rows(path: Path, table: _Table) -> Iterator[tuple[Any, ...]]:
    """The rows from the front, past what is damaged where keys are numbers; then from the back."""
    keys = [table.columns.index(name) for name in table.keys]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        last: tuple[Any, ...] = ()
        starts: Iterator[tuple[int, ...]] = iter([()])
        while (start := next(starts, None)) is not None:
            before = last
            try:
                for row in connection.execute(_query(table, start), start):
                    last = tuple(row[key] for key in keys)
                    yield row
                break
            except sqlite3.Error:
                if last != before or not start:
                    starts = _beyond(last)
        with contextlib.suppress(sqlite3.Error):
            yield from connection.execute(_query(table, (), " DESC"))


def _query(table: _Table, start: tuple[int, ...], order: str = "") -> str:
    where = ""
    if start:
        keys = ", ".join(table.keys[: len(start)])
        where = f" WHERE ({keys}) >= ({', '.join('?' * len(start))})"
    by = ", ".join(key + order for key in table.keys)
    return f"SELECT {', '.join(table.columns)} FROM {table.name}{where} ORDER BY {by}"  # noqa: S608


def _beyond(last: tuple[Any, ...]) -> Iterator[tuple[int, ...]]:
    """Keys at growing distances behind one: the first that is not on a damaged page leads on."""
    numbers = tuple(takewhile(lambda key: isinstance(key, int), last)) or (0,)
    for length in range(len(numbers), 0, -1):
        for power in range(62):
            yield (*numbers[: length - 1], numbers[length - 1] + (1 << power))


def _fitting(row: tuple[Any, ...], table: _Table) -> tuple[Any, ...] | None:
    """The row with its texts decoded; None where a value is not what its column holds."""
    fit: list[Any] = []
    for value, kinds in zip(row, table.kinds, strict=True):
        if isinstance(value, bytes) and str in kinds:
            try:
                value = value.decode()
            except UnicodeDecodeError:
                return None
        if not isinstance(value, kinds):
            return None
        fit.append(value)
    return tuple(fit)


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
