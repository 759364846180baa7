"""The outbox: what waits for other nodes, on disk, through crashes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from edge_mesh.outbox import Outbox
from edge_mesh.outbox_store import Entry, OutboxError, OutboxStore, Row
from edge_mesh.outbox_watch import OutboxWatch
from edge_mesh.settings import MeshSettings
from tests.mesh.fakes import until


async def opened(
    path: Path | None, retention: float = 1000.0, capacity: int = 1 << 20, wall: float = 100.0
) -> Outbox:
    outbox = Outbox(path, retention, capacity, wall=lambda: wall)
    outbox.start(asyncio.get_running_loop())
    return outbox


async def read(outbox: Outbox, destination: str, after: int = 0, max_bytes: int = 1 << 20) -> list[Row]:
    found: list[list[Row]] = []
    outbox.read(destination, after, max_bytes, found.append)
    await until(lambda: found, "the rows are read")
    return found[0]


async def add(outbox: Outbox, *entries: Entry) -> None:
    safe: list[bool] = []
    outbox.add(entries, lambda: safe.append(True))
    await until(lambda: safe, "they are safe")


async def test_what_is_safe_survives(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = await opened(path)
    await add(outbox, Entry(b"one", 0.0, (("b", 1), ("c", 1))), Entry(b"two", 0.0, (("b", 2),)))
    outbox.remember_peer("b", "us")
    outbox.save_interest("b", ["x/#"], [])
    epoch, first = outbox.epoch, outbox.first_sequence
    await outbox.close()
    again = await opened(path)
    assert again.epoch == epoch
    assert again.first_sequence > first
    assert [row.record for row in await read(again, "b")] == [b"one", b"two"]
    assert [row.record for row in await read(again, "c")] == [b"one"]
    assert [(peer.name, peer.region, peer.topic_filters) for peer in again.known_peers] == [
        ("b", "us", ("x/#",)),
        ("c", "", ()),
    ]
    again.acknowledge("b", 1)
    assert [row.record for row in await read(again, "b")] == [b"two"]
    assert [row.record for row in await read(again, "c")] == [b"one"], "kept for the other destination"
    assert again.ledger("b").as_dict()["acknowledged"] == 1
    await again.close()


async def test_what_everybody_has_is_safe_and_not_written() -> None:
    outbox = Outbox(None, 1000.0, 1 << 20, linger=5.0)
    outbox.start(asyncio.get_running_loop())
    outbox.acknowledge("b", 0)
    safe: list[bool] = []
    outbox.add([Entry(b"one", 0.0, (("b", 1),))], lambda: safe.append(True))
    outbox.acknowledge("b", 1)
    assert safe == [True]
    assert await read(outbox, "b") == []
    assert outbox.ledger("b").acknowledged == 1
    await outbox.close()


async def test_free_space_goes_back_to_the_file_system(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = await opened(path, capacity=1 << 30)
    await add(outbox, *(Entry(bytes(10_000), 0.0, (("b", number),)) for number in range(1, 1001)))
    assert _pages(path) > 2400
    outbox.acknowledge("b", 1000)
    await until(lambda: _pages(path) <= 1100, "it is given back")
    await outbox.close()
    assert path.stat().st_size < 5_000_000


def _pages(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as reader:
        return int(reader.execute("PRAGMA page_count").fetchone()[0])


async def test_reads_are_bounded(tmp_path: Path) -> None:
    outbox = await opened(tmp_path / "outbox.db")
    await add(outbox, *(Entry(bytes(100), 0.0, (("b", number),)) for number in range(1, 11)))
    assert [row.sequence for row in await read(outbox, "b", 3, 250)] == [4, 5, 6]
    assert len(await read(outbox, "b", 0, 1)) == 1
    await outbox.close()


async def test_age_expiry_and_size_bound_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = await opened(path, wall=100.0)
    await add(outbox, Entry(b"old", 0.0, (("b", 1),)), Entry(b"expires", 150.0, (("b", 2),)))
    await outbox.close()
    later = await opened(path, wall=160.0)
    await add(later, Entry(b"new", 0.0, (("b", 3),)))
    later.prune()
    assert [row.record for row in await read(later, "b")] == [b"old", b"new"]
    assert later.ledger("b").expired == 1
    await later.close()
    much_later = await opened(path, retention=1000.0, wall=1120.0)
    much_later.prune()
    assert [row.record for row in await read(much_later, "b")] == [b"new"]
    assert much_later.ledger("b").age == 1
    assert much_later.ledger("b").balanced
    await much_later.close()
    small = await opened(path, capacity=250, wall=170.0)
    await add(small, *(Entry(bytes(100), 0.0, (("b", number),)) for number in range(10, 15)))
    assert [row.sequence for row in await read(small, "b")] == [13, 14]
    assert small.ledger("b").overflow == 4
    assert small.ledger("b").balanced
    await small.close()


async def test_backlog_that_has_waited_for_half_of_the_retention_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    path = tmp_path / "outbox.db"
    outbox = Outbox(path, 1000.0, 1 << 20, wall=lambda: now, steady=lambda: now)
    outbox.start(asyncio.get_running_loop())
    watch = OutboxWatch(outbox)
    settings = MeshSettings("a", "r", tmp_path, retention_seconds=1000.0, outbox_bytes=1 << 20)
    await add(outbox, Entry(b"waits", 0.0, (("b", 1), ("c", 1))))
    now = 300.0
    await add(outbox, Entry(b"later", 0.0, (("b", 2),)))
    outbox.acknowledge("c", 1)
    for now in (600.0, 601.0, 602.0):
        outbox.prune()
        await read(outbox, "b")
        watch.look(settings, ("b", "c"))
        assert caplog.text.count("what waits for node b has waited for 501 s") == (now > 600.0)
    assert outbox.backlog_age("b") == 502.0
    assert outbox.backlog_age("c") == 0.0
    assert watch.status(settings)["alarms"] == {
        "filled": False,
        "dropping": False,
        "late": ["b"],
        "raised": 1,
    }
    await outbox.close()
    again = Outbox(path, 1000.0, 1 << 20, wall=lambda: 700.0)
    assert again.backlog_age("b") == 600.0
    await again.close()


async def test_clock_that_is_set_lets_nothing_expire(tmp_path: Path) -> None:
    now = {"wall": 100.0, "steady": 5.0}
    outbox = Outbox(
        tmp_path / "outbox.db", 1000.0, 1 << 20, wall=lambda: now["wall"], steady=lambda: now["steady"]
    )
    outbox.start(asyncio.get_running_loop())
    await add(outbox, Entry(b"waits", 0.0, (("b", 1),)), Entry(b"expires", 150.0, (("b", 2),)))
    assert outbox.prune() == 0.0
    now["wall"] += 1e9
    assert outbox.prune() == pytest.approx(1e9), "those who ask how long a node has been away are told"
    assert [row.record for row in await read(outbox, "b")] == [b"waits", b"expires"]
    now["wall"] += 60.0
    now["steady"] += 60.0
    outbox.prune()
    assert [row.record for row in await read(outbox, "b")] == [b"waits"]
    now["wall"] += 1000.0
    now["steady"] += 1000.0
    outbox.prune()
    assert await read(outbox, "b") == []
    await outbox.close()


def test_full_disk_counts_nothing_twice(tmp_path: Path) -> None:
    store = OutboxStore(tmp_path / "outbox.db")
    entries = [Entry(bytes(3000), 0.0, (("b", number),)) for number in range(1, 101)]
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count={pages + 20}")
    store.begin()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.add(entries, 100.0, {})
    assert not store._db.in_transaction, "SQLite has rolled back by itself"
    store.rollback()
    assert "b" not in store.ledgers()
    store._db.execute("PRAGMA max_page_count=100000")
    store.begin()
    store.add(entries, 100.0, {})
    store.commit()
    ledger = store.ledgers()["b"]
    assert (ledger.accepted, ledger.queued) == (100, 100)
    store.close()


@pytest.mark.parametrize("how", ["middle", "header"])
async def test_damaged_outbox_is_set_aside_and_salvaged(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outbox.db"
    outbox = await opened(path)
    await add(outbox, *(Entry(bytes(300), 0.0, (("b", number),)) for number in range(1, 2001)))
    epoch = outbox.epoch
    await outbox.close()
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 4096 * 4096 if how == "middle" else 0
    data[at : at + 40960] = b"\xff" * 40960
    path.write_bytes(data)
    again = await opened(path, wall=101.0)
    (aside,) = tmp_path.glob("outbox.db.damaged-*[0-9]")
    assert aside.read_bytes() == bytes(data)
    assert str(aside) in caplog.text
    rows = await read(again, "b")
    assert (len(rows) > 500) == (how == "middle")
    assert (again.epoch == epoch) == (how == "middle"), "who lost the numbers begins a new count"
    await again.close()


async def test_epoch_of_a_destination_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = await opened(path)
    assert outbox.epoch == outbox.epoch_for("b") == 100 * 10**9
    outbox.keep_epoch("b", 1 << 61)
    assert outbox.epoch_for("b") == 1 << 61
    await outbox.close()
    again = await opened(path, wall=101.0)
    assert (again.epoch_for("b"), again.epoch_for("c")) == (1 << 61, 100 * 10**9)
    await again.close()


async def test_crossings_are_known_until_they_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = await opened(path)
    # The second one was dropped by a rule that said the first.
    await add(
        outbox, Entry(b"said", 0.0, (("b", 1),), 7), Entry(b"", 0.0, (), 8), Entry(b"m", 0.0, (("b", 2),), 9)
    )
    outbox.forget_crossed([9])
    await outbox.close()
    again = await opened(path)
    assert sorted(again.crossed) == [7, 8]
    assert [row.record for row in await read(again, "b")] == [b"said", b"m"]
    assert again.bytes == 5
    assert again.ledger("b").accepted == 2
    await again.close()


async def test_unusable_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.mkdir()
    with pytest.raises(OutboxError, match="cannot be opened"):
        Outbox(path, 1.0, 1)


def test_what_is_acknowledged_in_time_costs_no_commit_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    store = OutboxStore(path)
    store.begin()
    store.add([Entry(b"m", 0.0, (("b", 1),))], 1.0, {"b": 1})
    store.commit()
    before = path.with_name("outbox.db-wal").stat().st_size
    for number in range(2, 100):
        store.begin()
        store.add([Entry(b"m", 0.0, (("b", number),))], 1.0, {"b": number})
        store.acknowledge("b", number)
        store.commit()
    assert path.with_name("outbox.db-wal").stat().st_size == before
    assert store.ledgers()["b"].acknowledged == 99
    store.close()
    again = OutboxStore(path)
    ledger = again.ledgers()["b"]
    assert (ledger.accepted, ledger.acknowledged, ledger.queued) == (99, 99, 0)
    again.close()


def test_counters_survive_a_transaction_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    store = OutboxStore(path)
    for number in (1, 2, 3):
        store.begin()
        store.add([Entry(b"m", 0.0, (("b", number),))], 1.0, {"b": number})
        if number == 2:
            store.rollback()
        else:
            store.commit()
    store.close()
    again = OutboxStore(path)
    assert (again.ledgers()["b"].accepted, again.ledgers()["b"].acknowledged) == (2, 2)
    again.close()


def test_clock_that_was_set_back_while_the_node_was_down_prolongs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    store = OutboxStore(path)
    store.begin()
    store.add([Entry(b"m", time.time() + 1e6 + 60.0, (("b", 1),))], time.time() + 1e6, {})
    store.commit()
    store.close()
    ahead = time.time() + 1e6
    os.utime(path, (ahead, ahead))
    store = OutboxStore(path)
    store.begin()
    store.prune(time.time() + 50.0, 1000.0)
    assert store.read("b", 0, 100)
    store.prune(time.time() + 70.0, 1000.0)
    assert not store.read("b", 0, 100)
    store.commit()
    store.close()
