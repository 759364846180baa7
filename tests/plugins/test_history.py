"""The local history: real SQLite on disk."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.message import Message
from plugins.store.history import History, HistoryError

NOW = 4_000_000_000.0
"""Later than any clock that runs this: nothing is too old."""


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    made = History(tmp_path / "data" / "history.db", 3600, 1 << 20)
    yield made
    made.close()


def payloads(history: History, topic_filter: str, **bounds: float) -> list[bytes]:
    return [stored.payload for stored in history.query(topic_filter, **bounds)]  # type: ignore[arg-type]


def test_newest_of_matching_topics_oldest_first(history: History) -> None:
    for number in range(10):
        history.append([Message(f"t/{number % 2}", b"%d" % number), Message("other", b"x")], NOW + number)
    assert payloads(history, "t/0") == [b"0", b"2", b"4", b"6", b"8"]
    assert payloads(history, "t/+", last=3) == [b"7", b"8", b"9"]
    assert payloads(history, "t/#", since=NOW + 2, until=NOW + 4) == [b"2", b"3", b"4"]
    assert payloads(history, "#", last=2) == [b"9", b"x"]
    assert payloads(history, "nothing/#") == []


def test_everything_of_a_message_is_kept(history: History) -> None:
    history.append([Message("t", b"\x00\xff", 2, True, b"\x01\x01", 0.0, "device", user="ann")], NOW)
    (stored,) = history.query("t")
    assert stored == ("t", NOW, b"\x00\xff", 2, True, b"\x01\x01", "device", "ann")
    assert history.stats()["messages"] == 1


def test_dollar_topics_are_spared_by_wildcards(history: History) -> None:
    history.append([Message("$app/x", b"1"), Message("a", b"2")], NOW)
    assert payloads(history, "#") == [b"2"]
    assert payloads(history, "$app/#") == [b"1"]


def test_it_survives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    first = History(path, 3600, 1 << 20)
    first.append([Message("t", b"kept")], NOW)
    first.close()
    second = History(path, 3600, 1 << 20)
    assert payloads(second, "t") == [b"kept"]
    assert second.stats()["oldest"] == NOW
    second.close()


def test_retention_by_age(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    first = History(path, 1e12, 1 << 20)
    first.append([Message("t", b"old")], 1000.0)
    first.append([Message("t", b"new")], NOW)
    first.close()
    second = History(path, 3600, 1 << 20)
    second.flush()
    assert payloads(second, "t") == [b"new"]
    second.close()


def test_retention_by_bytes_deletes_the_oldest(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", 3600, 100_000)
    for number in range(300):
        history.append([Message("t", b"%04d" % number + bytes(996))], NOW + number)
    history.flush()
    history.append([Message("t", b"last")], NOW + 300)
    found = payloads(history, "t")
    assert found[-1] == b"last"
    assert 50 < len(found) <= 95
    assert [payload[:4] for payload in found[:-1]] == [b"%04d" % n for n in range(301 - len(found), 300)]
    assert history.stats()["bytes"] <= 100_000
    history.close()


def test_other_bounds_hold_soon(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", 3600, 1 << 30)
    history.append([Message("t", b"%04d" % number + bytes(996)) for number in range(300)], NOW)
    history.append([Message("old", b"100 s")], time.time() - 100)
    assert payloads(history, "old") == [b"100 s"]
    history.bound(50, 1 << 30)
    assert payloads(history, "old") == []
    assert len(payloads(history, "t")) == 300
    history.bound(50, 100_000)
    assert 50 < len(payloads(history, "t")) <= 95
    history.close()


def test_whoever_asks_while_it_is_closed_is_answered(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", 3600, 1 << 20)
    history.append([Message("t", b"kept")], NOW)
    history.close()
    assert payloads(history, "t") == [b"kept"]


def test_unusable_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.mkdir()
    with pytest.raises(HistoryError, match="cannot be opened: unable to open database file"):
        History(path, 1, 1)
    path.rmdir()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(HistoryError, match="has format 99"):
        History(path, 1, 1)


@pytest.mark.parametrize("how", ["middle", "header"])
def test_damaged_history_is_set_aside_and_salvaged(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "history.db"
    history = History(path, 3600, 1 << 30)
    history.append([Message("t", bytes(300)) for _ in range(2000)], NOW)
    history.close()
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 4096 * 4096 if how == "middle" else 0
    data[at : at + 40960] = b"\xff" * 40960
    path.write_bytes(data)
    again = History(path, 3600, 1 << 30)
    (aside,) = tmp_path.glob("history.db.damaged-*[0-9]")
    assert aside.read_bytes() == bytes(data)
    assert str(aside) in caplog.text
    again.append([Message("t", b"new")], NOW)
    found = payloads(again, "t")
    assert found[-1] == b"new"
    assert (len(found) > 500) == (how == "middle")
    again.close()


def test_disk_error_is_told_and_counted_and_the_node_goes_on(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    history.append([Message("t", b"first")], NOW)
    history.flush()
    blocker = sqlite3.connect(history.stats()["path"], isolation_level=None)
    blocker.execute("ALTER TABLE message RENAME TO hidden")
    history.append([Message("t", b"lost")], NOW)
    history.flush()
    assert history.stats()["dropped"] == 1
    assert "no such table" in history.stats()["last_error"]
    assert "cannot be written" in caplog.text
    blocker.execute("ALTER TABLE hidden RENAME TO message")
    blocker.close()
    history.append([Message("t", b"second")], NOW)
    assert payloads(history, "t") == [b"first", b"second"]


def test_who_published_is_kept_and_older_files_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    first = History(path, 3600, 1 << 20)
    first.append([Message("t", b"1", publisher="device", user="ann")], NOW)
    first.close()
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE message DROP COLUMN user")
    db.execute("PRAGMA user_version=1")
    db.close()
    second = History(path, 3600, 1 << 20)
    second.append([Message("t", b"2", publisher="device", user="bob")], NOW)
    assert [(found.payload, found.user) for found in second.query("t")] == [(b"1", ""), (b"2", "bob")]
    second.close()


def test_damaged_file_of_an_earlier_version_is_salvaged(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    first = History(path, 1e12, 1 << 30)
    first.append([Message("t", bytes(300)) for _ in range(2000)], NOW)
    first.close()
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE message DROP COLUMN user")
    db.execute("PRAGMA user_version=1")
    db.close()
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 4096 * 4096
    data[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    again = History(path, 1e12, 1 << 30)
    again.append([Message("t", b"new", user="ann")], NOW)
    found = again.query("t")
    assert len(found) > 1900
    assert {stored.user for stored in found[:-1]} == {""}
    assert found[-1].user == "ann"
    again.close()
