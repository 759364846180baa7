"""The rows that a damaged database still gives, and to which tables they belong."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from broker.salvage.image import Entry, Image
from broker.salvage.shapes import Shape, shapes_of

_SCHEMA = 1
"""The page at which the tables' names are."""


class Found(NamedTuple):
    """What one page gives."""

    table: Shape
    rows: list[tuple[Any, ...]]
    is_sure: bool
    """Whether the page is known to be one of this table now; else it looks like one, and may be older."""


def copy_rows(path: Path, into: sqlite3.Connection) -> None:
    """Copy all rows that can be read from a damaged database into the tables of a new one that are called as theirs.

    Each page is read by itself, so that no damage hides what is elsewhere; memory is bounded by one page and its
    records, and four bytes a page. Rows whose values are not of their columns' types are left out. Whether rows fit
    together is for the caller to see. sqlite3.Error or OSError where they cannot be written.
    """
    (page_size,) = into.execute("PRAGMA page_size").fetchone()
    (vacuum,) = into.execute("PRAGMA auto_vacuum").fetchone()
    image = Image(path, page_size, bool(vacuum))
    try:
        for table, rows, is_sure in found_in(image, shapes_of(into)):
            marks = ", ".join("?" * len(table.columns))
            into.executemany(
                f"INSERT OR {'REPLACE' if is_sure else 'IGNORE'} INTO {table.name}"  # noqa: S608 - of the schema
                f" ({', '.join(table.columns)}) VALUES ({marks})",
                rows,
            )
    finally:
        image.close()


def found_in(image: Image, shapes: list[Shape]) -> Iterator[Found]:
    """What each page gives."""
    names = _names(image)
    by_name = {shape.name: shape for shape in shapes}
    for number in range(_SCHEMA + 1, image.count + 1):
        top = image.top(number)
        if top in (0, _SCHEMA):
            continue
        has_rowids = image.has_rowids(number)
        if top in names:
            shape = by_name.get(names[top])
        else:
            shape = _likely(shapes, has_rowids, image.entries(number), top if image.is_like_new else 0)
        if shape is not None and not shape.is_index and shape.has_rowid == has_rowids:
            rows = (_row(shape, rowid, values) for rowid, values in image.entries(number))
            yield Found(shape, [row for row in rows if row is not None], top in names)


def _names(image: Image) -> dict[int, str]:
    """The names of tables and indexes by their roots, as far as they can be read."""
    found: dict[int, str] = {}
    for number in range(_SCHEMA, image.count + 1):
        if image.top(number) == _SCHEMA:
            for _, values in image.entries(number):
                match values:
                    case ["table" | "index", str(name), str(), int(root), *_]:
                        found[root] = name
    return found


def _likely(shapes: list[Shape], has_rowids: bool, entries: Iterable[Entry], top: int) -> Shape | None:
    """What a page looks like of which nothing is known; None where it looks like nothing, or like two.

    Where it looks like two, it is the one that begins at ``top`` in a new database.
    """
    found = list(entries)
    fitting = {
        shape.name: sum(_row(shape, *entry) is not None for entry in found)
        for shape in shapes
        if shape.has_rowid == has_rowids
    }
    most = max(fitting.values(), default=0)
    likely = [shape for shape in shapes if most and fitting.get(shape.name) == most]
    if len(likely) > 1:
        likely = [shape for shape in likely if shape.root == top]
    return likely[0] if len(likely) == 1 else None


def _row(shape: Shape, rowid: int, values: list[Any]) -> tuple[Any, ...] | None:
    """An entry's values as a row of the table; None where it is none."""
    values = shape.whole(values)
    if shape.alias >= 0:
        if len(values) <= shape.alias or values[shape.alias] is not None:
            return None
        values = [*values]
        values[shape.alias] = rowid
    return tuple(values) if shape.fits(values) else None
