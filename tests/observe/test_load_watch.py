"""The node's own memory, how much it may have, and the two lines about an overload."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from broker.observe.load_watch import LoadWatch
from broker.observe.memory import give_back, resident_memory, usable_memory
from broker.stats import Stats


def test_memory_that_may_be_used(tmp_path: Path) -> None:
    own = tmp_path / "own"
    nothing = tmp_path / "none"
    machine = usable_memory(nothing, own)
    assert machine > 64 << 20
    own.write_text("0::/system.slice/geomq.service\n")
    groups = tmp_path / "cgroup"
    service = groups / "system.slice" / "geomq.service"
    service.mkdir(parents=True)
    (service / "memory.max").write_text("max\n")
    assert usable_memory(groups, own) == machine
    (service.parent / "memory.max").write_text(f"{64 << 20}\n")
    assert usable_memory(groups, own) == 64 << 20, "what is around it bounds it, too"
    (service / "memory.max").write_text(f"{32 << 20}\n")
    assert usable_memory(groups, own) == 32 << 20


def test_memory_of_a_container_under_the_older_control_groups(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{48 << 20}\n")
    assert usable_memory(tmp_path, own) == 48 << 20, "the host's path is not seen here"


def test_freed_memory_is_given_back() -> None:
    freed = [bytes(2000) for _ in range(50_000)]
    kept = freed[::1000]
    before = resident_memory()
    freed.clear()
    give_back()
    assert resident_memory() < before - (50 << 20)
    assert len(kept) == 50


def test_overload_is_told_when_it_begins_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "geomq")
    stats = Stats()
    watch = LoadWatch(None, 1.0, stats)
    assert not watch.look(0.0, 0.0), "by default there is room"
    watch.change(1 << 20, 1.0)
    assert [watch.look(0.0, float(now)) for now in range(1, 4)] == [True] * 3
    stats.limited_overload += 7
    watch.change(0, 1.0)
    assert [watch.look(0.0, float(now)) for now in range(4, 7)] == [False] * 3
    begin, end = [record.getMessage() for record in caplog.records]
    assert begin.startswith("overloaded (memory ")
    assert "MiB of 1 MiB, event loop late by 0.00 s of 1 s): new clients are refused (0x89)" in begin
    assert end.startswith("no longer overloaded (memory ")
    assert end.endswith("): 7 clients were refused")
