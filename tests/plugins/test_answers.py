"""Messages that were published before, and are told again to a node that asks for them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from broker.message import Message
from broker.ports import Failure, Processed, Stage
from plugins.host import frame
from plugins.host.entry import EGRESS, DeadLetter, Entry
from plugins.host.frame import ANSWER, NO_MESSAGE, Fields
from plugins.stages import Stages
from tests.plugins import modules
from tests.plugins.bench import LIMITS, SLOW, Bench
from tests.plugins.rules import Rules, Shop


def of(number: int, topic: str = "t") -> Fields:
    return Fields(topic.encode(), json.dumps({"v": number, "name": "Ana"}).encode())


def told(rules: Rules, *messages: Fields) -> list[Fields | None]:
    """What another node is told of messages."""
    before = rules.puts
    after = rules.run(*messages, flags=ANSWER)
    assert rules.puts == before, "they leave no trace at the host"
    return after


@pytest.mark.parametrize(
    ("step", "live"),
    [
        ({"action": "sample", "one_in": 2}, [True, False, True, False]),
        ({"action": "sample", "every": "10s"}, [True, False, False, False]),
        ({"action": "deadband", "path": "v", "change": 3}, [True, False, False, True]),
        ({"action": "limit", "messages": 2, "per": "60s"}, [True, True, False, False]),
        ({"action": "unique", "within": "60s", "by": ["topic"], "path": "name"}, [True, False, False, False]),
    ],
)
def test_steps_that_depend_on_what_came_before_let_answers_pass(
    make: Shop, step: dict[str, Any], live: list[bool]
) -> None:
    rules = make(step)
    passed = []
    for number in range(len(live)):
        assert None not in told(rules, of(number), of(number), of(number + 100))
        passed += [after is not None for after in rules.run(of(number))]
        assert None not in told(rules, of(number), of(7))
    assert passed == live, "as without the answers between them"


def test_aggregate_counts_no_answer_and_lets_none_through(make: Shop) -> None:
    rules = make(
        {"action": "aggregate", "window": "60s", "topic": "m/{topic}", "values": {"v": ["count", "sum"]}}
    )
    rules.run(of(1))
    assert told(rules, of(100), of(200, "other")) == [None, None]
    rules.run(of(2))
    rules.now += 60
    assert told(rules, of(300)) == [None]
    assert rules.emitted == [], "nor does one end a window"
    rules.tick()
    assert [json.loads(one.payload)["values"] for one in rules.emitted] == [{"v": {"count": 2, "sum": 3}}]


def test_aggregate_that_keeps_messages_keeps_answers(make: Shop) -> None:
    rules = make(
        {
            "action": "aggregate",
            "window": "60s",
            "topic": "m/{path:name}",
            "values": {"v": ["sum"]},
            "keep": True,
        }
    )
    assert told(rules, of(1), Fields(b"t", b'{"v": 1}')) == [of(1), None], (
        "what has no topic is withheld as ever"
    )
    rules.now += 120
    rules.tick()
    assert rules.emitted == []


def test_answers_cause_nothing_besides(make: Shop) -> None:
    rules = make(
        {"action": "emit", "topic": "copy/{topic}"},
        {"action": "alert", "name": "seen", "text": "{topic}", "topic": "alerts"},
    )
    assert told(rules, of(1)) == [of(1)]
    assert (rules.emitted, rules.alerts) == ([], [])
    rules.run(of(1))
    assert len(rules.emitted) == 2
    assert len(rules.alerts) == 1, "the answer has not been told for it"


def test_masks_and_drops_are_the_same_for_answers(make: Shop) -> None:
    rules = make(
        {"action": "drop", "when": {"path": "v", "below": 0}},
        {"action": "unique", "within": "60s"},
        {"action": "redact", "path": "name"},
    )
    batch = [of(1), of(-1), Fields(b"t", b"Ana, not JSON")]
    masked = Fields(b"t", b'{"v": 1, "name": "***"}')
    for _ in range(2):
        assert told(rules, *batch) == [masked, None, None]
    assert rules.run(*batch, *batch) == [masked, None, None, None, None, None]
    assert told(rules, *batch) == [masked, None, None]


# -- what the host does -----------------------------------------------------------------------------------


class Around:
    """Keeps account of what rules cause besides."""

    def __init__(self) -> None:
        self.emits: list[bytes] = []
        self.kept: list[bytes] = []

    def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
        assert stage is Stage.EGRESS
        self.emits += [message.payload for message in messages]

    def append(self, messages: Sequence[Message], now: float) -> None:
        self.kept += [message.payload for message in messages]

    def dead(self, messages: Sequence[Message]) -> None:
        raise AssertionError("a letter")

    def rules_changed(self) -> None:
        raise AssertionError("changed")


def never(messages: Sequence[Message], processed: Processed, now: float) -> None:
    raise AssertionError("later")


def test_module_that_knows_no_answers_causes_nothing_because_of_them(tmp_path: Path) -> None:
    """What it says without a message's occasion is another thing: a window that it has closed will not come again."""
    result = modules.result(
        1,
        [
            (frame.EMIT, 0, b"e", b"emitted", 0),
            (frame.STORE, 0, b"s", b"stored", 0),
            (frame.ALERT, 0, b"a", b"alert", 0),
            (frame.STATE_PUT, 0, b"k", b"v", 0),
            (frame.EMIT, NO_MESSAGE, b"w", b"window", 0),
        ],
    )
    path = tmp_path / "says.wasm"
    says = f"(i64.const {8192 << 32 | len(result)})"
    path.write_bytes(modules.module(says, modules.HEADER + modules.data(8192, result)))
    around = Around()
    stages = Stages([Entry("says", EGRESS, str(path), ("#",))], around)
    stages.surroundings = around
    processed = stages.run(Stage.EGRESS, [Message("t", b"1")], 1.0, never, answer=True)
    assert ([one and one.payload for one in processed.messages], processed.emitted) == ([b"1"], [])
    assert (around.emits, around.kept) == ([b"window"], [])
    (figures,) = stages.counters()
    assert (figures["alerts"], figures["emitted"], figures["state_keys"]) == (0, 1, 1)
    processed = stages.run(Stage.EGRESS, [Message("t", b"1")], 1.0, never)
    assert [one.payload for one in processed.emitted] == [b"emitted", b"window"]
    assert around.kept == [b"stored"]
    assert stages.counters()[0]["alerts"] == 1
    stages.close()


def test_rule_that_fails_withholds_answers_and_writes_no_letters(tmp_path: Path) -> None:
    path = tmp_path / "poison.wasm"
    path.write_bytes(modules.module(modules.TRAPS_ON_BANG))
    place = DeadLetter("dead/mask", tmp_path / "dead.jsonl")
    stages = Stages([Entry("mask", EGRESS, str(path), ("#",), dead_letter=place)])
    stages.surroundings = Around()
    batch = [Message("t", b"1"), Message("t", b"!")]
    processed = stages.run(Stage.EGRESS, batch, time.time(), never, answer=True)
    assert processed.messages == [batch[0], None]
    assert processed.failed is not None
    assert processed.failed[1].rule == "mask"
    stages.close()
    assert not (tmp_path / "dead.jsonl").exists()


ALIKE = f"""
  (local $first i32) (local $last i32)
  (local.set $first (i32.add (local.get $at) (i32.load offset=24 (local.get $at))))
  (local.set $last (i32.add (local.get $first)
    (i32.mul (i32.const 48) (i32.sub (i32.load offset=4 (local.get $at)) (i32.const 1)))))
  (if (i32.ne (i32.load16_u offset=34 (local.get $first)) (i32.load16_u offset=34 (local.get $last)))
    (then (unreachable)))
  {SLOW}
""".replace("(local $i i32)", "").replace("(local $first i32)", "(local $i i32) (local $first i32)", 1)
"""Slow, and traps on a batch whose first and last message differ in their flags."""


async def test_answers_and_what_is_published_are_not_worked_on_together(
    tmp_path: Path, benches: list[Bench]
) -> None:
    path = tmp_path / "alike.wasm"
    path.write_bytes(modules.module(ALIKE))
    bench = Bench(Entry("alike", EGRESS, str(path), ("#",), limits=LIMITS))
    benches.append(bench)
    answered: list[bytes] = []
    failures: list[Failure] = []

    def then(messages: Sequence[Message], processed: Processed, now: float) -> None:
        answered.extend(one.payload for one in processed.messages if one is not None)
        failures.extend((processed.failed or {}).values())

    for number in range(40):
        payload = b"%d" % number
        bench.publish(Message(f"t/{number}", payload), stage=Stage.EGRESS)
        bench.stages.run(Stage.EGRESS, [Message(f"u/{number}", payload)], time.time(), then, answer=True)
    await bench.all_through()
    assert (failures, bench.failed) == ([], [])
    assert answered == [b"%d" % number for number in range(40)]
    assert sum(map(len, bench.came.values())) == 40
    (figures,) = bench.stages.counters()
    assert figures["traps"] == 0
