"""The database: what is written is read again; damage, newer schemas and strange files are told, and lose nothing."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.message import Message
from broker.store.database import Database, StoreError


def kept(topic: str, payload: bytes = b"x", stamp: int = 1, **more: object) -> Message:
    return Message(topic, payload, 1, True, stamp=stamp, **more)  # type: ignore[arg-type]


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
        database.save(group)
        expected |= {message.topic: facts(message) for message in group}
        database.close()
    database = Database(path)
    assert {message.topic: facts(message) for message in database.retained()} == expected
    database.close()


def test_what_has_expired_is_forgotten(tmp_path: Path) -> None:
    database = Database(tmp_path / "broker.db")
    database.save(
        [
            kept("old", expires_at=100.0),
            kept("new", expires_at=300.0),
            kept("for ever"),
            kept("deleted long ago", b"", stamp=5),
            kept("deleted", b"", stamp=15),
        ]
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
    database.save([kept(f"t/{number:05}", bytes(200)) for number in range(2000)])
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
    assert f"{len(saved)} retained messages could be read" in caplog.text
    assert (len(saved) > 500) == (how in ("middle", "cut"))
    database.save([kept("t/new")])
    database.close()
    Database(path).close()


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
