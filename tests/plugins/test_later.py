"""Rules that take long: they hold up nobody else, and nothing overtakes on one topic."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from broker.message import Message
from broker.ports import Failure, Stage
from plugins.host.entry import EGRESS, INGRESS, STORE, Entry
from tests.plugins import modules
from tests.plugins.bench import LIMITS, SLOW, SOMETIMES_SLOW, Bench

RENAMES = """
  (local $i i32) (local $n i32) (local $entry i32) (local $change i32)
  (local.set $n (i32.load offset=4 (local.get $at)))
  (i32.store (i32.const 60000) (i32.const 0x31524D47))
  (i32.store (i32.const 60004) (local.get $n))
  (i32.store (i32.const 60008) (i32.const 32))
  (i32.store (i32.const 60012) (local.get $n))
  (i32.store (i32.const 60016) (i32.add (i32.const 32) (local.get $n)))
  (memory.fill (i32.const 60032) (i32.const 2) (local.get $n))
  (local.set $change (i32.add (i32.const 60032) (local.get $n)))
  (local.set $entry (i32.add (local.get $at) (i32.load offset=24 (local.get $at))))
  (loop $next
    (memory.fill (local.get $change) (i32.const 0) (i32.const 40))
    (i32.store (local.get $change) (local.get $i))
    (i32.store offset=4 (local.get $change) (i32.const 1))
    ;; The new topic is the first byte of the payload, put behind the changed records.
    (i32.store offset=8 (local.get $change)
      (i32.add (i32.add (i32.const 32) (i32.mul (local.get $n) (i32.const 41))) (local.get $i)))
    (i32.store offset=12 (local.get $change) (i32.const 1))
    (i32.store8 (i32.add (i32.add (i32.const 60032) (i32.mul (local.get $n) (i32.const 41))) (local.get $i))
      (i32.load8_u (i32.add (local.get $at) (i32.load offset=8 (local.get $entry)))))
    (local.set $change (i32.add (local.get $change) (i32.const 40)))
    (local.set $entry (i32.add (local.get $entry) (i32.load offset=32 (local.get $at))))
    (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
  (i64.or (i64.shl (i64.const 60000) (i64.const 32))
    (i64.extend_i32_u (i32.add (i32.const 32) (i32.mul (local.get $n) (i32.const 42)))))
"""
"""Gives each message the topic that the first byte of its payload is."""


def entry(folder: Path, name: str, process: str, *topics: str, stage: int = INGRESS) -> Entry:
    path = folder / f"{name}.wasm"
    path.write_bytes(modules.module(process))
    return Entry(name, stage, str(path), topics, limits=LIMITS)


async def test_slow_rule_does_not_hold_the_event_loop(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "slow", SLOW, "slow/#"), entry(tmp_path, "fast", modules.PASSES, "fast"))
    benches.append(bench)
    bench.publish(Message("fast", b"0"))
    await bench.all_through()
    started = time.perf_counter()
    bench.publish(*(Message("slow/1", b"%d" % number) for number in range(200)))
    assert bench.later == 200
    bench.publish(Message("fast", b"1"))
    assert bench.came["fast"] == [b"0", b"1"], "the quick rule's messages wait for nobody"
    held = time.perf_counter() - started
    await bench.all_through()
    assert bench.came["slow/1"] == [b"%d" % number for number in range(200)]
    assert held < (time.perf_counter() - started) / 3, "nor does the event loop"


async def test_quick_rule_is_run_at_once_when_that_is_known(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "fast", modules.PASSES, "#"))
    benches.append(bench)
    assert bench.publish(Message("t", b"1")).later == {0}
    assert bench.publish(Message("t", b"2")).later == {0}, "behind the first"
    await bench.all_through()
    assert not bench.publish(Message("t", b"3")).later
    assert bench.came["t"] == [b"1", b"2", b"3"]


async def test_it_is_told_which_rule_failed_on_which_message(tmp_path: Path, benches: list[Bench]) -> None:
    """At once and by threads, several jobs in one call, and what a rule drops of its own will is not told."""
    bang = entry(tmp_path, "bang", modules.TRAPS_ON_BANG, "a/#", "b")
    drops = entry(tmp_path, "drops", modules.DROPS_ALL, "b")
    forgiving = replace(bang, name="forgiving", topics=("c",), on_error="pass")
    bench = Bench(bang, drops, forgiving, entry(tmp_path, "slow", SLOW, "a/slow"))
    benches.append(bench)
    expected: list[bytes] = []
    for turn in range(6):
        messages: list[Message] = []
        for number, topic in enumerate(("a/1", "b", "c", "a/slow", "free", "a/2")):
            for mark in ("x", "!"):
                payload = f"{mark}{turn}{number}".encode()
                messages.append(Message(topic, payload))
                if mark == "!" and topic not in ("c", "free"):
                    expected.append(payload)
        for start in range(0, len(messages), 5):
            bench.publish(*messages[start : start + 5])
        if turn % 2:
            await bench.all_through()
    assert sorted(bench.failed) == [(payload, Failure("bang", "trapped")) for payload in sorted(expected)]
    assert len(bench.came["c"]) == 12
    assert not bench.came["b"]


async def test_it_is_told_of_messages_that_waited_for_other_rules(
    tmp_path: Path, benches: list[Bench]
) -> None:
    bang = entry(tmp_path, "bang", modules.TRAPS_ON_BANG, "#")
    bench = Bench(bang)
    benches.append(bench)
    bench.publish(Message("t", b"1"))
    # As while other rules are taken over.
    bench.stages._held = []
    assert len(bench.publish(Message("t", b"2"), Message("t", b"!3"), Message("u", b"4")).later) == 3
    assert bench.publish(Message("u", b"!5")).later
    await bench.stages.drain()
    bench.stages._release()
    await bench.all_through()
    assert bench.failed == [(payload, Failure("bang", "trapped")) for payload in (b"!3", b"!5")]
    assert (bench.came["t"], bench.came["u"]) == ([b"1", b"2"], [b"4"])


async def test_failing_rule_is_not_trusted_with_the_event_loop(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "poison", modules.TRAPS_ON_BANG, "#"))
    benches.append(bench)
    for payload in (b"1", b"!", b"2"):
        bench.publish(Message("t", payload))
        await bench.all_through()
    assert bench.publish(Message("t", b"3")).later
    await bench.all_through()
    assert bench.came["t"] == [b"1", b"2", b"3"]


async def test_order_is_kept_on_every_topic(tmp_path: Path, benches: list[Bench]) -> None:
    """Batches of random messages for random topics, with a rule that is sometimes slow among quick ones."""
    bench = Bench(
        entry(tmp_path, "first", modules.PASSES, "a/#", "b/#"),
        entry(tmp_path, "sometimes", SOMETIMES_SLOW, "b/#", "c/#"),
        entry(tmp_path, "last", modules.PASSES, "#"),
    )
    benches.append(bench)
    chance = random.Random(7)
    topics = [f"{letter}/{number}" for letter in "abcd" for number in range(3)]
    sent: dict[str, list[bytes]] = defaultdict(list)
    for number in range(400):
        batch = []
        for part in range(chance.randrange(1, 6)):
            topic = chance.choice(topics)
            batch.append(Message(topic, b"%d.%d" % (number, part)))
            sent[topic].append(batch[-1].payload)
        bench.publish(*batch)
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    await bench.all_through()
    assert bench.came == sent


async def test_order_is_kept_where_rules_give_other_topics(tmp_path: Path, benches: list[Bench]) -> None:
    """The new topic depends on the payload; of the new topics one has a slow rule, one has none."""
    bench = Bench(
        entry(tmp_path, "names", RENAMES, "raw"),
        entry(tmp_path, "slow", SLOW, "s"),
        entry(tmp_path, "fast", modules.PASSES, "f", "s"),
    )
    benches.append(bench)
    chance = random.Random(8)
    sent: dict[str, list[bytes]] = defaultdict(list)
    for number in range(200):
        batch = [
            Message("raw", chance.choice("snf").encode() + b"%d.%d" % (number, part))
            for part in range(chance.randrange(1, 4))
        ]
        for message in batch:
            sent[chr(message.payload[0])].append(message.payload)
        bench.publish(*batch)
        await asyncio.sleep(0)
    await bench.all_through()
    assert bench.came == sent


async def test_what_rules_emit_goes_through_slow_rules_behind_in_order(
    tmp_path: Path, benches: list[Bench]
) -> None:
    emit = {"action": "emit", "topic": "copy"}
    bench = Bench(
        entry(tmp_path, "slow-before", SOMETIMES_SLOW, "t"),
        Entry("emits", INGRESS, "rules", ("t",), {"steps": [emit]}, limits=LIMITS),
        entry(tmp_path, "slow", SOMETIMES_SLOW, "copy"),
        Entry("drops", INGRESS, "rules", ("t",), {"steps": [{"action": "drop"}]}, limits=LIMITS),
    )
    benches.append(bench)
    for number in range(100):
        bench.publish(*(Message("t", b"%d.%d" % (number, part)) for part in range(number % 3 + 1)))
        await asyncio.sleep(0)
    await bench.all_through()
    sent = [b"%d.%d" % (number, part) for number in range(100) for part in range(number % 3 + 1)]
    assert bench.came == {"copy": sent}


async def test_what_a_tick_emits_goes_through_the_rules_behind(tmp_path: Path, benches: list[Bench]) -> None:
    told: list[tuple[Stage, str, bytes]] = []

    class Around:
        def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
            told.extend((stage, message.topic, message.payload) for message in messages)

    path = tmp_path / "ticks.wasm"
    emitted = [(1, 0xFFFFFFFF, topic, b'{"name":"x"}', 0) for topic in (b"masked", b"dropped")]
    path.write_bytes(modules.ticking(modules.result(0, emitted)))
    mask = {"steps": [{"action": "redact", "path": "name"}, {"action": "drop", "when": {"topic": "dropped"}}]}
    bench = Bench(
        Entry("ticks", EGRESS, str(path), ("t",)),
        entry(tmp_path, "slow", SLOW, "masked", stage=EGRESS),
        Entry("mask", EGRESS, "rules", ("masked", "dropped"), mask),
    )
    benches.append(bench)
    bench.stages.surroundings = Around()
    bench.stages.tick(time.time())
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.002)
    await bench.stages.drain()
    assert told == [(Stage.EGRESS, "masked", b'{"name":"***"}')]


async def test_much_on_its_way_asks_publishers_to_wait(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "slow", SLOW, "#"))
    benches.append(bench)
    assert not bench.stages.behind
    bench.publish(*(Message("t", b"x") for _ in range(64)))
    assert not bench.stages.behind
    bench.publish(Message("t", bytes(17 << 20)))
    assert bench.stages.behind
    await bench.all_through()
    assert not bench.stages.behind


async def test_what_waited_is_handed_over_together(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "slow", SLOW, "#"))
    benches.append(bench)
    for number in range(100):
        bench.publish(Message("t", b"%d" % number))
    await bench.all_through()
    (figures,) = bench.stages.counters()
    assert figures["messages"] == 100
    assert figures["runs"] < 20


async def test_stop_waits_for_threads_and_for_nobody_else(tmp_path: Path) -> None:
    bench = Bench(entry(tmp_path, "slow", SLOW, "#"), entry(tmp_path, "slower", SLOW, "#"))
    for number in range(50):
        bench.publish(Message("t", b"%d" % number))
    await bench.stages.drain(0.01)
    await bench.stages.stop()
    before = dict(bench.came)
    await asyncio.sleep(0.01)
    assert dict(bench.came) == before
    assert bench.later


async def test_drain_waits_until_all_is_through(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "slow", SLOW, "#"))
    benches.append(bench)
    bench.publish(*(Message("t", b"%d" % number) for number in range(50)))
    await bench.stages.drain()
    assert len(bench.came["t"]) == 50


async def test_tick_emits_on_behalf_of_its_stage(tmp_path: Path, benches: list[Bench]) -> None:
    told: list[tuple[Stage, list[tuple[str, bytes]]]] = []

    class Around:
        def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
            told.append((stage, [(message.topic, message.payload) for message in messages]))

    entries = []
    for stage in (INGRESS, EGRESS, STORE):
        path = tmp_path / f"{stage}.wasm"
        path.write_bytes(modules.ticking(modules.result(0, [(1, 0xFFFFFFFF, b"w", b"%d" % stage, 0)])))
        entries.append(Entry(f"stage-{stage}", stage, str(path), ("#",)))
    bench = Bench(*entries)
    benches.append(bench)
    bench.stages.surroundings = Around()
    bench.stages.tick(time.time())
    async with asyncio.timeout(10):
        while len(told) < 3:
            await asyncio.sleep(0.002)
    assert sorted(told) == [(Stage(stage), [("w", b"%d" % stage)]) for stage in (1, 2, 4)]
