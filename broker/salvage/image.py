"""A damaged database page by page: the file, and over it what its write-ahead log has."""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broker.salvage.log import Log, read_log
from broker.salvage.pages import (
    INTERIOR_INDEX,
    INTERIOR_TABLE,
    LEAF_TABLE,
    Cell,
    cells,
    kind_of,
    record,
    rightmost,
)

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_PAGE_SIZES = [1 << power for power in range(9, 16)]
"""In bytes, but for the largest, which has a number of its own."""
_LOCKED = 1 << 30
"""The byte of the file that locks are on: its page is never used."""
_MAP_ENTRY = 5
_MAP_ROOT, _MAP_FREE, _MAP_TREE = 1, 2, 5
_MAP_KINDS = range(1, 6)
_APART = 0xFFFFFFFF
"""The parent of pages that belong to no tree."""
_DEEP = 40

Entry = tuple[int, list[Any]]
"""What a page has: its number where it is of a table with such, else 0; its values."""


class Image:
    """The pages of a file and its log; those that cannot be read are empty. To be closed.

    ``page_size`` and ``is_mapped`` (whether there are pages that say what others are, as with `auto_vacuum`) are
    believed where the file does not say.
    """

    def __init__(self, path: Path, page_size: int, is_mapped: bool) -> None:
        self._files = [_opened(path), _opened(path.with_name(path.name + "-wal"))]
        self._log = Log(0, 0, {}, -1)
        self._last = (0, b"")
        """The page that was read last, which is asked for again."""
        if (number := self._files[1]) is not None:
            with os.fdopen(os.dup(number), "rb") as log:
                self._log = read_log(log)
        self._page_size = self._find_page_size(page_size)
        size = os.fstat(self._files[0]).st_size if self._files[0] is not None else 0
        self.count = self._log.size or size // self._page_size
        header = self.page(1)
        self._has_header = header.startswith(_MAGIC)
        if self._has_header:
            is_mapped = any(header[52:56])
        self.usable = self._page_size - (header[20] if self._has_header else 0)
        self._parents = self._find_parents(is_mapped)
        self.is_like_new = self._has_header or is_mapped == (self.count > 1 and self._parents[2] == _APART)
        """Whether trees may begin at the same pages as in a new database: without the first page a guess."""

    def _find_page_size(self, usual: int) -> int:
        header = self._read(0, 0, _HEADER)
        if header.startswith(_MAGIC):
            size = int.from_bytes(header[16:18], "big")
            return {1: 1 << 16}.get(size, size if size in _PAGE_SIZES else usual)
        return self._log.page_size if self._log.pages else usual

    def close(self) -> None:
        """Close the files."""
        for number in self._files:
            if number is not None:
                os.close(number)

    def _read(self, file: int, at: int, size: int) -> bytes:
        number = self._files[file]
        if number is None:
            return b""
        try:
            return os.pread(number, size, at)
        except OSError:
            # A medium that has gone bad does not give this part.
            return b""

    def page(self, number: int) -> bytes:
        """A page; empty where it cannot be had."""
        if self._last[0] == number:
            return self._last[1]
        at = self._log.pages.get(number)
        if at is not None:
            data = self._read(1, at, self._page_size)
        else:
            data = self._read(0, (number - 1) * self._page_size, self._page_size)
        data = data if len(data) == self._page_size else b""
        self._last = (number, data)
        return data

    # -- which tree a page is of -------------------------------------------------------------------------

    def top(self, number: int) -> int:
        """The uppermost page that is known above one: the root of its tree where nothing is damaged between.

        0 for a page that is of no tree.
        """
        for _ in range(_DEEP):
            parent = self._parents[number]
            if parent == _APART:
                return 0
            if not parent:
                break
            number = parent
        return number

    def _find_parents(self, is_mapped: bool) -> array[int]:
        parents = array("I", bytes(4 * (self.count + 1)))
        if not is_mapped:
            for number in self._free():
                parents[number] = _APART
        for number in range(1 if self._has_header else 2, self.count + 1):
            if parents[number] != _APART:
                for child in self._children(number):
                    # One that is claimed by two is left to what is on it.
                    parents[child] = 0 if parents[child] else number
        if is_mapped:
            self._read_maps(parents)
        return parents

    def _children(self, number: int) -> Iterator[int]:
        page, start = self.page(number), _HEADER if number == 1 else 0
        if kind_of(page, start) in (INTERIOR_INDEX, INTERIOR_TABLE):
            found = [cell.child for cell in cells(page, self.usable, start)]
            yield from (child for child in (*found, rightmost(page, start)) if 1 < child <= self.count)

    def _read_maps(self, parents: array[int]) -> None:
        """What the pages say that know it of others has more weight than what is found from above."""
        step = self.usable // _MAP_ENTRY + 1
        locked = _LOCKED // self._page_size + 1
        for place in range(2, self.count + 1, step):
            at = place + (place == locked)
            page = self.page(at)
            covered = range(at + 1, min(place + step, self.count + 1))
            entries = [
                (page[offset], int.from_bytes(page[offset + 1 : offset + _MAP_ENTRY], "big"))
                for number in covered
                if len(page) >= (offset := _MAP_ENTRY * (number - at - 1)) + _MAP_ENTRY
            ]
            # A page of which a part is wrong is not believed at all.
            if len(entries) == len(covered) and all(
                number == locked or (kind in _MAP_KINDS and (0 < parent <= self.count) == (kind > _MAP_FREE))
                for number, (kind, parent) in zip(covered, entries, strict=True)
            ):
                parents[at] = _APART
                for number, (kind, parent) in zip(covered, entries, strict=True):
                    if kind == _MAP_TREE:
                        parents[number] = parent
                    else:
                        parents[number] = 0 if kind == _MAP_ROOT else _APART

    def _free(self) -> Iterator[int]:
        """Pages that hold nothing any more, as far as the list of them can be followed."""
        trunk = int.from_bytes(self.page(1)[32:36], "big") if self._has_header else 0
        for _ in range(self.count):
            page = self.page(trunk) if 1 < trunk <= self.count else b""
            if not page:
                return
            yield trunk
            trunk, leaves = (int.from_bytes(page[at : at + 4], "big") for at in (0, 4))
            for at in range(8, min(8 + 4 * leaves, self.usable), 4):
                if 1 < (leaf := int.from_bytes(page[at : at + 4], "big")) <= self.count:
                    yield leaf

    # -- what is on a page -------------------------------------------------------------------------------

    def entries(self, number: int) -> Iterator[Entry]:
        """What a page has that can be read."""
        page, start = self.page(number), _HEADER if number == 1 else 0
        if kind_of(page, start) not in (0, INTERIOR_TABLE):
            for cell in cells(page, self.usable, start):
                with contextlib.suppress(ValueError, IndexError):
                    yield cell.rowid, record(self._whole(cell))

    def has_rowids(self, number: int) -> bool:
        """Whether a page is one of a table with row numbers."""
        return kind_of(self.page(number), _HEADER if number == 1 else 0) == LEAF_TABLE

    def _whole(self, cell: Cell) -> bytes:
        """An entry's record with what of it is on other pages; ValueError where that cannot be had."""
        if not cell.overflow:
            return cell.local
        parts, missing, number = [cell.local], cell.size - len(cell.local), cell.overflow
        while missing > 0:
            page = self.page(number) if 1 < number <= self.count else b""
            if not page:
                raise ValueError("the entry is not whole")
            number = int.from_bytes(page[:4], "big")
            parts.append(page[4 : min(self.usable, 4 + missing)])
            missing -= len(parts[-1])
        if number:
            raise ValueError("the entry goes on beyond its end")
        return b"".join(parts)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
