"""What tables and indexes are made of: for whoever looks at values, and at entries in the file itself."""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

Kinds = tuple[type, ...]

_KINDS: dict[str, Kinds] = {"TEXT": (str,), "BLOB": (bytes,), "INTEGER": (int,), "REAL": (float, int)}
_NAMES: dict[type, str] = {
    str: "text",
    bytes: "blob",
    int: "integer",
    float: "real",
    type(None): "null",
}
"""What SQLite's `typeof` says."""


class Shape(NamedTuple):
    """A table, or an index, whose entries repeat what its table has."""

    name: str
    columns: tuple[str, ...]
    """In the order in which an entry has them, which for a table without rowid begins with its primary key."""
    kinds: tuple[Kinds, ...]
    """The types of values that each takes."""
    root: int
    """The page at which it begins."""
    has_rowid: bool
    """Whether entries have a number of their own."""
    alias: int
    """Which of the columns is that number, and empty in the entry; -1 for none."""
    is_index: bool
    later: tuple[Any, ...] = ()
    """The values that the last columns have in entries that are older than these columns, and end before them."""

    def fits(self, values: list[Any]) -> bool:
        """Whether an entry may be one of these."""
        return len(values) == len(self.kinds) and all(map(isinstance, values, self.kinds))

    def whole(self, values: list[Any]) -> list[Any]:
        """An entry's values, with those of the columns that the table got after it was written."""
        missing = len(self.kinds) - len(values)
        return [*values, *self.later[-missing:]] if 0 < missing <= len(self.later) else values


def shapes_of(connection: sqlite3.Connection) -> list[Shape]:
    """All tables and indexes of a database."""
    query = "SELECT type, name, tbl_name, rootpage FROM sqlite_schema WHERE rootpage > 0 ORDER BY rowid"
    found: list[Shape] = []
    for kind, name, table, root in connection.execute(query).fetchall():
        if kind == "index":
            found.append(_index(connection, name, table, root))
        elif not name.startswith("sqlite_"):
            found.append(_table(connection, name, root))
    return found


def _table(connection: sqlite3.Connection, name: str, root: int) -> Shape:
    columns = _columns(connection, name)
    keys = sorted((primary, column) for column, (_, primary) in columns.items() if primary)
    (without_rowid,) = connection.execute(
        "SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (name,)
    ).fetchone()
    names = list(columns)
    alias = -1
    if without_rowid:
        first = [column for _, column in keys]
        names = first + [column for column in names if column not in first]
    elif len(keys) == 1 and columns[keys[0][1]][0] == (int,):
        alias = names.index(keys[0][1])
    kinds = tuple(columns[column][0] for column in names)
    later = _defaults(connection, name, names)
    return Shape(name, tuple(names), kinds, root, not without_rowid, alias, is_index=False, later=later)


def _index(connection: sqlite3.Connection, name: str, table: str, root: int) -> Shape:
    columns = _columns(connection, table)
    entries = connection.execute("SELECT name FROM pragma_index_xinfo(?) ORDER BY seqno", (name,))
    names = [column or "rowid" for (column,) in entries]
    kinds = tuple(columns[column][0] if column in columns else (int,) for column in names)
    return Shape(name, tuple(names), kinds, root, has_rowid=False, alias=-1, is_index=True)


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, tuple[Kinds, int]]:
    """For each column which types of values it takes, and its place in the primary key, 0 for none."""
    found: dict[str, tuple[Kinds, int]] = {}
    for _, column, declared, required, _, primary in connection.execute(f"PRAGMA table_info({table})"):
        kinds = _KINDS.get(declared, tuple(_NAMES))
        found[column] = (kinds if required or primary else (*kinds, type(None)), primary)
    return found


def _defaults(connection: sqlite3.Connection, table: str, columns: list[str]) -> tuple[Any, ...]:
    """The defaults of the table's last columns, from the first behind which all have one."""
    found: list[Any] = []
    defaults = {
        name: default for _, name, _, _, default, _ in connection.execute(f"PRAGMA table_info({table})")
    }
    for column in reversed(columns):
        if defaults[column] is None:
            break
        found[:0] = connection.execute(f"SELECT {defaults[column]}").fetchone()
    return tuple(found)


def typed_wrongly(shape: Shape) -> str:
    """The condition under which a row of a table has a value that its column does not take."""
    conditions = []
    for column, kinds in zip(shape.columns, shape.kinds, strict=True):
        allowed = ", ".join(f"'{_NAMES[kind]}'" for kind in kinds)
        conditions.append(f"typeof({column}) NOT IN ({allowed})")
    return " OR ".join(conditions)
