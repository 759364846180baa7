"""Rules that say or take much: what others have of it, and how it is held within bounds."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.joint import Joint
from broker.message import Message
from broker.ports import Failure, Processed, RunResult, Stage
from plugins.host import frame
from plugins.host.engine import Limits
from plugins.host.entry import INGRESS, Entry
from plugins.host.frame import Fields, Whole
from plugins.host.pipeline import Rule
from plugins.host.voice import Voice
from plugins.job import AT_ONCE, Job
from tests.plugins import modules
from tests.plugins.bench import LIMITS, SLOW, SOMETIMES_SLOW, Bench, run_of
from tests.plugins.test_later import RENAMES

SAYS, SAYS_HEADER = modules.saying(1, frame.EMIT, b"s", b"")
EMITS_ON_BANG = f"""
  (if (i32.ne (i32.const 33) (i32.load8_u (i32.add (local.get $at)
      (i32.load offset=8 (i32.add (local.get $at) (i32.load offset=24 (local.get $at)))))))
    (then (return (i64.const 0))))
  {SAYS}
"""
"""Emits something if the first message of a batch begins with an exclamation mark."""


def entry(folder: Path, name: str, module: bytes, limits: Limits = LIMITS) -> Entry:
    path = folder / f"{name}.wasm"
    path.write_bytes(module)
    return Entry(name, INGRESS, str(path), (f"{name}/#",), limits=limits)


def saying(count: int, kind: int, first: bytes = b"x", second: bytes = b"y") -> bytes:
    return modules.module(*modules.saying(count, kind, first, second))


class Turns:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._turn()

    def _turn(self) -> None:
        self.count += 1
        self._handle = self._loop.call_soon(self._turn)

    def stop(self) -> None:
        self._handle.cancel()


async def test_much_that_was_emitted_is_told_in_several_turns(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "says", saying(1000, frame.EMIT, b"said")))
    benches.append(bench)
    told: list[tuple[int, int, int, bool]] = []
    turns = Turns()

    def then(messages: Sequence[Message], processed: Processed, now: float) -> None:
        told.append((turns.count, len(messages), len(processed.emitted), processed.more))
        assert all(message.topic == "said" for message in processed.emitted)

    bench.stages.run(Stage.INGRESS, [Message("says/1", b""), Message("says/2", b"")], 1.0, then)
    await bench.stages.drain()
    turns.stop()
    assert [messages for _, messages, _, _ in told] == [2] + [0] * (len(told) - 1), "the messages come first"
    assert sum(emitted for _, _, emitted, _ in told) == 1000
    assert max(emitted for _, _, emitted, _ in told) <= AT_ONCE
    assert [more for _, _, _, more in told] == [True] * (len(told) - 1) + [False]
    assert len({turn for turn, _, _, _ in told}) == len(told), "each in a turn of its own"


async def test_what_a_tick_emits_comes_in_several_turns_too(tmp_path: Path, benches: list[Bench]) -> None:
    said: list[int] = []

    class Around:
        def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
            said.append(len(messages))

    module = modules.ticking(modules.result(0, [(frame.EMIT, 0xFFFFFFFF, b"w", b"", 0)] * 200))
    bench = Bench(entry(tmp_path, "ticks", module))
    benches.append(bench)
    bench.stages.surroundings = Around()
    bench.stages.tick(1.0)
    await bench.stages.drain()
    assert sum(said) == 200
    assert max(said) == AT_ONCE


async def test_messages_of_many_jobs_go_on_in_several_turns(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "fine", modules.module(modules.PASSES)))
    benches.append(bench)
    seen: list[int] = []
    turns = Turns()

    def then(messages: Sequence[Message], processed: Processed, now: float) -> None:
        seen.append(turns.count)

    for _ in range(1000):
        bench.stages.run(Stage.INGRESS, [Message("fine/1", b"")], 1.0, then)
    await bench.stages.drain()
    turns.stop()
    assert len(seen) == 1000
    assert max(seen.count(turn) for turn in set(seen)) <= AT_ONCE


async def test_who_has_effects_without_end_rests(tmp_path: Path, benches: list[Bench]) -> None:
    """10,000 for each call of a message, for which there are 200 ms of rest; others go on meanwhile."""
    bench = Bench(
        entry(tmp_path, "counts", saying(10_000, frame.METRIC, b"m", b"")),
        entry(tmp_path, "fine", modules.module(modules.PASSES)),
    )
    benches.append(bench)
    for topic in ("fine/1", "counts/1"):
        bench.publish(Message(topic, b"0"))
        await bench.all_through()
    started = time.monotonic()
    for number in range(5):
        bench.publish(Message("counts/1", b"%d" % number))
        bench.publish(Message("fine/1", b"%d" % number))
        assert bench.came["fine/1"][-1] == b"%d" % number, "at once"
        await bench.stages.drain()
    assert time.monotonic() - started > 5 * 0.19
    assert len(bench.came["counts/1"]) == 6
    counts, _ = bench.stages.counters()
    assert counts["metrics"] == {"m": 0.0}
    assert counts["state"] == "ready"


def test_who_says_much_does_not_say_it_on_the_event_loop(tmp_path: Path) -> None:
    for count, is_quick in ((50, True), (300, False)):
        rule = Rule(entry(tmp_path, f"rule{count}", saying(count, frame.METRIC, b"m", b"")))
        for _ in range(50):
            rule.run([Fields(b"t", b"")], 1.0)
        assert rule.is_quick(1) == is_quick
        rule.close()


def test_who_asks_without_end_rests_too(tmp_path: Path) -> None:
    """A thousand times for one message, for which 80 are usual: 20 us for each of the others, told once."""
    rule = Rule(entry(tmp_path, "asks", modules.module(*modules.asking(1000))))
    rests = []
    for _ in range(2):
        rule.run([Fields(b"t", b"")], 1.0)
        rests += [rule.take_rest(), rule.take_rest()]
    assert rests == [pytest.approx(0.0184), 0.0] * 2
    assert not rule.is_quick(1), "nor does it ask on the event loop"
    rule.close()


@pytest.mark.parametrize(
    "module", [modules.asking(1000), modules.saying(1000, frame.METRIC, b"m", b"")], ids=["asks", "says"]
)
def test_messages_in_one_piece_have_the_rule_rest_too(tmp_path: Path, module: tuple[str, str]) -> None:
    rule = Rule(entry(tmp_path, "rule", modules.module(*module)))
    assert rule.run_whole(Whole(b"rule/t", b"ab", 2, 1, 0, b"", b""), 1.0) is not None
    assert rule.take_rest() == pytest.approx((1000 - 2 * 16 - 64) * 20e-6)
    rule.close()


def test_questions_of_a_tick_and_of_a_call_that_fails_count_too(tmp_path: Path) -> None:
    process, header = modules.asking(1000)
    traps = Rule(
        entry(tmp_path, "traps", modules.module(process.replace("(i64.const 0)", "unreachable"), header))
    )
    traps.run([Fields(b"t", b"")], 1.0)
    assert traps.take_rest() == pytest.approx(0.0184)
    traps.close()
    tick = f'(func (export "geomq_tick") (param i64) (result i64) {process})'
    ticks = Rule(entry(tmp_path, "ticks", modules.module(modules.PASSES, header + tick)))
    ticks.tick(1.0)
    assert ticks.take_rest() == pytest.approx(0.01872)
    ticks.close()


async def test_rules_that_take_long_take_turns(tmp_path: Path, benches: list[Bench]) -> None:
    """More of them than there are threads, each with work for long: another one has its turn in between."""
    hogs = [f"hog{number}" for number in range(4)]
    bench = Bench(
        *(entry(tmp_path, name, modules.module(SLOW)) for name in hogs),
        entry(tmp_path, "fine", modules.module(modules.PASSES)),
    )
    benches.append(bench)
    for name in hogs:
        bench.publish(*(Message(f"{name}/1", b"%d" % number) for number in range(800)))
    await asyncio.sleep(0)
    bench.publish(Message("fine/1", b"first of its rule, so that it needs a thread"))
    async with asyncio.timeout(20):
        while not bench.came["fine/1"]:
            await asyncio.sleep(0.001)
    done = sum(len(bench.came[f"{name}/1"]) for name in hogs)
    assert done < 4 * 800 / 2
    await bench.all_through()
    assert bench.stages._messages_waiting == bench.stages._bytes_waiting == 0
    for name in hogs:
        assert bench.came[f"{name}/1"] == [b"%d" % number for number in range(800)], (
            "none is lost, and in order"
        )


async def test_long_runs_take_turns_too(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(
        entry(tmp_path, "slow", modules.module(SLOW)), entry(tmp_path, "fine", modules.module(modules.PASSES))
    )
    benches.append(bench)
    bench.publish(Message("slow/1", b"so that it is known how slow it is"))
    await bench.all_through()
    run = run_of("slow/1", [b"%04d" % number for number in range(1000)], 4)
    came: list[bytes] = []
    more: list[bool] = []

    def then(found: RunResult, now: float) -> None:
        assert isinstance(found, Processed)
        came.extend(message.payload for message in found.messages if message is not None)
        more.append(found.more)

    bench.stages.run_ingress_later(run, "slow/1", "device", "ann", then)
    assert bench.stages._messages_waiting == 1000
    await bench.stages.drain()
    assert came == [b"%04d" % number for number in range(1000)]
    assert more == [True] * (len(more) - 1) + [False]
    assert len(more) > 3
    assert bench.stages._messages_waiting == bench.stages._bytes_waiting == 0


async def test_what_is_emitted_for_a_slow_rule_holds_publishers_up(
    tmp_path: Path, benches: list[Bench]
) -> None:
    bench = Bench(
        entry(tmp_path, "says", saying(1000, frame.EMIT, b"slow/1")),
        entry(tmp_path, "slow", modules.module(SLOW)),
    )
    benches.append(bench)
    async with asyncio.timeout(20):
        while not bench.stages.behind:
            bench.publish(Message("says/1", b""))
            await asyncio.sleep(0.01)


async def test_no_tick_while_a_slow_rule_works_on_what_was_said_in_the_last(
    tmp_path: Path, benches: list[Bench]
) -> None:
    said: list[Message] = []

    class Around:
        def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
            said.extend(messages)

    module = modules.ticking(modules.result(0, [(frame.EMIT, 0xFFFFFFFF, b"slow/1", b"", 0)] * 300))
    bench = Bench(entry(tmp_path, "ticks", module), entry(tmp_path, "slow", modules.module(SLOW)))
    benches.append(bench)
    bench.stages.surroundings = Around()
    for _ in range(20):
        bench.stages.tick(1.0)
        await asyncio.sleep(0.002)
    assert bench.stages._messages_waiting <= 300
    await bench.stages.drain()
    assert len(said) == 300
    bench.stages.tick(1.0)
    await bench.stages.drain()
    assert len(said) == 600


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 100])
def test_parts_of_a_job_are_the_job(size: int) -> None:
    """Ten messages, and five more that were emitted: each is told once, and who waits knows when that was the last."""
    batch = [Message(f"t/{number}", bytes(number)) for number in range(10)]
    emitted = [Message("e", b"%d" % number) for number in range(5)]
    told: list[tuple[list[Message], list[Message], list[int], bool]] = []

    def then(originals: Sequence[Message], processed: Processed, now: float) -> None:
        assert len(originals) == len(processed.messages)
        failed = [int(originals[place].topic[2:]) for place in processed.failed or ()]
        told.append((list(originals), processed.emitted, failed, processed.more))

    job = Job(Stage.STORE, batch, then)
    job.messages += emitted
    job.messages[4] = None
    job.failed = {4: Failure("rule", "why")}
    job.named = {0, 5, 9, 12}
    job.at, job.sources = 3, {7}
    places = [1, 2, 3, 5, 6, 8, 9, 10, 12, 13, 14]
    parts = job.parts(places, size)
    chosen = [[part.messages[place] for place in found] for part, found in parts]
    assert [message for found in chosen for message in found] == [job.messages[place] for place in places]
    assert all(len(found) == size for found in chosen[:-1])
    assert sum(len(part.kept()) for part, _ in parts) == 4
    assert {(part.at, *part.sources, part.stage) for part, _ in parts} == {(3, 7, Stage.STORE)}
    for part, _ in parts:
        assert not part.tell(1.0)
    assert [message for originals, _, _, _ in told for message in originals] == batch
    assert [message for _, said, _, _ in told for message in said] == emitted
    assert [place for _, _, failed, _ in told for place in failed] == [4]
    waits = Joint(None, len(batch))
    for number, (originals, _, _, more) in enumerate(told):
        waits.expect(more)
        waits.arrived(len(originals) or 1)
        assert waits.left > 0 or number == len(told) - 1
    assert waits.left == 0


def test_log_flood_leaves_a_hundred_lines_and_how_many_more_there_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule = Rule(entry(tmp_path, "shouts", saying(5000, frame.LOG, b"error", b"look at me")))
    with caplog.at_level(logging.INFO, "geomq.plugins"):
        rule.run([Fields(b"t", b"")], 1.0)
        assert 100 <= caplog.text.count("look at me") <= 110
        time.sleep(1.1)
        rule.run([Fields(b"t", b"")], 1.0)
    assert 101 <= caplog.text.count("look at me") <= 120
    found = re.search(r"rule shouts: (\d+) lines were left out", caplog.text)
    assert found
    assert 4890 <= int(found[1]) <= 4900
    rule.close()


def test_voice() -> None:
    voice = Voice()
    assert [voice.may_speak(0.0) for _ in range(102)] == [True] * 100 + [False] * 2
    assert not voice.may_speak(0.9)
    assert voice.may_speak(1.0)
    assert voice.take_unheard() == 3
    assert voice.take_unheard() == 0
    assert [voice.may_speak(1e6) for _ in range(101)] == [True] * 100 + [False]


ROOMY = modules.HEADER.replace('"memory") 2', '"memory") 32').replace(
    "(i32.const 4096)", "(i32.const 0x100000)"
)
"""For batches of any size."""


def wat(folder: Path, name: str, process: str, *topics: str) -> Entry:
    path = folder / f"{name}.wasm"
    path.write_bytes(modules.module(process, SAYS_HEADER if process is EMITS_ON_BANG else ROOMY))
    return Entry(name, INGRESS, str(path), topics, limits=LIMITS)


async def busy(bench: Bench, topic: str) -> None:
    """Have the slow rule of a topic at work for long."""
    bench.publish(Message(topic, b"so that it is known how slow it is"))
    await bench.all_through()
    bench.publish(*(Message(topic, b"%d" % number) for number in range(1000)))
    await asyncio.sleep(0.01)


async def test_topics_that_rules_give_and_what_they_emit_wait_for_no_strangers(
    tmp_path: Path, benches: list[Bench]
) -> None:
    """A rule behind them has a queue, of other topics."""
    bench = Bench(
        wat(tmp_path, "names", RENAMES, "raw"),
        entry(tmp_path, "says", saying(3, frame.EMIT, b"said")),
        wat(tmp_path, "slow", SLOW, "slow/#"),
    )
    benches.append(bench)
    for _ in range(3):
        bench.publish(Message("raw", b"x"), Message("says/1", b""))
        await bench.all_through()
    await busy(bench, "slow/1")
    bench.publish(Message("raw", b"y"), Message("says/1", b"z"))
    assert bench.came["y"] == [b"y"]
    assert bench.came["says/1"][-1] == b"z"
    assert len(bench.came["said"]) == 12
    assert len(bench.came["slow/1"]) < 900


async def test_runs_of_a_quick_rule_need_no_thread_while_another_one_is_busy(
    tmp_path: Path, benches: list[Bench]
) -> None:
    bench = Bench(
        wat(tmp_path, "names", RENAMES, "raw"),
        entry(tmp_path, "fine", modules.module(modules.PASSES)),
        wat(tmp_path, "slow", SLOW, "slow/#", "s"),
    )
    benches.append(bench)
    for _ in range(3):
        bench.publish(*[Message("fine/1", b"")] * 200, *[Message("raw", b"x")] * 200)
        await bench.all_through()
    await busy(bench, "slow/1")
    assert bench.stages.at_once("fine/1") > 0
    assert bench.stages.run_ingress(run_of("fine/1", [b"1", b"2"], 4), "fine/1", "", "", 1.0) == []
    heard: list[bytes] = []

    class Around:
        def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
            assert stage is Stage.INGRESS
            heard.extend(message.payload for message in messages)

    bench.stages.surroundings = Around()
    found = bench.stages.run_ingress(run_of("raw", [b"s1", b"n2", b"s3"], 4), "raw", "", "", 1.0)
    assert found == Processed([], []), "they have to wait for the rule of what two of them are now"
    await bench.stages.drain()
    assert heard == [b"s1", b"n2", b"s3"]
    assert bench.stages._messages_waiting == bench.stages._bytes_waiting == 0


async def test_nothing_overtakes_what_waits_for_a_slow_rule_because_of_what_was_emitted(
    tmp_path: Path, benches: list[Bench]
) -> None:
    """A rule emits for one message, and not for the next one of the same topic."""
    bench = Bench(wat(tmp_path, "bang", EMITS_ON_BANG, "raw"), wat(tmp_path, "slow", SLOW, "s"))
    benches.append(bench)
    for _ in range(2):
        bench.publish(Message("raw", b"1"), Message("s", b"1"))
        await bench.all_through()
    await busy(bench, "s")
    bench.came.clear()
    for number in range(5):
        bench.publish(Message("raw", b"!%d" % number))
        bench.publish(Message("raw", b"%d" % number))
    await bench.all_through()
    assert bench.came["raw"] == [b"!0", b"0", b"!1", b"1", b"!2", b"2", b"!3", b"3", b"!4", b"4"]
    assert bench.came["s"].count(b"") == 5


class Ordered(Bench):
    """Remembers in which order payloads come out."""

    def __init__(self, *entries: Entry) -> None:
        super().__init__(*entries)
        self.order: list[bytes] = []

    def _take_result(self, topic: str, payloads: Sequence[bytes], result: RunResult) -> None:
        if not isinstance(result, Processed):
            self.order += [payload for payload in result or payloads if payload is not None]
        super()._take_result(topic, payloads, result)

    def _take(self, message: Message | None) -> None:
        if message is not None and message.payload:
            self.order.append(message.payload)
        super()._take(message)


@pytest.mark.parametrize("seed", range(8))
async def test_messages_of_one_topic_come_out_in_order_whatever_they_become(
    tmp_path: Path, benches: list[Bench], seed: int
) -> None:
    """In runs and one by one; some get a topic with a slow rule, some emit a message for it, others are of it."""
    bench = Ordered(
        wat(tmp_path, "bang", EMITS_ON_BANG, "a", "b"),
        wat(tmp_path, "names", RENAMES, "b", "c"),
        wat(tmp_path, "slow", SLOW, "s"),
        wat(tmp_path, "sometimes", SOMETIMES_SLOW, "n"),
    )
    benches.append(bench)
    chance = random.Random(seed)
    sent: dict[str, list[bytes]] = {topic: [] for topic in "abcs"}
    for number in range(150):
        topic = chance.choice("abcs")
        count = chance.choice([1, 1, 3, 70])
        payloads = [
            b"%c%s%04d%02d" % (chance.choice(b"!sn"), topic.encode(), number, part) for part in range(count)
        ]
        sent[topic] += payloads
        if chance.random() < 0.5:
            bench.publish_run(topic, payloads)
        else:
            bench.publish(*(Message(topic, payload) for payload in payloads))
        if chance.random() < 0.3:
            await asyncio.sleep(0.002 * chance.random())
    await bench.all_through()
    for topic, payloads in sent.items():
        assert [payload for payload in bench.order if payload[1:2] == topic.encode()] == payloads
    assert bench.stages._messages_waiting == bench.stages._bytes_waiting == 0
    assert not any(post._order for post in bench.stages._posts[Stage.INGRESS])


async def test_the_event_loop_gets_the_interpreter_sooner_while_rules_work_on_threads(
    tmp_path: Path, benches: list[Bench]
) -> None:
    usual = sys.getswitchinterval()
    bench = Bench(wat(tmp_path, "slow", SLOW, "slow/#"), wat(tmp_path, "slower", SLOW, "slower"))
    benches.append(bench)
    bench.publish(*(Message(topic, b"") for topic in ("slow/1", "slower") for _ in range(100)))
    assert sys.getswitchinterval() == pytest.approx(0.0001)
    await bench.all_through()
    assert sys.getswitchinterval() == pytest.approx(usual)
