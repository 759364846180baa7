"""A damaged database is replaced by a new one with what could be read from it, and fits together."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path

from broker import salvage
from broker.store.schema import migrate

logger = logging.getLogger("geomq.store")

_TOLD = {"retained": "retained messages", "session": "sessions", "delivery": "queued messages"}


def replace_damaged(path: Path, error: sqlite3.Error) -> None:
    """Set a damaged database aside, and put a new one in its place; OSError or sqlite3.Error where it cannot be."""
    aside = salvage.replace_damaged(path, error, _prepare, _make_consistent)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        counts = [
            f"{connection.execute(f'SELECT count(*) FROM {table}').fetchone()[0]} {name}"  # noqa: S608
            for table, name in _TOLD.items()
        ]
    logger.error("%s was damaged: it is kept as %s; what could be read: %s", path, aside, ", ".join(counts))


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    migrate(connection)


def _make_consistent(connection: sqlite3.Connection) -> None:
    """Rows that belong to rows that could not be read mean nothing."""
    for table in ("subscription", "delivery", "incoming", "releasing"):
        connection.execute(f"DELETE FROM {table} WHERE session NOT IN (SELECT key FROM session)")  # noqa: S608
    connection.execute("DELETE FROM delivery WHERE message NOT IN (SELECT key FROM message)")
    connection.execute("DELETE FROM message WHERE key NOT IN (SELECT message FROM delivery)")
