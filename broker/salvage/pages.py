"""Pages of an SQLite file, read without SQLite: what each holds, however damaged its neighbours are.

The format is that of https://www.sqlite.org/fileformat2.html. Bytes in, values out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE = 2, 5, 10, 13

_REAL, _ZERO, _BYTES = 7, 8, 12
"""Serial types: a floating point number, the number 0 (then 1), bytes or text from here on."""
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Bytes of integers by their serial type."""
_SIZES = _INTEGERS | {0: 0, _REAL: 8, _ZERO: 0, _ZERO + 1: 0}


class Cell(NamedTuple):
    """An entry of a page."""

    child: int
    """The page to its left; 0 on leaves."""
    rowid: int
    """0 in indexes."""
    size: int
    """Bytes of the whole record; 0 where the page is one of a table that only leads on."""
    local: bytes
    """The part of the record that is on this page."""
    overflow: int
    """The page on which it goes on; 0 where this is all."""


def kind_of(page: bytes, start: int = 0) -> int:
    """Which kind of a page of a tree this is; 0 for none. ``start`` is where its header begins."""
    kind = page[start] if len(page) > start else 0
    return kind if kind in (INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE) else 0


def rightmost(page: bytes, start: int = 0) -> int:
    """The last child of a page that is no leaf."""
    return int.from_bytes(page[start + 8 : start + 12], "big")


def cells(page: bytes, usable: int, start: int = 0) -> Iterator[Cell]:
    """The entries of a page of a tree that can be understood; ``usable`` bytes of it are SQLite's."""
    kind = page[start]
    first = start + (12 if kind in (INTERIOR_INDEX, INTERIOR_TABLE) else 8)
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    end = first + 2 * count
    if end > usable:
        return
    for (at,) in struct.iter_unpack(">H", page[first:end]):
        if end <= at < usable:
            try:
                yield _cell(page, usable, kind, at)
            except (IndexError, ValueError):
                continue


def _cell(page: bytes, usable: int, kind: int, at: int) -> Cell:
    child = rowid = 0
    if kind in (INTERIOR_INDEX, INTERIOR_TABLE):
        child = int.from_bytes(page[at : at + 4], "big")
        at += 4
        if kind == INTERIOR_TABLE:
            return Cell(child, varint(page, at)[0], 0, b"", 0)
    size, at = varint(page, at)
    if kind == LEAF_TABLE:
        rowid, at = varint(page, at)
    here = _local(size, usable, kind)
    end = at + here
    if not size > 0 or end + (4 if here < size else 0) > usable:
        raise ValueError("the entry goes beyond the page")
    overflow = int.from_bytes(page[end : end + 4], "big") if here < size else 0
    return Cell(child, rowid, size, page[at:end], overflow)


def _local(size: int, usable: int, kind: int) -> int:
    """How many bytes of a record are on the page itself."""
    most = usable - 35 if kind == LEAF_TABLE else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (usable - 4)
    return wanted if wanted <= most else least


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A signed number of one to nine bytes, and where the next begins; IndexError where the data ends before."""
    value = 0
    for end in range(at, at + 8):
        byte = data[end]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, end + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64 if value >> 63 else 0), at + 9


def record(data: bytes) -> list[Any]:
    """The values of a record; ValueError or IndexError where it is none."""
    end, at = varint(data, 0)
    body = end
    values: list[Any] = []
    while at < end:
        kind, at = (data[at], at + 1) if data[at] < 0x80 else varint(data, at)
        size = (kind - _BYTES) >> 1 if kind >= _BYTES else _SIZES.get(kind, -1)
        if size < 0 or body + size > len(data):
            raise ValueError("there is no such type, or less than the value")
        values.append(_value(kind, data[body : body + size]))
        body += size
    if at != end or body != len(data):
        raise ValueError("the record is not as long as it says")
    return values


def _value(kind: int, data: bytes) -> Any:
    if kind >= _BYTES:
        return data.decode() if kind & 1 else data
    if kind in _INTEGERS:
        return int.from_bytes(data, "big", signed=True)
    if kind == _REAL:
        (number,) = struct.unpack(">d", data)
        return None if number != number else number  # noqa: PLR0124 - not a number is null to SQLite
    return kind - _ZERO if kind else None
