"""What modules remember, on disk: real SQLite."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from plugins.host import frame
from plugins.host.entry import INGRESS, Entry
from plugins.host.frame import Fields
from plugins.host.pipeline import Rule
from plugins.store.rule_state import StateError, StateStore
from tests.plugins import modules


def test_values_outlive_the_process_and_lifetimes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rules.db"
    first = StateStore(path)
    state = first.open("a")
    assert first.open("a") is state
    state.put(b"for ever", b"1", 0, time.monotonic())
    state.put(b"an hour", b"2", 3_600_000, time.monotonic())
    state.put(b"a minute", b"3", 60_000, time.monotonic())
    first.open("b").put(b"for ever", b"of b", 0, time.monotonic())
    first.close()
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 120)
    second = StateStore(path)
    now = time.monotonic()
    state = second.open("a")
    assert [state.get(key, now) for key in (b"for ever", b"an hour", b"a minute")] == [b"1", b"2", None]
    assert state.get(b"an hour", now + 3_600) is None
    assert second.open("b").get(b"for ever", now) == b"of b"
    second.close()


def test_what_is_gone_and_what_is_newer_is_so_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "rules.db"
    first = StateStore(path)
    state = first.open("a")
    state.bound(2, 1000)
    for value in (b"old", b"new"):
        for key in (b"1", b"2", b"3"):
            state.put(key, value, 0, time.monotonic())
        first.flush()
    first.close()
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT key, value FROM state ORDER BY rowid").fetchall()
    assert rows == [(b"2", b"new"), (b"3", b"new")]


def test_it_is_written_without_being_asked(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "rules.db")
    store.open("a").put(b"k", b"v", 0, time.monotonic())
    deadline = time.monotonic() + 10
    with sqlite3.connect(tmp_path / "rules.db") as db:
        while db.execute("SELECT COUNT(*) FROM state").fetchone() != (1,):
            assert time.monotonic() < deadline, "not written"
            time.sleep(0.02)
    store.close()


def test_what_cannot_be_written_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = StateStore(tmp_path / "rules.db")
    store._db.execute("PRAGMA busy_timeout=1")
    other = sqlite3.connect(tmp_path / "rules.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.open("a").put(b"k", b"v", 0, time.monotonic())
    store.flush()
    store.flush()
    assert caplog.text.count("cannot be written") == 1
    other.execute("ROLLBACK")
    store.flush()
    assert other.execute("SELECT value FROM state").fetchall() == [(b"v",)]
    other.close()
    store.close()


def test_entries_that_are_no_more_are_forgotten(tmp_path: Path) -> None:
    first = StateStore(tmp_path / "rules.db")
    for name in ("a", "b"):
        first.open(name).put(b"k", b"v", 0, time.monotonic())
    first.close()
    second = StateStore(tmp_path / "rules.db")
    second.forget_all_but({"b"})
    assert second.open("a").get(b"k", 0.0) is None
    assert second.open("b").get(b"k", 0.0) == b"v"
    second.close()


def test_damaged_file_is_set_aside_and_salvaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rules.db"
    store = StateStore(path)
    for number in range(3000):
        store.open("a").put(b"%06d" % number, bytes(200), 0, time.monotonic())
    store.close()
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 4096 * 4096
    data[at : at + 8192] = b"\xff" * 8192
    path.write_bytes(data)
    again = StateStore(path)
    (aside,) = tmp_path.glob("rules.db.damaged-*[0-9]")
    assert aside.read_bytes() == bytes(data)
    assert str(aside) in caplog.text
    assert len(again.open("a")) > 0
    again.open("a").put(b"new", b"v", 0, time.monotonic())
    again.close()


def test_unusable_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "rules.db"
    path.mkdir()
    with pytest.raises(StateError, match="cannot be opened: unable to open"):
        StateStore(path)
    path.rmdir()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StateError, match="has format 99"):
        StateStore(path)


RESULT = modules.result(1, [(frame.STATE_PUT, 0, b"k", b"\0", 0)])
KEY = 8192 + len(RESULT) - 2
VALUE = KEY + 1
COUNTS = f"""
  (drop (call $get (i32.const {KEY}) (i32.const 1) (i32.const {VALUE}) (i32.const 1)))
  (if (i32.eq (i32.load8_u (i32.add (local.get $at) (i32.load offset=8
        (i32.add (local.get $at) (i32.load offset=24 (local.get $at)))))) (i32.const 33))
    (then unreachable))
  (i32.store8 (i32.const {VALUE}) (i32.add (i32.load8_u (i32.const {VALUE})) (i32.const 1)))
  (i64.const {8192 << 32 | len(RESULT)})
"""
"""Adds 1 to what it remembers, for a batch of one; traps when the payload begins with an exclamation mark."""


def test_module_goes_on_after_a_trap_and_a_restart(tmp_path: Path) -> None:
    get = '(import "geomq" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))'
    path = tmp_path / "counts.wasm"
    path.write_bytes(modules.module(COUNTS, get + modules.HEADER + modules.data(8192, RESULT)))
    for expected in (b"\2", b"\4"):
        store = StateStore(tmp_path / "rules.db")
        rule = Rule(Entry("counts", INGRESS, str(path), ("#",)), store.open("counts"))
        for payload in (b"1", b"!", b"1"):
            rule.run([Fields(b"t", payload)], 1.0)
        assert rule.figures()["traps"] == 1
        assert store.open("counts").get(b"k", time.monotonic()) == expected
        rule.close()
        store.close()
