"""Whether a database is sound: its pages, its tables, and what is in them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from broker.salvage.shapes import Kinds, Shape, shapes_of, typed_wrongly

_DAMAGE = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    # A statement that cannot be: tables or columns are missing, or there already. All statements are ours.
    sqlite3.SQLITE_ERROR,
)

Prepare = Callable[[sqlite3.Connection], None]
"""Makes the tables of a new database."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file itself is bad, not that it cannot be reached, or is full."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    # Python's own, of texts that are none, and ours have no code.
    return isinstance(error, sqlite3.DatabaseError) and (code is None or code & 0xFF in _DAMAGE)


def check(connection: sqlite3.Connection) -> None:
    """sqlite3.DatabaseError where pages are damaged."""
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError(f"database disk image is malformed: {state}")


def check_tables(connection: sqlite3.Connection, prepare: Prepare) -> None:
    """sqlite3.DatabaseError where a table or column is missing or other than ``prepare`` makes it, or a value is of
    a type that its column does not take. A database without any table is new, and sound.
    """
    found = _tables(connection)
    if not found:
        return
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        prepare(fresh)
        expected = _tables(fresh)
    for name, shape in expected.items():
        if name not in found:
            raise sqlite3.DatabaseError(f"its table {name} is missing")
        if found[name]._replace(root=0) != shape._replace(root=0):
            raise sqlite3.DatabaseError(f"its table {name} has not the columns that it should have")
        if count := _wrong_types(connection, shape):
            raise sqlite3.DatabaseError(f"{count} rows of its table {name} have values of a wrong type")


def _tables(connection: sqlite3.Connection) -> dict[str, Shape]:
    return {shape.name: shape for shape in shapes_of(connection) if not shape.is_index}


def _wrong_types(connection: sqlite3.Connection, table: Shape) -> int:
    query = f"SELECT count(*) FROM {table.name} WHERE {typed_wrongly(table)}"  # noqa: S608 - names of the schema
    return int(connection.execute(query).fetchone()[0])


def check_text(connection: sqlite3.Connection, *names: str) -> None:
    """sqlite3.OperationalError where a text in these tables, or any, is none: :func:`check` does not look at it."""
    for table in _tables(connection).values():
        columns = [name for name, kinds in zip(table.columns, table.kinds, strict=True) if str in kinds]
        if columns and (not names or table.name in names):
            for _ in connection.execute(f"SELECT {', '.join(columns)} FROM {table.name}"):  # noqa: S608
                pass


def kinds_of(connection: sqlite3.Connection) -> dict[str, dict[str, Kinds]]:
    """Which types of values each column of each table takes."""
    return {
        name: dict(zip(table.columns, table.kinds, strict=True))
        for name, table in _tables(connection).items()
    }


def problems(connection: sqlite3.Connection, prepare: Prepare) -> list[str]:
    """What is wrong with a database, one line each; none where it is sound. Reads all of it."""
    try:
        lines = [line for (line,) in connection.execute("PRAGMA integrity_check(20)") if line != "ok"]
        if not lines:
            check_tables(connection, prepare)
            check_text(connection)
    except sqlite3.Error as error:
        return [f"SQLite: {error}"]
    return [f"SQLite: {line}" for line in lines]


def problems_of(path: Path, prepare: Prepare) -> list[str]:
    """:func:`problems` of a file, whether or not a node uses it."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        ) as connection:
            return problems(connection, prepare)
    except sqlite3.Error as error:
        return [f"SQLite: {error}"]
