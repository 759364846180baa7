"""What becomes of a damaged database of the node: a new one with what could be read from it, and fits together."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from broker.salvage import open_sound
from broker.store.group import CROSSINGS
from broker.store.schema import migrate

logger = logging.getLogger("geomq.store")

_TOLD = {"retained": "retained messages", "session": "sessions", "delivery": "queued messages"}


def opened(path: Path, opening: Callable[[], sqlite3.Connection], is_synced: bool) -> sqlite3.Connection:
    """See :func:`broker.salvage.open_sound`; what could be read from a damaged file is told."""
    connection, aside = open_sound(path, opening, _prepare, _make_consistent, is_synced)
    if aside is not None:
        counts = [
            f"{connection.execute(f'SELECT count(*) FROM {table}').fetchone()[0]} {name}"  # noqa: S608
            for table, name in _TOLD.items()
        ]
        logger.error(
            "%s was damaged: it is kept as %s; what could be read: %s", path, aside, ", ".join(counts)
        )
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    migrate(connection)


def _make_consistent(connection: sqlite3.Connection) -> None:
    """Rows that belong to rows that could not be read mean nothing; of two sessions of a client the newer is it."""
    connection.execute(
        "DELETE FROM session WHERE key NOT IN (SELECT max(key) FROM session GROUP BY client_id)"
    )
    for table in ("subscription", "delivery", "incoming", "releasing"):
        connection.execute(
            f"DELETE FROM {table} WHERE session NOT IN (SELECT key FROM session) AND session != {CROSSINGS}"  # noqa: S608
        )
    connection.execute("DELETE FROM delivery WHERE message NOT IN (SELECT key FROM message)")
    connection.execute("DELETE FROM message WHERE key NOT IN (SELECT message FROM delivery)")
