"""The database: what is written is read again; damage, newer schemas and strange files are told, and lose nothing."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.message import Message
from broker.ports import Credentials, SessionTerms
from broker.salvage import replace
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
    assert (len(saved) > 500) == (how != "no database at all")
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
        message = Message(f"t/{number}", bytes(size), 1, user="a name")
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
            assert {delivery[0].user for delivery, _ in stored.deliveries} == {"a name"}
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
        columns = "topic, payload, qos, properties, expires_at, publisher, origin, stamp"
        connection.execute(f"INSERT INTO retained ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
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


def owed(database: Database, count: int, size: int) -> None:
    """So many messages for session 1."""
    group = Group()
    for number in range(1, count + 1):
        group.adds[(1, number)] = (Message("t", bytes(size), 1), 1, False, b"", number)
    database.write(group)


def test_space_goes_back_a_slice_at_a_time(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "broker.db")) as database:
        owed(database, 3000, 4000)
        group = Group()
        group.ended.add(1)
        database.write(group)
        pages = []
        with closing(sqlite3.connect(tmp_path / "broker.db")) as look:
            while database.tidy():
                pages.append(look.execute("PRAGMA page_count").fetchone()[0])
        freed = [before - after for before, after in pairwise(pages) if before != after]
        assert 500 <= max(freed) <= 510, "with the pages that only say where others are"
        assert len(freed) < 10
        assert pages[-1] < pages[0] // 2


def test_no_more_is_read_at_a_time_than_has_room(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "broker.db")) as database:
        owed(database, 20, 300_000)
        found: list[int] = []
        complete = False
        while not complete:
            stored = database.load(Load(1, found[-1] + 1 if found else 1, 256, lambda _: None), 0.0)
            assert len(stored.deliveries) <= 4
            found += [delivery[4] for delivery, _ in stored.deliveries]
            complete = stored.complete
        assert found == list(range(1, 21))


def damage(path: Path, *places: float) -> bytes:
    """Overwrite a page at each of these parts of a file; the whole, as it is then."""
    data = bytearray(path.read_bytes())
    for place in places:
        at = max(4096, int(len(data) * place) // 4096 * 4096)
        data[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    return bytes(data)


def queued(database: Database) -> int:
    return sum(session.queued for session in database.sessions())


def test_what_lies_between_damaged_pages_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(owing(3, 4000))
    damage(path, 0.2, 0.8)
    with closing(Database(path)) as database:
        assert queued(database) > 3 * 3500


@pytest.mark.parametrize("where", ["retained", "subscription"])
def test_text_that_is_none_is_damage(tmp_path: Path, where: str) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(owing(3, 10))
        database.write(retaining([kept("a"), kept("b")]))
    column, one = ("topic", "topic = 'a'") if where == "retained" else ("topic_filter", "session = 1")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE {where} SET {column} = CAST(x'ff' AS TEXT) WHERE {one}")
    with closing(Database(path)) as database:
        assert len(list(database.retained())) + sum(len(s.subscriptions) for s in database.sessions()) == 4
        assert queued(database) == 30
    assert len(list(tmp_path.glob("broker.db.damaged-*[0-9]"))) == 1


def test_tables_without_a_version_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(owing(3, 10))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")
    with closing(Database(path)) as database:
        assert queued(database) == 30


def test_salvage_that_was_killed_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(owing(3, 2000))
    damaged = damage(path, 0.5)
    for moment in ("copy_rows", "_sync", "_set_aside"):

        def killed(*arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(replace, moment, killed)
            with pytest.raises(KeyboardInterrupt):
                Database(path)
        assert path.read_bytes() == damaged, f"nothing is lost when {moment} is not reached"
    # As if killed between the two renamings.
    with closing(Database(path)) as database:
        before = queued(database)
    path.rename(tmp_path / "broker.db.salvaged")
    (tmp_path / "broker.db-wal").write_bytes(b"of the damaged one")
    with closing(Database(path)) as database:
        assert queued(database) == before > 4000


def test_salvage_without_room_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(owing(3, 2000))
    damaged = damage(path, 0.5)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(replace, "copy_rows", full)
        with pytest.raises(StoreError, match="No space left on device; nothing was changed"):
            Database(path)
    assert [file.name for file in tmp_path.iterdir()] == ["broker.db"]
    assert path.read_bytes() == damaged
    with closing(Database(path)) as database:
        assert queued(database) > 4000


def test_damage_that_is_met_while_running_hides_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(owing(1, 1000))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE message SET topic = CAST(x'ff' AS TEXT) WHERE key % 2 OR key <= 300")
        found: list[int] = []
        complete = False
        while not complete:
            stored = database.load(Load(1, found[-1] + 1 if found else 0, 100, print), 0.0)
            found += [delivery[4] for delivery, _ in stored.deliveries]
            complete = stored.complete
        assert len(found) == 350
        assert "messages for a session cannot be read" in caplog.text


def test_file_that_became_empty_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "broker.db"
    Database(path).close()
    assert not caplog.text
    path.write_bytes(b"")
    Database(path).close()
    assert "was there, and is empty" in caplog.text


@pytest.mark.parametrize("by", [1e6, 0.0, -1e6])
def test_clock_that_was_set_while_the_node_was_down_prolongs_nothing(tmp_path: Path, by: float) -> None:
    """It is by ``by`` seconds ahead of the last write when the node starts."""
    path = tmp_path / "broker.db"
    then = 2e9
    with closing(Database(path)) as database:
        group = owing(1, 1)
        terms, _ = group.sessions[1]
        group.sessions[1] = (terms, then - 10.0)
        group.retained = {"r": kept("r", expires_at=then + 100.0)}
        database.write(group)
    os.utime(path, (then, then))
    with closing(Database(path)) as database:
        database.settle(then + by)
        (session,) = database.sessions()
        (message,) = database.retained()
        moved = min(by, 0.0)
        assert session.left_at == pytest.approx(then - 10.0 + moved)
        assert message.expires_at == pytest.approx(then + 100.0 + moved)
