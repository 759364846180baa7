"""What modules remember, on disk: one SQLite file, written by a thread about a second later.

A crash loses what was remembered in the last second; the file itself stays whole.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path

from broker.salvage import check, check_tables, open_sound
from plugins.host.state import State, StateChange

logger = logging.getLogger("geomq.plugins")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS state (
    entry TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, until REAL NOT NULL, PRIMARY KEY (entry, key));
"""
_FORMAT = 1
_WRITE_SECONDS = 1.0
_CLOSE_SECONDS = 10.0


class StateError(RuntimeError):
    """Why the file cannot be used, in words for the operator."""


class StateStore:
    """The states of all entries, by name. StateError where the file cannot be had.

    In memory lifetimes are of the monotonic clock, on disk of the wall clock: they go on while the node is down.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._states: dict[str, State] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._told = ""
        try:
            self._db = self._open()
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"what modules remember, {path}, cannot be opened: {error}") from None
        self._thread = threading.Thread(target=self._run, name="geomq-plugin-state", daemon=True)
        self._thread.start()

    def open(self, entry: str) -> State:
        """The state of an entry, as it was left; the same one each time."""
        with self._lock:
            state = self._states.get(entry)
            if state is None:
                state = self._states[entry] = State()
                ahead = time.monotonic() - time.time()
                rows = self._db.execute(
                    "SELECT key, value, until FROM state WHERE entry = ? ORDER BY rowid", (entry,)
                )
                state.restore((key, value, until + ahead if until else 0.0) for key, value, until in rows)
        return state

    def forget_all_but(self, entries: set[str]) -> None:
        """What entries remembered that are no more is of no use."""
        with self._lock, self._db:
            for (entry,) in self._db.execute("SELECT DISTINCT entry FROM state").fetchall():
                if entry not in entries:
                    self._db.execute("DELETE FROM state WHERE entry = ?", (entry,))

    def flush(self) -> None:
        """Write what has changed; an error is told, and what could not be written is tried again the next time."""
        with self._lock:
            collected = {
                name: changes
                for name, state in self._states.items()
                if (changes := state.collect(time.monotonic()))
            }
            if not collected:
                return
            try:
                with self._db:
                    self._db.execute("BEGIN IMMEDIATE")
                    for name, changes in collected.items():
                        self._write(name, changes)
                self._told = ""
            except sqlite3.Error as error:
                for name, changes in collected.items():
                    self._states[name].give_back(changes)
                if str(error) != self._told:
                    self._told = str(error)
                    logger.error("what modules remember cannot be written to %s: %s", self._path, error)

    def close(self) -> None:
        """Write what has changed, then close the file."""
        self._stopping.set()
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self.flush()
            self._db.close()

    def _run(self) -> None:
        while not self._stopping.wait(_WRITE_SECONDS):
            self.flush()

    def _write(self, entry: str, changes: list[StateChange]) -> None:
        behind = time.time() - time.monotonic()
        gone = [(entry, key) for key, value, _ in changes if value is None]
        kept = [
            (entry, key, value, until + behind if until else 0.0)
            for key, value, until in changes
            if value is not None
        ]
        self._db.executemany("DELETE FROM state WHERE entry = ? AND key = ?", gone)
        self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)", kept)

    # -- the file ----------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db, aside = open_sound(self._path, self._opened, prepare, _fit, is_synced=False)
        if aside is not None:
            logger.error(
                "what modules remember, %s, was damaged: it is kept as %s, what could be read goes on",
                self._path,
                aside,
            )
        return db

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, _FORMAT):
                raise StateError(f"{self._path} has format {version}, this version knows {_FORMAT}")
            check(db)
            check_tables(db, prepare)
            prepare(db)
        except BaseException:
            db.close()
            raise
        return db


def prepare(db: sqlite3.Connection) -> None:
    """Make the table where it is not there."""
    db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_FORMAT}; COMMIT;")


def _fit(db: sqlite3.Connection) -> None:
    """Each row stands for itself."""
