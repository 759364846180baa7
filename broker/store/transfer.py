"""A database from outside: looked over, copied, written out as JSON lines, read in again."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from broker import salvage
from broker.store.database import Database
from broker.store.group import CROSSINGS
from broker.store.schema import COLUMNS, TABLES, VERSION, insert, migrate

FORMAT = "geomq-export-1"

_PROBLEMS = {
    "subscriptions of unknown sessions": "subscription WHERE session NOT IN (SELECT key FROM session)",
    "queued messages of unknown sessions": f"delivery WHERE session != {CROSSINGS} AND session NOT IN"  # noqa: S608
    " (SELECT key FROM session UNION SELECT session FROM ended)",
    "queued messages without their content": "delivery WHERE message NOT IN (SELECT key FROM message)",
    "messages that nobody waits for": "message WHERE key NOT IN (SELECT message FROM delivery)",
    "client identifiers with two sessions": "(SELECT client_id FROM session GROUP BY 1 HAVING count(*) > 1)",
}


class TransferError(Exception):
    """What is wrong with the file, in words for the operator."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A database as it is at this moment, whether or not a node uses it. TransferError where it cannot be read."""
    if not path.is_file():
        raise TransferError(f"{path}: there is no such file")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise TransferError(f"{path}: {error}") from None
    try:
        connection.execute("BEGIN")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise TransferError(
                f"{path}: schema version {version} is newer than this GeoMQ knows ({VERSION})"
            )
        if version < VERSION:
            raise TransferError(
                f"{path}: schema version {version} is older than this GeoMQ's ({VERSION}): start its node once"
            )
        yield connection
    except sqlite3.Error as error:
        raise TransferError(f"{path}: {error}") from None
    finally:
        connection.close()


def problems(connection: sqlite3.Connection) -> list[str]:
    """What does not fit together, one line each; none where all is well."""
    found = salvage.problems(connection, migrate)
    if found:
        return found
    for what, rows in _PROBLEMS.items():
        (count,) = connection.execute(f"SELECT count(*) FROM {rows}").fetchone()  # noqa: S608 - from above
        if count:
            found.append(f"{count} {what}")
    return found


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows each table has."""
    return {
        table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
        for table in TABLES
    }


def back_up(source: Path, target: Path) -> None:
    """Copy a database, also one that a node is writing to. TransferError where that fails; then there is no copy."""
    if target.exists():
        raise TransferError(f"{target} is there already")
    if not source.is_file():
        raise TransferError(f"{source}: there is no such file")
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as found,
            contextlib.closing(sqlite3.connect(unfinished)) as copy,
        ):
            found.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        unfinished.unlink(missing_ok=True)
        raise TransferError(f"{source} could not be copied: {error}") from None
    unfinished.rename(target)


def exported(connection: sqlite3.Connection) -> Iterator[str]:
    """Everything as JSON lines: a head, a row each, and an end with their number. Bytes are in base64."""
    yield json.dumps({"format": FORMAT, "schema": VERSION})
    rows = 0
    for table in TABLES:
        names = COLUMNS[table].split(", ")
        for row in connection.execute(f"SELECT {COLUMNS[table]} FROM {table}"):  # noqa: S608
            values = {name: _told(value) for name, value in zip(names, row, strict=True)}
            yield json.dumps({"table": table} | values, ensure_ascii=False)
            rows += 1
    yield json.dumps({"end": rows})


def _told(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _understood(value: Any) -> Any:
    return base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else value


def bring_in(lines: Iterable[str], path: Path, replace: bool = False) -> dict[str, int]:
    """Put what :func:`exported` told into a node's database, all or nothing; how many rows of each table.

    TransferError where the lines are not such, or where the database holds something and ``replace`` is not said.
    """
    Database(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        if any(counts(connection).values()):
            if not replace:
                raise TransferError(f"{path} is not empty: say --replace to give up what it holds")
            for table in TABLES:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608
        _bring_in_rows(connection, iter(lines))
        found = problems(connection)
        if found:
            raise TransferError(f"what is told does not fit together: {'; '.join(found)}")
        result = counts(connection)
        connection.execute("COMMIT")
        return result


def _bring_in_rows(connection: sqlite3.Connection, lines: Iterator[str]) -> None:
    kinds = salvage.kinds_of(connection)
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if number == 1:
                _check_head(line)
                continue
            row = json.loads(line)
            if "end" in row:
                if row["end"] != number - 2:
                    raise TransferError(f"{number - 2} rows are there of {row['end']}")
                return
            _bring_in_row(connection, row, kinds)
    except UnicodeDecodeError as error:
        raise TransferError(f"line {number + 1} or one soon after is not UTF-8: {error.reason}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, sqlite3.Error) as error:
        raise TransferError(f"line {number} cannot be understood: {error!r}") from None
    if not number:
        _check_head("")
    raise TransferError("the last line, which tells how many rows there are, is missing: the file was cut")


def _check_head(line: str) -> None:
    try:
        head = json.loads(line)
        told, schema = head["format"], head["schema"]
    except (ValueError, KeyError, TypeError):
        raise TransferError(f"line 1 is not the head of an export (format {FORMAT})") from None
    if told != FORMAT or schema != VERSION:
        raise TransferError(
            f"line 1: format {told}, schema {schema}; this GeoMQ takes {FORMAT}, schema {VERSION}"
        )


def _bring_in_row(
    connection: sqlite3.Connection, row: dict[str, Any], kinds: dict[str, dict[str, tuple[type, ...]]]
) -> None:
    table = row.pop("table")
    names = COLUMNS[table].split(", ")
    if set(row) != set(names):
        raise ValueError(f"a row of {table} has {', '.join(names)}")
    values = [_understood(row[name]) for name in names]
    for name, value in zip(names, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, kinds[table][name]):
            raise ValueError(f"{name} of {table} cannot be {value!r}")
    connection.execute(insert(table, "ABORT"), values)
