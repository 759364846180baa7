"""Modules that mean harm: each is contained, says why, and harms nobody beside it."""

from __future__ import annotations

import re
import resource
import time
from pathlib import Path

import pytest

from broker.message import Message
from plugins.host import frame
from plugins.host.entry import EGRESS, INGRESS, Entry
from plugins.host.frame import Fields
from plugins.host.limits import Limits
from plugins.host.pipeline import Rule
from tests.plugins import modules
from tests.plugins.bench import Bench

HOSTILE = {
    "endless loop": (modules.module(modules.LOOPS), "used up its fuel|ran past its deadline"),
    "memory bomb": (modules.module(modules.MEMORY_BOMB), "trapped"),
    "output bomb": (modules.module(modules.SPRAWLS), "a result of 4294967295 bytes"),
    "result elsewhere": (modules.module(modules.ELSEWHERE), "an address outside the memory"),
    "wild pointer": (modules.module(modules.WILD), "reached outside its memory"),
    "deep recursion": (modules.module(modules.RECURSES), "overflowed its stack"),
    "trap": (modules.module(modules.TRAPS), "trapped"),
    "other version": (modules.module(modules.PASSES, modules.FOREIGN_VERSION), "version 2 of the interface"),
    "start loops": (modules.module(modules.PASSES, modules.STARTS_LOOPING), "cannot be instantiated"),
    "init loops": (modules.module(modules.PASSES, modules.INIT_LOOPS), "geomq_init failed"),
    "emits": (modules.module(*modules.emitting(5000)), "5000 messages more, 1000 are allowed"),
    "shared bytes": (modules.module(*modules.sharing(1000)), "fields of more than 4194304 bytes in all"),
    "tiny frame": (modules.module(f"(i64.const {4096 << 32 | 3})"), "shorter than its header"),
}

UNRULY = {
    "random trap": modules.module(modules.RANDOM_TRAP),
    "all the fuel": modules.module(modules.BURNS),
    "all the emits": modules.module(*modules.emitting(1000)),
    "questions": modules.module(*modules.asking(5_000)),
    "log flood": modules.module(*modules.saying(10_000, frame.LOG, b"error", b"look at me")),
    "all the output": modules.module(*modules.saying(1, frame.LOG, b"debug", bytes(4_190_000))),
    "metric flood": modules.module(*modules.saying(10_000, frame.METRIC, b"m", b"")),
}
"""Modules that go on working, for they keep within their limits often enough, and take what they can get."""


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("stage", [INGRESS, EGRESS])
def test_each_is_contained(tmp_path: Path, name: str, stage: int) -> None:
    code, words = HOSTILE[name]
    path = tmp_path / "hostile.wasm"
    path.write_bytes(code)
    rule = Rule(Entry("hostile", stage, str(path), ("#",), on_error="drop"))
    outcome = rule.run([Fields(b"t", b"secret")], 1.0)
    assert outcome.messages == [None]
    assert not outcome.emitted
    assert re.search(words, rule.last_error)
    assert rule.figures()["failed"] == 1
    rule.close()


def test_memory_bomb_takes_what_is_allowed_and_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "bomb.wasm"
    path.write_bytes(modules.module(modules.MEMORY_BOMB))
    rule = Rule(Entry("bomb", INGRESS, str(path), ("#",), limits=Limits(memory_bytes=8 << 20)))
    for _ in range(3):
        rule.run([Fields(b"t", b"1")], 1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        rule._breaker.succeeded()
        rule.run([Fields(b"t", b"1")], 1.0)
    assert rule.figures()["traps"] > 90
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10, "kilobytes"
    rule.close()


def test_random_traps_lose_only_their_own_messages(tmp_path: Path) -> None:
    path = tmp_path / "random.wasm"
    path.write_bytes(modules.module(modules.RANDOM_TRAP))
    rule = Rule(Entry("random", INGRESS, str(path), ("#",), on_error="pass"))
    sent = [[Fields(b"t", b"%d" % number)] for number in range(300)]
    assert [rule.run(batch, 1.0).messages for batch in sent] == sent, (
        "all pass, in order, whether it traps or not"
    )
    figures = rule.figures()
    assert figures["traps"] > 20
    assert figures["passed"] + figures["failed"] == 300
    rule.close()


async def test_quick_rules_and_the_event_loop_go_on_beside_all_of_them(
    tmp_path: Path, benches: list[Bench]
) -> None:
    entries = []
    for number, (code, _) in enumerate(HOSTILE.values()):
        path = tmp_path / f"{number}.wasm"
        path.write_bytes(code)
        entries.append(Entry(f"hostile-{number}", INGRESS, str(path), (f"h/{number}",)))
    fine = tmp_path / "fine.wasm"
    fine.write_bytes(modules.module(modules.PASSES))
    entries.append(Entry("fine", INGRESS, str(fine), ("fine", "calm")))
    bench = Bench(*entries)
    benches.append(bench)
    bench.publish(Message("fine", b""))
    await bench.all_through()

    def longest(topics: list[str]) -> float:
        """The longest of many steps of the event loop that publish to these topics and to a good rule's."""
        steps = []
        for number in range(50):
            started = time.thread_time()
            for topic in topics:
                bench.publish(Message(topic, b"x"))
            bench.publish(Message("fine", b"%d" % number))
            steps.append(time.thread_time() - started)
        return sorted(steps)[-2]

    calm = longest(["calm"] * len(HOSTILE))
    hostile = longest([f"h/{number}" for number in range(len(HOSTILE))])
    assert hostile < 10 * calm + 0.005, "no hostile call is made on the event loop"
    await bench.all_through()
    assert bench.came["fine"][-50:] == [b"%d" % number for number in range(50)], "none is lost, and in order"
    assert not [topic for topic in bench.came if topic not in ("fine", "calm")]
