"""Damaged databases of a node: none is passed over without a word, none keeps a node from starting."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from broker.message import Message
from broker.salvage import replace
from broker.store.database import Database
from broker.store.schema import MIGRATIONS
from broker.subscriptions import Held
from edge_mesh.outbox_store import Entry, OutboxStore
from plugins.store.history import History
from tests.end_to_end.nodes import Client, NodeProcess, wait_for
from tests.store.test_database import damage, kept, owing, queued, retaining
from tests.store.test_salvage import commits_of, log_of, spoil

Opening = Callable[[Path], int]
"""Opens a database and says how many messages are in it."""


def open_broker(path: Path) -> int:
    with closing(Database(path)) as database:
        return sum(1 for _ in database.retained())


def open_outbox(path: Path) -> int:
    with closing(OutboxStore(path)) as store:
        return len(store.read("b", 0, 1 << 30))


def open_history(path: Path) -> int:
    with closing(History(path, 1e9, 1 << 40)) as history:
        return len(history.query("#"))


def fill_broker(path: Path) -> None:
    with closing(Database(path)) as database:
        database.write(retaining(kept(f"t/{number:03}") for number in range(100)))


def fill_outbox(path: Path) -> None:
    with closing(OutboxStore(path)) as store:
        store.begin()
        store.add([Entry(b"m", 0.0, (("b", number),)) for number in range(1, 101)], 1.0, {})
        store.commit()


def fill_history(path: Path) -> None:
    with closing(History(path, 1e9, 1 << 40)) as history:
        history.append([Message(f"t/{number}", b"m") for number in range(100)], time.time())


STORES = {
    "broker.db": (fill_broker, open_broker, "retained", "topic"),
    "outbox.db": (fill_outbox, open_outbox, "pointer", "sequence"),
    "history.db": (fill_history, open_history, "message", "payload"),
}


@pytest.fixture(params=list(STORES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path, name: str) -> Path:
    """A database with a hundred messages."""
    STORES[name][0](tmp_path / name)
    return tmp_path / name


def set_aside(path: Path) -> list[str]:
    return sorted(file.name.split("-2")[0] + file.suffix for file in path.parent.glob("*.damaged-*"))


def with_sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def crashed(path: Path, tmp_path: Path) -> Path:
    """The same as a crash leaves it: everything is still in its log, ten rows a commit."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        tables = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL")]
        rows = {
            table: connection.execute(f"SELECT * FROM {table}").fetchall()
            for (table,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            ).fetchall()
        }
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    path.unlink()
    working = tmp_path / "working"
    with closing(sqlite3.connect(working, isolation_level=None)) as connection:
        for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}")
        for sql in (*tables, f"PRAGMA user_version = {version}"):
            connection.execute(sql)
        for table, found in rows.items():
            for start in range(0, len(found), 10):
                connection.execute("BEGIN")
                marks = ", ".join("?" * len(found[start]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", found[start : start + 10])
                connection.execute("COMMIT")
        shutil.copyfile(working, path)
        shutil.copyfile(log_of(working), log_of(path))
    working.unlink()
    return path


def test_log_without_its_database_is_set_aside_and_read(
    crashed: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = log_of(crashed).read_bytes()
    for how in ("missing", "empty"):
        crashed.unlink()
        log_of(crashed).write_bytes(log)
        if how == "empty":
            crashed.touch()
        assert STORES[name][1](crashed) == 100
        assert f"it is {how}, though it has a log" in caplog.text
    logs = list(crashed.parent.glob("*.damaged-*-wal"))
    assert [file.read_bytes() for file in logs] == [log, log]


def test_damage_in_the_middle_of_a_log_is_told_and_what_follows_is_read(
    crashed: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = bytearray(log_of(crashed).read_bytes())
    spoil(log_of(crashed), commits_of(log_of(crashed))[-5] + 1000)
    found = STORES[name][1](crashed)
    if name == "history.db":
        # Its commits are not waited for: a torn end may have many.
        assert found < 100
        assert not set_aside(crashed)
    else:
        assert found == 100
        assert "its write-ahead log is bad at byte" in caplog.text
        (kept_log,) = crashed.parent.glob("*.damaged-*-wal")
        assert len(kept_log.read_bytes()) == len(log)


def test_log_of_a_node_that_was_killed_is_no_damage(crashed: Path, name: str) -> None:
    log_of(crashed).write_bytes(log_of(crashed).read_bytes()[:-5000])
    assert STORES[name][1](crashed) <= 100
    assert not set_aside(crashed)


def test_file_that_became_empty_is_told(path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"")
    assert STORES[name][1](path) == 0
    assert f"{path} was there, and is empty: what it held is lost" in caplog.text


@pytest.mark.parametrize("what", ["table", "column", "version", "type", "first page"])
def test_what_is_no_damage_to_sqlite_is_to_us(
    path: Path, name: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, opening, table, column = STORES[name]
    key = "id" if name == "history.db" else column
    expected = 100
    if what == "table":
        with_sql(path, f"DROP TABLE {table}")
        expected = 0
    elif what == "column":
        with_sql(path, f"ALTER TABLE {table} RENAME COLUMN {column} TO other")
    elif what == "version":
        if name != "broker.db":
            pytest.skip("it has had one version only")
        with_sql(path, "PRAGMA user_version = 1")
    elif what == "type":
        wrong = "'text'" if column == "payload" else "x'ff'"
        last = f"(SELECT max({key}) FROM {table})"
        with_sql(path, f"UPDATE {table} SET {column} = {wrong} WHERE {key} = {last}")
        expected = 99
    else:
        with path.open("r+b") as file:
            file.write(b"\xff" * 4096)
    with caplog.at_level(logging.ERROR):
        assert opening(path) == expected
    assert f"{path} is damaged" in caplog.text
    assert len(set_aside(path)) == 1
    caplog.clear()
    assert opening(path) == expected
    assert not caplog.text, "the new one is sound"


def test_topic_that_is_no_text_keeps_no_history_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    fill_history(path)
    with_sql(path, "UPDATE topic SET name = CAST(x'ff' AS TEXT) WHERE id = 5")
    assert open_history(path) == 99
    assert len(set_aside(path)) == 1


def test_one_text_that_is_none_hides_no_other_message(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    fill_history(path)
    with_sql(path, "UPDATE message SET publisher = CAST(x'ff' AS TEXT) WHERE id = 5")
    assert open_history(path) == 100


def test_texts_between_damaged_pages_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(retaining(kept(f"t/{number}", bytes(100)) for number in range(4000)))
        group = owing(1, 0)
        group.subscriptions = {(1, f"s/{number}"): Held(f"s/{number}", 1) for number in range(1000)}
        database.write(group)
    damage(path, 0.1, 0.5, 0.9)
    with closing(Database(path)) as database:
        assert (
            sum(1 for _ in database.retained())
            + sum(len(session.subscriptions) for session in database.sessions())
            > 5000 - 3 * 60
        )


def test_roots_and_first_page_can_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(owing(3, 2000))
        with closing(sqlite3.connect(path)) as connection:
            roots = [
                root for (root,) in connection.execute("SELECT rootpage FROM sqlite_schema WHERE rootpage")
            ]
    data = bytearray(path.read_bytes())
    # The sessions are few: their table has one page, which is its root.
    session = roots[2]
    for page in {1, *roots} - {session, session + 1}:
        data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with closing(Database(path)) as database:
        # Roots of texts and pairs have rows, too.
        assert queued(database) > 5900


def test_unfinished_salvage_is_never_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(owing(3, 500))
    damage(path, 0.5)
    real = replace.copy_rows

    def killed(*arguments: object) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(replace, "copy_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            Database(path)
    path.rename(tmp_path / "by hand")
    with closing(Database(path)) as database:
        assert queued(database) == 0
    path.unlink()
    (tmp_path / "by hand").rename(path)
    with closing(Database(path)) as database:
        assert queued(database) > 1000


def test_new_one_is_not_taken_where_the_damaged_one_was_replaced_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "broker.db"
    with closing(Database(path)) as database:
        database.write(owing(1, 500))
    shutil.copyfile(path, tmp_path / "backup")
    damage(path, 0.5)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(replace, "_take_place", killed)
        with pytest.raises(KeyboardInterrupt):
            Database(path)
    shutil.copyfile(tmp_path / "backup", path)
    with closing(Database(path)) as database:
        assert queued(database) == 500
    assert not (tmp_path / "broker.db.salvaged").exists()


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_earlier_versions_are_salvaged_too(tmp_path: Path, version: int) -> None:
    path = tmp_path / "broker.db"
    with closing(sqlite3.connect(path)) as connection:
        for step in MIGRATIONS[:version]:
            connection.executescript(step)
        connection.executemany(
            "INSERT INTO retained (topic, payload, qos, properties, expires_at, publisher, origin, stamp)"
            " VALUES (?, ?, 1, x'', 0.0, 'device', '', ?)",
            [(f"t/{number}", bytes(200), number) for number in range(1000)],
        )
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()
    damage(path, 0.5)
    assert open_broker(path) > 950
    assert len(set_aside(path)) == 1


def test_node_whose_database_was_lost_takes_what_its_log_has(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path, "node", f"lost-{uuid.uuid4().hex[:8]}", mesh={"enabled": False})
    node.start()
    sleeper = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    sleeper.subscribe("kept/#", 1)
    sleeper.close()
    publisher = Client(node, "publisher")
    sent = {publisher.publish("kept/1", b"%d" % number, 1) for number in range(50)}
    wait_for(lambda: publisher.acknowledged >= sent, "all are acknowledged")
    node.kill()
    publisher.close()
    (node.folder / "data" / "broker.db").unlink()
    node.start()
    sleeper = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    wait_for(lambda: len(sleeper.received) == 50, "nothing is lost")
    sleeper.close()
    assert "it is missing, though it has a log" in node.log.read_text()
    assert node.stop() == 0
