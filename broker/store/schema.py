"""The database's tables, version by version."""

from __future__ import annotations

import sqlite3

MIGRATIONS = (
    """
    CREATE TABLE retained (
        topic TEXT PRIMARY KEY, payload BLOB NOT NULL, qos INTEGER NOT NULL, properties BLOB NOT NULL,
        expires_at REAL NOT NULL, publisher TEXT NOT NULL, origin TEXT NOT NULL, stamp INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX retained_expiry ON retained (expires_at) WHERE expires_at > 0;
    """,
    """
    CREATE TABLE session (
        key INTEGER PRIMARY KEY, client_id TEXT NOT NULL, version INTEGER NOT NULL, expiry INTEGER NOT NULL,
        send_window INTEGER NOT NULL, username TEXT, address TEXT NOT NULL, listener TEXT NOT NULL,
        mount_point TEXT NOT NULL, left_at REAL NOT NULL
    );
    CREATE TABLE subscription (
        session INTEGER NOT NULL, name TEXT NOT NULL, topic_filter TEXT NOT NULL, qos INTEGER NOT NULL,
        no_local INTEGER NOT NULL, retain_as_published INTEGER NOT NULL, identifier INTEGER NOT NULL, share TEXT,
        PRIMARY KEY (session, name)
    ) WITHOUT ROWID;
    CREATE TABLE message (
        key INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
        retain INTEGER NOT NULL, properties BLOB NOT NULL, expires_at REAL NOT NULL, publisher TEXT NOT NULL,
        origin TEXT NOT NULL, stamp INTEGER NOT NULL
    );
    CREATE TABLE delivery (
        session INTEGER NOT NULL, number INTEGER NOT NULL, message INTEGER NOT NULL, qos INTEGER NOT NULL,
        retain INTEGER NOT NULL, identifiers BLOB NOT NULL, size INTEGER NOT NULL, sent INTEGER NOT NULL,
        PRIMARY KEY (session, number)
    ) WITHOUT ROWID;
    CREATE INDEX delivery_message ON delivery (message);
    CREATE TABLE incoming (
        session INTEGER NOT NULL, packet_id INTEGER NOT NULL, PRIMARY KEY (session, packet_id)
    ) WITHOUT ROWID;
    CREATE TABLE releasing (
        session INTEGER NOT NULL, packet_id INTEGER NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (session, packet_id)
    ) WITHOUT ROWID;
    CREATE TABLE ended (session INTEGER PRIMARY KEY);
    CREATE TABLE mark (
        sender TEXT PRIMARY KEY, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE will (
        client_id TEXT PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
        retain INTEGER NOT NULL, properties BLOB NOT NULL, delay INTEGER NOT NULL, expiry INTEGER,
        session_expiry INTEGER NOT NULL, username TEXT, address TEXT NOT NULL, listener TEXT NOT NULL,
        due REAL NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE retained ADD COLUMN user TEXT NOT NULL DEFAULT '';
    """,
    """
    ALTER TABLE message ADD COLUMN user TEXT NOT NULL DEFAULT '';
    """,
)
"""The steps from each schema version to the next; version 0 is an empty file.

A delivery is a message that a session is owed; `ended` names sessions whose deliveries are still to be removed;
`mark` says how far the durable lanes of other nodes have been heard.
"""

VERSION = len(MIGRATIONS)

COLUMNS = {
    "retained": "topic, payload, qos, properties, expires_at, publisher, origin, stamp, user",
    "session": "key, client_id, version, expiry, send_window, username, address, listener, mount_point, left_at",
    "subscription": "session, name, topic_filter, qos, no_local, retain_as_published, identifier, share",
    "message": "key, topic, payload, qos, retain, properties, expires_at, publisher, origin, stamp, user",
    "delivery": "session, number, message, qos, retain, identifiers, size, sent",
    "incoming": "session, packet_id",
    "releasing": "session, packet_id, number",
    "ended": "session",
    "mark": "sender, epoch, sequence",
    "will": "client_id, topic, payload, qos, retain, properties, delay, expiry, session_expiry, username, address,"
    " listener, due",
}
"""Tables and their columns, in the order in which rows are written and read here."""

TABLES = tuple(COLUMNS)


class SchemaError(Exception):
    """The file was written by a newer GeoMQ."""


def insert(table: str, how: str = "REPLACE") -> str:
    """The statement that writes a row of a table; ``how`` a conflict is solved."""
    columns = COLUMNS[table]
    marks = ", ".join("?" * (columns.count(",") + 1))
    return f"INSERT OR {how} INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - all from here


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to this version.

    SchemaError where it is of a later one, sqlite3.DatabaseError where it has tables and no version.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not version and connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        raise sqlite3.DatabaseError("its schema has no version")
    if version > VERSION:
        raise SchemaError(f"schema version {version} is newer than this GeoMQ knows ({VERSION}): update it")
    for step, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN; {script} PRAGMA user_version = {step}; COMMIT;")
