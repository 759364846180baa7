"""Damaged files, read page by page: every row on a page that is whole comes back, and nothing else does."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.salvage import rows as rows_module
from broker.salvage.image import Image
from broker.salvage.log import read_log
from broker.salvage.pages import INTERIOR_TABLE, cells, kind_of, record
from broker.salvage.rows import copy_rows
from broker.salvage.shapes import shapes_of

SCHEMA = """
CREATE TABLE numbered (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, body BLOB NOT NULL, at REAL NOT NULL, more INTEGER);
CREATE INDEX numbered_at ON numbered (at);
CREATE TABLE named (name TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (name, number))
    WITHOUT ROWID;
CREATE TABLE pair (one INTEGER NOT NULL, other INTEGER NOT NULL, PRIMARY KEY (other, one)) WITHOUT ROWID;
CREATE INDEX pair_one ON pair (one);
"""
COLUMNS = {
    "numbered": ("id", "name", "body", "at", "more"),
    "named": ("name", "number", "body"),
    "pair": ("one", "other"),
}
TABLES = tuple(COLUMNS)
Rows = dict[str, set[tuple[Any, ...]]]


def prepare(connection: sqlite3.Connection, vacuum: bool = True) -> None:
    connection.execute(f"PRAGMA auto_vacuum = {'INCREMENTAL' if vacuum else 'NONE'}")
    # Nothing crashes here.
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(SCHEMA)


def fill(connection: sqlite3.Connection, choice: random.Random, count: int) -> Rows:
    """Rows of all sizes, of which some are deleted again, so that there are free pages with what was there; all."""
    for number in range(count):
        size = choice.choice((0, 5, 60, 300, 1500, 4070, 9000))
        body = choice.randbytes(size)
        at = choice.choice((0.0, 1.5, -3.0, 1e300, choice.random()))
        more = choice.choice((None, 0, 1, -1, 2**40, -(2**62), 200, 70000))
        name = f"{number}/" + "ä" * choice.choice((0, 3, 200))
        connection.execute(
            "INSERT INTO numbered VALUES (?, ?, ?, ?, ?)", (number * 3 - 9, name, body, at, more)
        )
        connection.execute("INSERT INTO named VALUES (?, ?, ?)", (name, choice.getrandbits(50), body))
        connection.execute("INSERT INTO pair VALUES (?, ?)", (number, choice.getrandbits(20)))
    ever = rows(connection)
    low = choice.randrange(count + 1)
    gone = (low, low + choice.randrange(count + 1))
    connection.execute("DELETE FROM numbered WHERE id / 3 BETWEEN ? AND ?", gone)
    connection.execute("DELETE FROM named WHERE CAST(name AS INTEGER) BETWEEN ? AND ?", gone)
    connection.execute("DELETE FROM pair WHERE one BETWEEN ? AND ?", gone)
    return ever


def rows(connection: sqlite3.Connection) -> Rows:
    return {table: set(connection.execute(f"SELECT * FROM {table}")) for table in TABLES}


def salvaged(path: Path, vacuum: bool = True) -> Rows:
    with closing(sqlite3.connect(":memory:")) as new:
        prepare(new, vacuum)
        copy_rows(path, new)
        assert new.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return rows(new)


def made(folder: Path, seed: int, count: int, vacuum: bool = True) -> tuple[Path, Rows, Rows]:
    """A database, what is in it, and what ever was."""
    path = folder / "some.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        prepare(connection, vacuum)
        ever = fill(connection, random.Random(seed), count)
        connection.commit()
        return path, rows(connection), ever


def places(path: Path, vacuum: bool) -> list[tuple[str, tuple[Any, ...], set[int]]]:
    """Of a sound file each row, with its table and the pages that it is on."""
    with closing(sqlite3.connect(":memory:")) as new:
        prepare(new, vacuum)
        shapes = {shape.name: shape for shape in shapes_of(new)}
    found = []
    image = Image(path, 4096, vacuum)
    names = rows_module._names(image)
    for number in range(2, image.count + 1):
        shape = shapes.get(names.get(image.top(number), ""))
        page = image.page(number)
        if shape is None or shape.is_index or kind_of(page) in (0, INTERIOR_TABLE):
            continue
        for cell in cells(page, image.usable):
            values = record(image._whole(cell))
            if shape.alias >= 0:
                values[shape.alias] = cell.rowid
            row = dict(zip(shape.columns, values, strict=True))
            used, overflow = {number}, cell.overflow
            while overflow:
                used.add(overflow)
                overflow = int.from_bytes(image.page(overflow)[:4], "big")
            found.append((shape.name, tuple(row[column] for column in COLUMNS[shape.name]), used))
    image.close()
    return found


def harm(path: Path, pages: Iterable[int], how: str, seed: int) -> None:
    data = bytearray(path.read_bytes())
    for number in pages:
        bad = random.Random(seed + number).randbytes(4096) if how == "noise" else b"\xff" * 4096
        data[(number - 1) * 4096 : number * 4096] = bad
    path.write_bytes(data)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 120),
    vacuum=st.booleans(),
    believed=st.booleans(),
    damage=st.sets(st.integers(1, 400), max_size=12),
    how=st.sampled_from(["noise", "ones", "cut"]),
)
@example(seed=1, count=100, vacuum=True, believed=True, damage=set(), how="ones")
@example(seed=1, count=100, vacuum=False, believed=False, damage=set(), how="ones")
@example(seed=2, count=100, vacuum=True, believed=True, damage={1}, how="ones")
@example(seed=2, count=100, vacuum=True, believed=True, damage={1, 3, 4, 5, 6, 7}, how="noise")
@example(seed=2, count=100, vacuum=False, believed=False, damage={1, 2, 3, 4, 5, 6, 7, 8}, how="noise")
@example(seed=3, count=100, vacuum=True, believed=True, damage={1, 2, 3, 4, 5, 6, 7, 8}, how="ones")
def test_rows_on_pages_that_are_whole_come_back_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    count: int,
    vacuum: bool,
    believed: bool,
    damage: set[int],
    how: str,
) -> None:
    path, current, ever = made(tmp_path_factory.getbasetemp(), seed, count, vacuum)
    before = places(path, vacuum)
    pages = path.stat().st_size // 4096
    damage = {1 + (number - 1) % pages for number in damage}
    if how == "cut":
        damage = set(range(max(damage, default=pages), pages + 1))
        os.truncate(path, 4096 * min(damage))
    else:
        harm(path, damage, how, seed)
    found = salvaged(path, believed)
    expected: Rows = {table: set() for table in TABLES}
    for table, row, used in before:
        if not used & damage:
            expected[table].add(row)
    # Page 1 says that page 2 says what the others are; where it is gone, whoever asks has to know.
    is_mapped = vacuum and 2 not in damage and (believed or 1 not in damage)
    for table in TABLES:
        missing = expected[table] - found[table]
        # A page of `pair` looks like one of its index: where nothing else tells, it cannot be told apart.
        assert not missing or (table == "pair" and not is_mapped), table
        is_told = is_mapped or not damage
        assert found[table] <= (current if is_told else ever)[table], f"{table}: nothing is invented"


def test_what_sqlite_reads_is_what_is_read(tmp_path: Path) -> None:
    for vacuum in (True, False):
        path, current, _ = made(tmp_path, 5, 400, vacuum)
        assert salvaged(path, vacuum) == current
        found = before_rows(places(path, vacuum))
        assert found == current


def before_rows(found: list[tuple[str, tuple[Any, ...], set[int]]]) -> Rows:
    return {table: {row for name, row, _ in found if name == table} for table in TABLES}


def test_memory_is_bounded_by_pages_not_by_rows(tmp_path: Path) -> None:
    path = tmp_path / "many.db"
    with closing(sqlite3.connect(path)) as connection:
        prepare(connection)
        connection.executemany(
            "INSERT INTO numbered VALUES (?, ?, ?, 0, NULL)",
            ((number, f"row {number}", bytes(400)) for number in range(20_000)),
        )
        connection.commit()
    harm(path, [1, 50, 500], "noise", 1)
    with closing(sqlite3.connect(tmp_path / "new.db")) as new:
        prepare(new)
        tracemalloc.start()
        copy_rows(path, new)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert new.execute("SELECT count(*) > 19900 FROM numbered").fetchone() == (1,)
    assert path.stat().st_size > 8_000_000
    assert peak < 1_000_000


# -- logs ------------------------------------------------------------------------------------------------


class Writing:
    """A database that is written to, whose files are copied as a crash would leave them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 0"):
            self.connection.execute(f"PRAGMA {pragma}")

    def commit(self, *numbers: int, size: int = 100) -> None:
        self.connection.execute("BEGIN")
        self.connection.executemany(
            "INSERT INTO numbered VALUES (?, ?, ?, 0, NULL)",
            [(number, f"row {number}", bytes(size)) for number in numbers],
        )
        self.connection.execute("COMMIT")

    def crash(self, to: Path) -> Path:
        """The files as they are now, under another name."""
        for part in ("", "-wal"):
            to.with_name(to.name + part).write_bytes(self.path.with_name(self.path.name + part).read_bytes())
        return to

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Writing]:
    with closing(sqlite3.connect(tmp_path / "written.db")) as connection:
        prepare(connection)
    with closing(Writing(tmp_path / "written.db")) as found:
        yield found


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def damaged_at(path: Path) -> int:
    with log_of(path).open("rb") as file:
        return read_log(file).damaged_at


def spoil(path: Path, at: int, size: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + size] = bytes(byte ^ 0x55 for byte in data[at : at + size])
    path.write_bytes(data)


def commits_of(path: Path) -> list[int]:
    """Where the frames are that end a transaction."""
    data = path.read_bytes()
    return [at for at in range(32, len(data), 4120) if any(data[at + 4 : at + 8])]


def numbers_in(found: Rows) -> list[int]:
    return sorted(row[0] for row in found["numbered"])


def test_log_is_read_as_sqlite_reads_it(writing: Writing, tmp_path: Path) -> None:
    for first in range(0, 300, 30):
        writing.commit(*range(first, first + 30), size=first * 20)
    writing.connection.execute("DELETE FROM numbered WHERE id BETWEEN 40 AND 100")
    path = writing.crash(tmp_path / "copy.db")
    assert damaged_at(path) == -1
    assert salvaged(path) == rows(writing.connection)
    writing.connection.execute("PRAGMA wal_checkpoint(RESTART)")
    writing.commit(1000)
    path = writing.crash(path)
    assert damaged_at(path) == -1, "what is there of before the last checkpoint is not looked at"
    assert salvaged(path) == rows(writing.connection)


@pytest.mark.parametrize("part", [0, 8, 16, 24, 3000])
def test_damage_in_the_middle_of_a_log_is_found(writing: Writing, tmp_path: Path, part: int) -> None:
    """``part`` is the place in the frame: its page's number, salt, checksum, or what is on the page."""
    for number in range(10):
        writing.commit(number)
    path = writing.crash(tmp_path / "copy.db")
    whole = log_of(path).read_bytes()
    ends = commits_of(log_of(path))
    for at in range(32, len(whole), 4120):
        log_of(path).write_bytes(whole)
        spoil(log_of(path), at + part)
        # A checksum that is bad itself makes the next frame look bad, too.
        behind = sum(end > at + (4120 if part == 16 else 0) for end in ends)
        assert (damaged_at(path) > 0) == (behind > 1)
        if behind > 1:
            assert numbers_in(salvaged(path)) == list(range(10)), "the pages were written again later"


def test_damaged_beginning_of_a_log_is_found(writing: Writing, tmp_path: Path) -> None:
    for number in range(10):
        writing.commit(number)
    for size in (1, 32, 4096, 9000):
        path = writing.crash(tmp_path / "copy.db")
        spoil(log_of(path), 12, size)
        assert damaged_at(path) == 0
        assert numbers_in(salvaged(path)) == list(range(10))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_torn_ends_are_no_damage(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Power cuts, one after the other: each leaves what was committed, and any sectors of the last transaction."""
    choice = random.Random(seed)
    folder = tmp_path_factory.mktemp("torn")
    with closing(sqlite3.connect(folder / "0.db")) as connection:
        prepare(connection)
    number = 0
    for crash in range(4):
        with closing(Writing(folder / f"{crash}.db")) as writing:
            for _ in range(choice.randrange(3)):
                writing.commit(number)
                number += 1
            expected = rows(writing.connection)
            before = log_of(writing.path).read_bytes() if log_of(writing.path).exists() else b""
            count = choice.choice((1, 5, 40))
            writing.commit(*range(1000 * (crash + 1), 1000 * (crash + 1) + count), size=800)
            path = writing.crash(folder / f"{crash + 1}.db")
        after = log_of(path).read_bytes()
        before = before.ljust(len(after), b"\0")
        log_of(path).write_bytes(
            b"".join(
                (after if choice.random() < 0.7 else before)[at : at + 512]
                for at in range(0, len(after), 512)
            )
        )
        assert damaged_at(path) == -1
        found = salvaged(path)
        for part in ("", "-wal"):
            shutil.copyfile(path.with_name(path.name + part), folder / f"looked-at{part}")
        with closing(sqlite3.connect(folder / "looked-at")) as connection:
            assert found == rows(connection)
            assert found["numbered"] >= expected["numbered"]


def test_log_without_its_database_gives_what_it_has(writing: Writing, tmp_path: Path) -> None:
    for number in range(50):
        writing.commit(number)
    path = writing.crash(tmp_path / "copy.db")
    path.unlink()
    assert numbers_in(salvaged(path)) == list(range(50))
