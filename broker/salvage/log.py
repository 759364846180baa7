"""SQLite's write-ahead log, read without SQLite: which pages it has, and whether its end is torn or its middle bad.

The format is that of https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import BinaryIO, NamedTuple

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = {0x377F0682: "little", 0x377F0683: "big"}
"""The byte order of checksums."""
_USUAL = 4096
_TORN = 1
"""Commits that a power cut may leave behind a frame that it tore off: the one that was not acknowledged."""

_Sums = tuple[int, int]


class Log(NamedTuple):
    """What a log gives."""

    page_size: int
    """In bytes; 4096 where the log does not say."""
    size: int
    """Pages of the database as of the last commit; 0 where there is none."""
    pages: dict[int, int]
    """Where in the log each page is that it has."""
    damaged_at: int
    """The place of the first frame that is bad although what came later was committed; -1 where there is none."""


def read_log(file: BinaryIO) -> Log:
    """Everything up to the last commit.

    SQLite reads up to the first frame that does not fit, for there a crash tore off what was being written. But with
    `synchronous = FULL` each transaction is on disk before the next begins: two that follow each other soundly
    behind such a frame mean that it was sound, too. Frames that an earlier crash left there fit each other up to
    one commit at most.
    """
    page_size, salts, sums, order = _read_header(file)
    pages: dict[int, int] = {}
    size, bad_at, damaged_at = 0, -1 if salts else 0, -1
    run: dict[int, int] = {}
    """Frames behind a bad one that fit each other, up to their last commit."""
    pending: dict[int, int] = {}
    commits = 0
    while (
        len(head := file.read(_FRAME.size)) == _FRAME.size and len(data := file.read(page_size)) == page_size
    ):
        at = file.tell() - page_size
        number, committed, salt_1, salt_2, *found = _FRAME.unpack(head)
        expected, sums = sums, (found[0], found[1])
        is_same_age = salts in (None, (salt_1, salt_2)) and number > 0
        if not is_same_age or _checksum(data, _checksum(head[:8], expected, order), order) != sums:
            bad_at = at if bad_at < 0 else bad_at
            run, pending, commits = {}, {}, 0
            continue
        salts = (salt_1, salt_2)
        pending[number] = at
        if committed:
            run |= pending
            pending = {}
            commits += 1
            if bad_at < 0 or commits > _TORN:
                pages |= run
                run, size = {}, committed
                damaged_at = bad_at
    return Log(page_size, size, pages, damaged_at)


def _read_header(file: BinaryIO) -> tuple[int, _Sums | None, _Sums, str]:
    """Page size, salts (None where the header is bad), checksums, and their byte order."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return _USUAL, None, (0, 0), sys.byteorder
    magic, _, page_size, _, *salts, sum_1, sum_2 = _HEADER.unpack(header)
    order = _MAGIC.get(magic, sys.byteorder)
    sums = (sum_1, sum_2)
    if magic not in _MAGIC or _checksum(header[:24], (0, 0), order) != sums:
        return _USUAL, None, sums, sys.byteorder
    return page_size, (salts[0], salts[1]), sums, order


def _checksum(data: bytes, before: _Sums, order: str) -> _Sums:
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = before
    numbers = iter(words)
    for even, odd in zip(numbers, numbers, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
