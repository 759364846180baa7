"""Other rules while messages are on their way: none is lost, doubled or overtaken."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.message import Message
from plugins.host.entry import INGRESS, Entry
from tests.plugins import modules
from tests.plugins.bench import LIMITS, SLOW, Bench


def write(path: Path, code: bytes) -> None:
    """Put a file in another one's place at once, as an installer should, and not within its time stamp's grain."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(code)
    stamp = time.time_ns()
    os.utime(fresh, ns=(stamp, stamp))
    fresh.replace(path)


def says(text: bytes) -> bytes:
    """A module that puts a byte in the place of the first of each payload: messages of up to 256 in a batch."""
    return modules.module(
        MARKS.replace("MARK", str(text[0])), modules.HEADER.replace('"memory") 2', '"memory") 4')
    )


MARKS = """
  (local $i i32) (local $n i32) (local $entry i32) (local $change i32) (local $source i32) (local $to i32)
  (local.set $n (i32.load offset=4 (local.get $at)))
  (i32.store (i32.const 100000) (i32.const 0x31524D47))
  (i32.store (i32.const 100004) (local.get $n))
  (i32.store (i32.const 100008) (i32.const 32))
  (i32.store (i32.const 100012) (local.get $n))
  (i32.store (i32.const 100016) (i32.add (i32.const 32) (local.get $n)))
  (i64.store (i32.const 100020) (i64.const 0))
  (i32.store (i32.const 100028) (i32.const 0))
  (memory.fill (i32.const 100032) (i32.const 2) (local.get $n))
  (local.set $change (i32.add (i32.const 100032) (local.get $n)))
  (local.set $to (i32.add (local.get $change) (i32.mul (local.get $n) (i32.const 40))))
  (local.set $entry (i32.add (local.get $at) (i32.load offset=24 (local.get $at))))
  (loop $next
    (memory.fill (local.get $change) (i32.const 0) (i32.const 40))
    (i32.store (local.get $change) (local.get $i))
    (i32.store offset=4 (local.get $change) (i32.const 2))
    (i32.store offset=16 (local.get $change) (i32.sub (local.get $to) (i32.const 100000)))
    (i32.store offset=20 (local.get $change) (i32.load offset=12 (local.get $entry)))
    (memory.copy (local.get $to) (i32.add (local.get $at) (i32.load offset=8 (local.get $entry)))
      (i32.load offset=12 (local.get $entry)))
    (i32.store8 (local.get $to) (i32.const MARK))
    (local.set $to (i32.add (local.get $to) (i32.load offset=12 (local.get $entry))))
    (local.set $change (i32.add (local.get $change) (i32.const 40)))
    (local.set $entry (i32.add (local.get $entry) (i32.load offset=32 (local.get $at))))
    (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
  (i64.or (i64.shl (i64.const 100000) (i64.const 32))
    (i64.extend_i32_u (i32.sub (local.get $to) (i32.const 100000))))
"""


class Traffic:
    """Publishes numbers without end, on several topics; says whether all came out in order."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._task = asyncio.create_task(self._run())
        self.sent = 0

    async def _run(self) -> None:
        while True:
            for topic in ("a/1", "a/2", "b"):
                self._bench.publish(
                    Message(topic, b"-%06d" % self.sent), Message(topic, b"-%06d" % (self.sent + 1))
                )
            self.sent += 2
            await asyncio.sleep(0.0005)

    async def more(self, count: int = 100) -> None:
        """Let so many more go by."""
        goal = self.sent + count
        async with asyncio.timeout(20):
            while self.sent < goal:
                await asyncio.sleep(0.001)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._bench.all_through()

    def marks(self, topic: str) -> bytes:
        """The first bytes of what came; the numbers behind them have to be complete and in order."""
        came = self._bench.came[topic]
        assert [payload[1:] for payload in came] == [b"%06d" % number for number in range(self.sent)]
        return b"".join(payload[:1] for payload in came)


def in_order(marks: bytes, *kinds: bytes) -> None:
    """Each kind comes, and none comes back once another has come."""
    found = [bytes([mark]) for number, mark in enumerate(marks) if not number or marks[number - 1] != mark]
    assert found == list(kinds)


def entry(path: Path, *topics: str, name: str = "rule", **more: Any) -> Entry:
    return Entry(name, INGRESS, str(path), topics, limits=LIMITS, **more)


async def settled(condition: Callable[[], bool], bench: Bench) -> None:
    async with asyncio.timeout(20):
        while not condition():
            bench.stages.tick(time.time())
            await asyncio.sleep(0.01)


async def test_module_file_changes_under_traffic(tmp_path: Path, benches: list[Bench]) -> None:
    path = tmp_path / "rule.wasm"
    path.write_bytes(says(b"x"))
    bench = Bench(entry(path, "#"))
    benches.append(bench)
    traffic = Traffic(bench)
    await traffic.more()
    for mark in (b"y", b"z"):
        write(path, says(mark))
        await settled(lambda m=mark: bench.came["b"][-1].startswith(m), bench)  # type: ignore[misc]
        await traffic.more()
    await traffic.stop()
    for topic in ("a/1", "a/2", "b"):
        in_order(traffic.marks(topic), b"x", b"y", b"z")


async def test_module_that_does_not_start_leaves_the_old_one(
    tmp_path: Path,
    benches: list[Bench],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "rule.wasm"
    path.write_bytes(says(b"x"))
    bench = Bench(entry(path, "#"))
    benches.append(bench)
    traffic = Traffic(bench)
    await traffic.more()
    write(path, says(b"y")[:-10])
    await settled(lambda: "rule rule stays as it was: not a wasm module" in caplog.text, bench)
    await traffic.more()
    (figures,) = bench.stages.counters()
    assert figures["state"] == "ready"
    assert figures["last_error"].startswith("not a wasm module")
    for _ in range(3):
        bench.stages.tick(time.time())
        await traffic.more(10)
    assert caplog.text.count("stays as it was") == 1, "told once"
    write(path, says(b"z"))
    await settled(lambda: bench.came["b"][-1].startswith(b"z"), bench)
    await traffic.stop()
    in_order(traffic.marks("b"), b"x", b"z")


async def test_old_module_goes_on_after_a_trap_though_its_file_is_broken(
    tmp_path: Path,
    benches: list[Bench],
) -> None:
    path = tmp_path / "rule.wasm"
    path.write_bytes(modules.module(modules.TRAPS_ON_BANG))
    bench = Bench(entry(path, "#"))
    benches.append(bench)
    write(path, b"broken")
    for payload in (b"1", b"!", b"2"):
        bench.publish(Message("t", payload))
        await bench.all_through()
    assert bench.came["t"] == [b"1", b"2"]


async def test_rules_come_go_and_change_their_order_under_traffic(
    tmp_path: Path,
    benches: list[Bench],
) -> None:
    for mark in (b"x", b"y", b"z"):
        (tmp_path / f"{mark.decode()}.wasm").write_bytes(says(mark))
    (tmp_path / "slow.wasm").write_bytes(modules.module(SLOW))
    x, y, z, slow = (entry(tmp_path / f"{name}.wasm", "a/#", name=name) for name in ("x", "y", "z", "slow"))
    everywhere = replace(slow, topics=("#",))
    bench = Bench(slow, x, z)
    benches.append(bench)
    traffic = Traffic(bench)
    await traffic.more()
    for entries in ([slow, x, y], [y, x], [x, everywhere, y], [], [everywhere], [z, slow]):
        await bench.stages.renew(entries)
        assert [figures["name"] for figures in bench.stages.counters()] == [one.name for one in entries]
        await traffic.more()
    await traffic.stop()
    in_order(traffic.marks("a/1"), b"z", b"y", b"x", b"y", b"-", b"z")
    traffic.marks("b")


async def test_other_settings_keep_what_was_remembered(tmp_path: Path, benches: list[Bench]) -> None:
    path = tmp_path / "rule.wasm"
    path.write_bytes(modules.module(modules.PASSES))
    bench = Bench(entry(path, "#"))
    benches.append(bench)
    (post,) = bench.stages._posts[1]  # type: ignore[index]
    post.rule.state.put(b"k", b"v", 0, time.monotonic())
    await bench.stages.renew([entry(path, "#", config={"other": 1})])
    (after,) = bench.stages._posts[1]  # type: ignore[index]
    assert after.rule.state.get(b"k", time.monotonic()) == b"v"
    assert after.rule.entry.config == {"other": 1}


async def test_key_that_changes_is_read_again(
    tmp_path: Path,
    benches: list[Bench],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    path, key = tmp_path / "rule.wasm", tmp_path / "secret.key"
    path.write_bytes(modules.module(modules.PASSES))
    key.write_bytes(b"first secret")
    bench = Bench(entry(path, "#", config={"key_file": str(key)}))
    benches.append(bench)
    write(key, b"short")
    await settled(lambda: "stays as it was" in caplog.text, bench)
    write(key, b"second secret")
    await settled(lambda: "loaded again" in caplog.text, bench)
