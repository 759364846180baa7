"""The database: what is written is read again; damage, newer schemas and strange files are told, and lose nothing."""

from __future__ import annotations

import itertools
import logging
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.message import Message
from broker.ports import Credentials, SessionTerms
from broker.store.database import Database, StoreError
from broker.store.group import Group, Load
from broker.store.schema import MIGRATIONS
from broker.subscriptions import Held


def kept(topic: str, payload: bytes = b"x", stamp: int = 1, **more: object) -> Message:
    return Message(topic, payload, 1, True, stamp=stamp, **more)  # type: ignore[arg-type]


def retaining(messages: Iterable[Message]) -> Group:
    """A group of nothing but retained messages."""
    group = Group()
    group.retained = {message.topic: message for message in messages}
    return group


def facts(message: Message) -> tuple[object, ...]:
    return (
        *(message.topic, message.payload, message.qos, message.retain, message.properties),
        *(message.expires_at, message.publisher, message.origin, message.stamp),
    )


MESSAGES = st.builds(
    Message,
    topic=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20),
    payload=st.binary(max_size=50),
    qos=st.integers(0, 2),
    retain=st.just(True),
    properties=st.binary(max_size=20),
    expires_at=st.floats(0, 2e9),
    publisher=st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    origin=st.sampled_from(["", "eu", "us"]),
    stamp=st.integers(0, 2**62),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(MESSAGES, max_size=6), max_size=5))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[Message]]
) -> None:
    path = tmp_path_factory.mktemp("database") / "broker.db"
    expected: dict[str, tuple[object, ...]] = {}
    for group in groups:
        database = Database(path)
        database.write(retaining(group))
        expected |= {message.topic: facts(message) for message in group}
        database.close()
    database = Database(path)
    assert {message.topic: facts(message) for message in database.retained()} == expected
    database.close()


def test_what_has_expired_is_forgotten(tmp_path: Path) -> None:
    database = Database(tmp_path / "broker.db")
    database.write(
        retaining(
            [
                kept("old", expires_at=100.0),
                kept("new", expires_at=300.0),
                kept("for ever"),
                kept("deleted long ago", b"", stamp=5),
                kept("deleted", b"", stamp=15),
            ]
        )
    )
    database.forget_expired(200.0, 10)
    assert {message.topic for message in database.retained()} == {"new", "for ever", "deleted"}
    database.close()


@pytest.mark.parametrize("how", ["header", "middle", "cut", "no database at all"])
def test_damaged_file_is_set_aside_and_what_it_gives_is_saved(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "broker.db"
    database = Database(path)
    database.write(retaining([kept(f"t/{number:05}", bytes(200)) for number in range(2000)]))
    database.close()
    data = bytearray(path.read_bytes())
    if how == "header":
        data[:100] = bytes(100)
    elif how == "middle":
        middle = len(data) // 2 // 4096 * 4096
        data[middle : middle + 40960] = b"\xff" * 40960
    elif how == "cut":
        data = data[: len(data) // 2]
    else:
        data = bytearray(b"not a database" * 1000)
    path.write_bytes(data)
    with caplog.at_level(logging.ERROR):
        database = Database(path)
    (aside,) = tmp_path.glob("broker.db.damaged-*[0-9]")
    assert aside.read_bytes() == bytes(data), "it is never changed or deleted"
    assert str(aside) in caplog.text
    saved = {message.topic for message in database.retained()}
    assert f"{len(saved)} retained messages" in caplog.text
    assert (len(saved) > 500) == (how in ("middle", "cut"))
    database.write(retaining([kept("t/new")]))
    database.close()
    Database(path).close()


def owing(sessions: int, messages: int, size: int = 200) -> Group:
    """Sessions 1.. that are all owed the same messages."""
    group = Group()
    shown = Credentials("", "user", None, "192.0.2.1", "tcp")
    for key in range(1, sessions + 1):
        terms = SessionTerms(f"client {key}", 5, 3600, 10, shown._replace(client_id=f"client {key}"), "")
        group.sessions[key] = (terms, 1000.0)
        group.subscriptions[(key, "t/#")] = Held("t/#", 1)
    for number in range(messages):
        message = Message(f"t/{number}", bytes(size), 1)
        for key in range(1, sessions + 1):
            group.adds[(key, number)] = (message, 1, False, b"", number)
    return group


def _pages(database: Database) -> int:
    return int(database._connection.execute("PRAGMA page_count").fetchone()[0])


def test_a_message_is_stored_once_and_freed_with_its_last_delivery(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    database = Database(path)
    group = owing(5, 1000, 10_000)
    database.write(group)
    assert 10_000_000 < path.stat().st_size < 12_000_000, "five sessions are owed it, the disk has it once"
    stored = database._connection.execute("SELECT count(*) FROM message")
    assert stored.fetchone() == (1000,)
    for key in range(1, 5):
        done = Group()
        done.dones = {name: delivery[0] for name, delivery in group.adds.items() if name[0] == key}
        database.write(done)
    assert database._connection.execute("SELECT count(*) FROM message").fetchone() == (1000,)
    last = Group()
    last.ended = {5}
    database.write(last)
    pages = [_pages(database)]
    while database.tidy():
        pages.append(_pages(database))
    given_back = [before - after for before, after in itertools.pairwise(pages)]
    # A page of SQLite's own map may go as well.
    assert max(given_back) <= 502, "no slice takes long"
    assert sum(slice_ >= 500 for slice_ in given_back) >= 3, "and each commit gives back a whole one"
    assert database._connection.execute("SELECT count(*) FROM message").fetchone() == (0,)
    database.close()
    assert path.stat().st_size < 6_000_000, "the file gives its space back"


def test_damaged_sessions_keep_what_fits_together(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    database = Database(path)
    database.write(owing(3, 2000))
    database.close()
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 40960] = b"\xff" * 40960
    path.write_bytes(data)
    database = Database(path)
    found = {session.key: session for session in database.sessions()}
    assert list(found) == [1, 2, 3]
    for key, session in found.items():
        assert session.terms.credentials == (f"client {key}", "user", None, "192.0.2.1", "tcp", None, None)
        deliveries, first = 0, 0
        while True:
            stored = database.load(Load(key, first, 100, print), 0.0)
            deliveries += len(stored.deliveries)
            if stored.complete:
                break
            first = stored.deliveries[-1][0][4] + 1
        assert deliveries == session.queued > 1000
    database.close()


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
def test_every_earlier_schema_is_brought_forward(tmp_path: Path, version: int) -> None:
    path = tmp_path / "broker.db"
    connection = sqlite3.connect(path)
    for step in MIGRATIONS[:version]:
        connection.executescript(step)
    if version:
        row = ("t", b"payload", 1, b"", 0.0, "device", "", 7)
        connection.execute("INSERT INTO retained VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()
    database = Database(path)
    assert [(m.topic, m.payload) for m in database.retained()] == [("t", b"payload")][: version and 1]
    database.write(owing(1, 3))
    (session,) = database.sessions()
    assert (session.queued, session.first, session.last) == (3, 0, 2)
    database.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="schema version 99 is newer"):
        Database(path)


def test_file_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "broker.db").mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        Database(tmp_path / "broker.db")
