"""The node's database: opened, brought to the newest schema, written in groups, read."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from broker.message import Delivery, Message
from broker.ports import Stored, StoredSession, StoredWill
from broker.salvage import check, check_tables, check_text, is_damage, last_written
from broker.store import records, salvaged
from broker.store.group import CROSSINGS, LOAD_BYTES, Group, Load
from broker.store.schema import COLUMNS, TABLES, SchemaError, insert, migrate

logger = logging.getLogger("geomq.store")

_SET_BACK = 5.0
"""Seconds by which the clock has to be behind the last write to count as set back."""
_SLICE = 500
"""Rows, or pages, that are freed at a time: nobody should wait for more."""
_MANY_FREE = 1024
"""Free pages that are worth giving back to the file system."""


class StoreError(Exception):
    """Why the database cannot be used, in words for the operator."""


class Database:
    """One file; used by one thread at a time. StoreError where it cannot be had.

    ``synchronous`` is `full` (a commit is on disk) or `normal` (it outlives the process, not a power cut).
    A retained message with an empty payload is a deletion, kept so that other nodes do not bring the message back.
    """

    def __init__(self, path: Path, synchronous: str = "full") -> None:
        self.path = path
        self._last_written = last_written(path)
        try:
            self._connection = salvaged.opened(
                path, lambda: _opened(path, synchronous), is_synced=synchronous == "full"
            )
        except (SchemaError, OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: {error}") from None
        self._next_message = self._highest("message", "key") + 1
        self._has_ended = True
        """Whether there may be sessions that are over, and not yet removed."""

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _highest(self, table: str, column: str) -> int:
        query = f"SELECT max({column}) FROM {table}"  # noqa: S608 - names from here
        return int(self._connection.execute(query).fetchone()[0] or 0)

    def next_session(self) -> int:
        """A key that no session has, and none that ended and is still being removed."""
        used = (("session", "key"), ("ended", "session"), ("delivery", "session"))
        return max(self._highest(table, column) for table, column in used) + 1

    # -- writing -----------------------------------------------------------------------------------------

    def write(self, group: Group) -> None:
        """Write a group in one transaction; sqlite3.Error where that fails, and nothing is written."""
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            many = connection.executemany
            if group.shift:
                self._shift(connection, group.shift)
            if group.retained:
                many(insert("retained"), map(records.retained_row, group.retained.values()))
            if group.adds:
                self._add(connection, group)
            if group.sent:
                many("UPDATE delivery SET sent = 1 WHERE session = ? AND number = ?", group.sent)
            if group.dones:
                many("DELETE FROM delivery WHERE session = ? AND number = ?", group.dones)
                _free(connection, {message.key for message in group.dones.values()})
            self._write_identifiers(connection, group)
            self._write_sessions(connection, group)
            if self._has_ended:
                # More than what comes in, however much that is.
                self._remove_ended(connection, max(_SLICE, 2 * len(group.adds)))

    def _add(self, connection: sqlite3.Connection, group: Group) -> None:
        messages: dict[int, Message] = {}
        for delivery in group.adds.values():
            message = delivery[0]
            if not message.key:
                message.key = self._next_message
                self._next_message += 1
            messages[message.key] = message
        connection.executemany(insert("message", "IGNORE"), map(records.message_row, messages.values()))
        connection.executemany(
            insert("delivery"),
            [records.delivery_row(session, delivery) for (session, _), delivery in group.adds.items()],
        )

    @staticmethod
    def _shift(connection: sqlite3.Connection, by: float) -> None:
        for table, column in (
            ("message", "expires_at"),
            ("retained", "expires_at"),
            ("session", "left_at"),
            ("will", "due"),
        ):
            update = f"UPDATE {table} SET {column} = {column} + ? WHERE {column} > 0"  # noqa: S608 - names from here
            connection.execute(update, (by,))

    @staticmethod
    def _write_identifiers(connection: sqlite3.Connection, group: Group) -> None:
        if group.incoming:
            received = [name for name, is_there in group.incoming.items() if is_there]
            forgotten = [name for name, is_there in group.incoming.items() if not is_there]
            connection.executemany(insert("incoming"), received)
            connection.executemany("DELETE FROM incoming WHERE session = ? AND packet_id = ?", forgotten)
        if group.releasing:
            released = [(*name, number) for name, number in group.releasing.items() if number is not None]
            completed = [name for name, number in group.releasing.items() if number is None]
            connection.executemany(insert("releasing"), released)
            connection.executemany("DELETE FROM releasing WHERE session = ? AND packet_id = ?", completed)

    def _write_sessions(self, connection: sqlite3.Connection, group: Group) -> None:
        many = connection.executemany
        many(insert("session"), [records.session_row(key, *saved) for key, saved in group.sessions.items()])
        held = [(*name, held) for name, held in group.subscriptions.items() if held is not None]
        many(insert("subscription"), [records.subscription_row(*one) for one in held])
        given_up = [name for name, held in group.subscriptions.items() if held is None]
        many("DELETE FROM subscription WHERE session = ? AND name = ?", given_up)
        ended = [(key,) for key in group.ended]
        if ended:
            many("DELETE FROM session WHERE key = ?", ended)
            many("DELETE FROM subscription WHERE session = ?", ended)
            many("DELETE FROM incoming WHERE session = ?", ended)
            many("DELETE FROM releasing WHERE session = ?", ended)
            many(insert("ended"), ended)
            self._has_ended = True
        if group.marks:
            many(insert("mark"), [(sender, *mark) for sender, mark in group.marks.items()])
        if group.wills:
            kept = [(name, will) for name, will in group.wills.items() if will is not None]
            many(insert("will"), [records.will_row(*one) for one in kept])
            many("DELETE FROM will WHERE client_id = ?", [(n,) for n, w in group.wills.items() if w is None])

    def settle(self, now: float) -> None:
        """An earlier process ended at ``now`` (wall-clock seconds) at the latest, and with it all connections.

        What may have been on its way then counts as sent; the time of sessions and wills begins to run. Where the
        clock was set back since the last write, what is here keeps the time that it had left then.
        """
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            if now < self._last_written - _SET_BACK:
                self._shift(connection, now - self._last_written)
            connected = connection.execute("SELECT key, key, send_window FROM session WHERE left_at = 0")
            connection.executemany(
                "UPDATE delivery SET sent = 1 WHERE session = ? AND number IN"
                " (SELECT number FROM delivery WHERE session = ? AND qos > 0 ORDER BY number LIMIT ?)",
                connected.fetchall(),
            )
            connection.execute("UPDATE session SET left_at = ? WHERE left_at = 0", (now,))
            connection.execute("UPDATE will SET due = ? + min(delay, session_expiry) WHERE due = 0", (now,))

    # -- keeping it small --------------------------------------------------------------------------------

    def tidy(self) -> bool:
        """Free a slice of what nobody needs; whether there is more."""
        if self._has_ended:
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                self._remove_ended(connection, _SLICE)
            return True
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        if free > _MANY_FREE and free > pages // 4:
            # `execute` would take one step of it, which frees one page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_SLICE})")
            return True
        return False

    def _remove_ended(self, connection: sqlite3.Connection, limit: int) -> None:
        """Remove up to so many of the messages that were owed to sessions that are over."""
        while limit > 0:
            row = connection.execute("SELECT session FROM ended LIMIT 1").fetchone()
            if row is None:
                self._has_ended = False
                return
            found = connection.execute(
                "SELECT session, number, message FROM delivery WHERE session = ? LIMIT ?", (*row, limit)
            ).fetchall()
            connection.executemany(
                "DELETE FROM delivery WHERE session = ? AND number = ?", [one[:2] for one in found]
            )
            _free(connection, {message for *_, message in found})
            if len(found) < limit:
                connection.execute("DELETE FROM ended WHERE session = ?", row)
            limit -= max(len(found), _SLICE // 50)

    def forget_expired(self, now: float, deletions_before: int) -> None:
        """Remove what has expired at ``now`` (wall-clock seconds), and deletions with stamps below a stamp."""
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM retained WHERE expires_at > 0 AND expires_at <= ?", (now,))
            connection.execute("DELETE FROM retained WHERE payload = x'' AND stamp < ?", (deletions_before,))

    # -- reading -----------------------------------------------------------------------------------------

    def _rows(self, table: str, order: str = "1") -> Iterator[records.Row]:
        query = f"SELECT {COLUMNS[table]} FROM {table} ORDER BY {order}"  # noqa: S608 - names from here
        return self._connection.execute(query)

    def retained(self) -> Iterator[Message]:
        """Every retained message and deletion."""
        return map(records.retained_of, self._rows("retained"))

    def wills(self) -> Iterator[tuple[str, StoredWill]]:
        """The wills whose time had not come."""
        return map(records.will_of, self._rows("will"))

    def marks(self) -> dict[str, tuple[int, int]]:
        """How far other nodes' durable lanes were heard: (epoch, sequence) by the sender's name."""
        return {sender: (epoch, sequence) for sender, epoch, sequence in self._rows("mark")}

    def last_crossing(self) -> int:
        """The greatest number of a message on its way to other nodes, 0 where there is none."""
        query = "SELECT max(number) FROM delivery WHERE session = ?"
        return int(self._connection.execute(query, (CROSSINGS,)).fetchone()[0] or 0)

    def count_sessions(self) -> int:
        """How many sessions there are."""
        return int(self._connection.execute("SELECT count(*) FROM session").fetchone()[0])

    def sessions(self) -> Iterator[StoredSession]:
        """Every session, without its deliveries: those are read when its client is back."""
        subscriptions = _Along(self._rows("subscription"))
        incoming = _Along(self._rows("incoming"))
        releasing = _Along(self._rows("releasing", "session, number"))
        queues = _Along(
            self._connection.execute(
                "SELECT session, count(*), sum(size), min(number), max(number) FROM delivery GROUP BY session"
            )
        )
        for row in self._rows("session"):
            key, terms, left_at = records.session_of(row)
            owed = [(packet_id, number) for _, packet_id, number in releasing.at(key)]
            queued = next(iter(queues.at(key)), (key, 0, 0, 0, 0))
            yield StoredSession(
                key,
                terms,
                left_at,
                [records.subscription_of(one) for one in subscriptions.at(key)],
                [packet_id for _, packet_id in incoming.at(key)],
                owed,
                queued[1],
                queued[2],
                queued[3],
                max([queued[4], *(number for _, number in owed)]),
            )

    def load(self, request: Load, now: float) -> Stored:
        """The next deliveries of a session. sqlite3.Error where they cannot be read."""
        try:
            return self._load_at_once(request, now)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            return self._load_one_by_one(request, now, error)

    def _load_at_once(self, request: Load, now: float) -> Stored:
        columns = ", ".join(f"m.{name}" for name in COLUMNS["message"].split(", "))
        rows = self._connection.execute(
            f"SELECT d.qos, d.retain, d.identifiers, d.number, d.sent, {columns}"  # noqa: S608 - names from here
            " FROM delivery d JOIN message m ON m.key = d.message"
            " WHERE d.session = ? AND d.number >= ? ORDER BY d.number LIMIT ?",
            (request.session, request.first, request.at_most),
        )
        found: list[tuple[Delivery, bool]] = []
        size = 0
        for qos, retain, identifiers, number, sent, *rest in rows:
            message = records.message_of(rest)
            found.append(((message, qos, bool(retain), identifiers, number), bool(sent)))
            size += len(message.payload)
            if size >= LOAD_BYTES:
                rows.close()
                return Stored(found, False, now)
        return Stored(found, len(found) < request.at_most, now)

    def _load_one_by_one(self, request: Load, now: float, error: sqlite3.Error) -> Stored:
        """What can be read although some of it cannot."""
        found: list[tuple[Delivery, bool]] = []
        first, lost = request.first, 0
        while True:
            rows = self._connection.execute(
                "SELECT qos, retain, identifiers, number, sent, message FROM delivery"
                " WHERE session = ? AND number >= ? ORDER BY number LIMIT ?",
                (request.session, first, request.at_most),
            ).fetchall()
            for qos, retain, identifiers, number, sent, key in rows:
                message = self._message(key)
                if message is None:
                    lost += 1
                else:
                    found.append(((message, qos, bool(retain), identifiers, number), bool(sent)))
            complete = len(rows) < request.at_most
            if found or complete:
                logger.error(
                    "%s is damaged (%s): %d of %d messages for a session cannot be read; the node saves what it can "
                    "when it is started again",
                    *(self.path, error, lost, lost + len(found)),
                )
                return Stored(found, complete, now)
            first = rows[-1][3] + 1

    def _message(self, key: int) -> Message | None:
        query = f"SELECT {COLUMNS['message']} FROM message WHERE key = ?"  # noqa: S608 - names from here
        try:
            row = self._connection.execute(query, (key,)).fetchone()
        except sqlite3.Error:
            return None
        return records.message_of(row) if row is not None else None


class _Along:
    """Rows ordered by session, read along with the sessions."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._groups = groupby(rows, key=lambda row: row[0])
        self._next: tuple[int, list[Any]] | None = self._advance()

    def _advance(self) -> tuple[int, list[Any]] | None:
        for key, rows in self._groups:
            return key, list(rows)
        return None

    def at(self, key: int) -> list[Any]:
        """The rows of a session; those of sessions before it that are not asked for are passed over."""
        while self._next is not None and self._next[0] < key:
            self._next = self._advance()
        if self._next is None or self._next[0] != key:
            return []
        found = self._next[1]
        self._next = self._advance()
        return found


def _free(connection: sqlite3.Connection, messages: Iterable[int]) -> None:
    """Remove those of the messages that no delivery is for any more."""
    connection.executemany(
        "DELETE FROM message WHERE key = ? AND NOT EXISTS (SELECT 1 FROM delivery WHERE message = key)",
        [(key,) for key in messages],
    )


def _opened(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        if not path.exists() or not path.stat().st_size:
            # Before the first table: only then it takes effect without rewriting the file.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if synchronous == 'full' else 'NORMAL'}")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        check(connection)
        migrate(connection)
        check_tables(connection, migrate)
        # All but the messages, which may be many, and are read one by one.
        check_text(connection, *(table for table in TABLES if table != "message"))
        (vacuum,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        if not vacuum:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
    except BaseException:
        connection.close()
        raise
    return connection
