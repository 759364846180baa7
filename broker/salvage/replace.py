"""A damaged database makes place for a new one with what it still gives."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeVar

from broker.salvage.log import read_log
from broker.salvage.rows import copy_rows
from broker.salvage.soundness import Prepare, is_damage

logger = logging.getLogger("geomq.salvage")

T = TypeVar("T")

_PARTS = ("", "-wal", "-shm")


def last_written(path: Path) -> float:
    """When a database was last written to, in wall-clock seconds of then; 0.0 where it is not there.

    To be asked before it is opened.
    """
    times = [0.0]
    for part in ("", "-wal"):
        with contextlib.suppress(OSError):
            times.append(_part(path, part).stat().st_mtime)
    return max(times)


def open_sound(
    path: Path, opening: Callable[[], T], prepare: Prepare, fit: Prepare, is_synced: bool = True
) -> tuple[T, Path | None]:
    """What ``opening`` gives; where that, or a look beforehand, finds damage: with a new database in the place of the
    damaged one, and where that is now.

    ``opening`` raises sqlite3.Error where it finds damage, and leaves nothing open then. ``prepare`` makes the tables
    of a new database, ``fit`` removes rows to which others are missing. ``is_synced`` says whether each commit is on
    disk before the next begins (`synchronous = FULL`). sqlite3.Error where it cannot be opened for another reason,
    OSError where there is no new one to be had.
    """
    _finish(path)
    try:
        _look(path, is_synced)
        return opening(), None
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        aside = _replace(path, error, prepare, fit)
    return opening(), aside


def _look(path: Path, is_synced: bool) -> None:
    """sqlite3.DatabaseError where there is damage that SQLite would pass over without a word, and remove."""
    main, log = _size(path), _size(_part(path, "-wal"))
    if log:
        if problem := _log_problem(path, is_synced):
            raise sqlite3.DatabaseError(problem)
    elif main == 0:
        logger.error("%s was there, and is empty: what it held is lost", path)
    elif main is None and log is not None:
        logger.error("%s is missing, though it has a log, which is empty: what it held is lost", path)


def file_problems(path: Path, is_synced: bool) -> list[str]:
    """What is wrong with a database that SQLite would not tell, one line each; a node may be writing to it."""
    if not _size(_part(path, "-wal")):
        return ["it is empty"] if _size(path) == 0 else []
    # A log that is being written may look bad, but not in the same place twice.
    found = {_log_problem(path, is_synced) for _ in range(2)}
    return [problem for problem in found if problem and len(found) == 1]


def _log_problem(path: Path, is_synced: bool) -> str:
    """What is wrong with a log that is not empty; nothing where nothing is."""
    if not _size(path):
        return f"it is {'missing' if _size(path) is None else 'empty'}, though it has a log"
    if is_synced:
        with _part(path, "-wal").open("rb") as file:
            at = read_log(file).damaged_at
        if at >= 0:
            return f"its write-ahead log is bad at byte {at}, before what was committed later"
    return ""


def _replace(path: Path, error: sqlite3.Error, prepare: Prepare, fit: Prepare) -> Path:
    """Put a new database in the place of a damaged one, with what that still gives; where the damaged one is now.

    The new one has a name that :func:`_finish` knows only when it is whole and on disk: whoever is killed meanwhile,
    or finds no room, begins again the next time.
    """
    logger.error("%s is damaged (%s): what can be read from it goes into a new one", path, error)
    unfinished = _part(path, ".salvaging")
    _remove(unfinished)
    try:
        with contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
            prepare(connection)
            connection.execute("BEGIN IMMEDIATE")
            copy_rows(path, connection)
            fit(connection)
            connection.execute("COMMIT")
        _sync(unfinished)
        unfinished.rename(_part(path, ".salvaged"))
    except (OSError, sqlite3.Error) as why:
        _remove(unfinished)
        raise OSError(
            f"it is damaged ({error}), and a new one with what can be read from it cannot be made: {why};"
            " nothing was changed"
        ) from None
    _sync(path.parent)
    return _take_place(path)


def _finish(path: Path) -> None:
    """Where a new database was about to take a damaged one's place, let it."""
    if _part(path, ".salvaged").exists():
        if path.exists():
            # The damaged one still is: it is looked at again, or was replaced by hand.
            _part(path, ".salvaged").unlink()
        else:
            _take_place(path)


def _take_place(path: Path) -> Path:
    aside = _set_aside(path)
    _part(path, ".salvaged").rename(path)
    _sync(path.parent)
    return aside


def _set_aside(path: Path) -> Path:
    """Give a database, with its log, another name; that of what there is of it."""
    when = time.strftime("%Y%m%dT%H%M%S")
    places = (_part(path, f".damaged-{when}{f'.{number}' if number else ''}") for number in count())
    aside = next(place for place in places if not any(_part(place, part).exists() for part in _PARTS))
    moved: list[Path] = []
    # The database first: whoever is killed now finds it gone, and sets its log aside before going on.
    for part in _PARTS:
        with contextlib.suppress(FileNotFoundError):
            moved.append(_part(path, part).rename(_part(aside, part)))
    return moved[0] if moved else aside


def _part(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int | None:
    """In bytes; None where there is no such file."""
    return path.stat().st_size if path.is_file() else None


def _remove(path: Path) -> None:
    for suffix in ("", "-journal"):
        _part(path, suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
