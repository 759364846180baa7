"""QoS 0 messages that a rule works on in one piece: what becomes of them is what becomes of them one by one."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.message import Message
from broker.ports import Processed, Stage
from plugins.host.entry import DeadLetter, Entry
from plugins.stages import Stages
from tests.plugins import modules
from tests.plugins.bench import SLOW, Bench, run_of
from tests.plugins.test_later import RENAMES, entry

CONFIGS: dict[str, list[dict[str, Any]]] = {
    "mask": [{"path": "name", "action": "redact"}],
    "drop": [{"action": "drop", "when": {"path": "v", "above": 4}}],
    "drop and mask": [
        {"action": "drop", "when": {"path": "v", "above": 4}},
        {"path": "v", "action": "round", "to": 2},
    ],
    "rename": [{"action": "topic", "to": "other/{1}", "when": {"path": "v", "above": 4}}],
    "alert": [{"action": "alert", "name": "high", "text": "{path:v}", "when": {"path": "v", "above": 7}}],
    "emit": [{"action": "emit", "topic": "e", "payload": "{path:v}", "when": {"path": "v", "above": 7}}],
    "qos": [{"action": "qos", "to": 1, "when": {"path": "v", "above": 4}}],
}
OF_ONE_SIZE = st.integers(0, 12).flatmap(
    lambda size: st.lists(
        st.binary(min_size=size, max_size=size)
        | st.sampled_from([b'{"v":%d,"name":"%d"}' % (number, number) for number in range(9)]).map(
            lambda text: text.ljust(19 + size)
        ),
        min_size=1,
        max_size=40,
    ).map(lambda found: [payload.ljust(max(map(len, found)))[: max(map(len, found))] for payload in found])
)


def never(messages: Sequence[Message], processed: Processed, now: float) -> None:
    raise AssertionError("later")


def seen(messages: Sequence[Message | None]) -> list[tuple[Any, ...] | None]:
    return [
        message
        and (message.topic, message.payload, message.qos, message.retain, message.publisher, message.user)
        for message in messages
    ]


def in_one_piece(stages: Stages, payloads: Sequence[bytes], version: int = 4) -> tuple[Any, Any]:
    """(messages, what was emitted)"""
    found = stages.run_ingress(run_of("a/b", payloads, version), "a/b", "device", "ann", 1.0)
    assert found is not None
    if isinstance(found, Processed):
        assert not found.later
        return seen(found.messages), seen(found.emitted)
    after = found or list(payloads)
    return [None if p is None else ("a/b", p, 0, False, "device", "ann") for p in after], []


def one_by_one(stages: Stages, payloads: Sequence[bytes]) -> tuple[Any, Any]:
    batch = [Message("a/b", payload, publisher="device", user="ann") for payload in payloads]
    found = stages.run(Stage.INGRESS, batch, 1.0, never)
    return seen(found.messages), seen(found.emitted)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_what_becomes_of_them_is_the_same(name: str) -> None:
    entry = Entry(
        "rule", Stage.INGRESS, "rules", ("a/#",), {"on_undecodable": "drop", "steps": CONFIGS[name]}
    )
    whole, singly = Stages([entry]), Stages([entry])

    @settings(deadline=None, max_examples=40)
    @given(OF_ONE_SIZE, st.sampled_from([4, 5]))
    def compare(payloads: list[bytes], version: int) -> None:
        assert in_one_piece(whole, payloads, version) == one_by_one(singly, payloads)

    compare()
    left, right = whole.counters()[0], singly.counters()[0]
    for figure in ("messages", "passed", "dropped", "replaced", "emitted", "failed", "alerts", "traps"):
        assert left[figure] == right[figure], figure
    whole.close()
    singly.close()


def test_rejected_messages_are_dropped_and_have_their_letter(tmp_path: Path) -> None:
    letters = DeadLetter("", tmp_path / "dead.jsonl")
    config = {"steps": [{"path": "name", "action": "redact"}]}
    stages = Stages([Entry("rule", Stage.INGRESS, "rules", ("#",), config, dead_letter=letters)])
    messages, _ = in_one_piece(stages, [b'{"name":1}', b'{"name":1 ', b'{"name":2}'])
    assert [message and message[1] for message in messages] == [b'{"name":"***"}', None, b'{"name":"***"}']
    stages.close()
    assert len((tmp_path / "dead.jsonl").read_text().splitlines()) == 1


def test_rules_behind_it_see_what_was_given_another_topic() -> None:
    stages = Stages(
        [
            Entry("rename", Stage.INGRESS, "rules", ("a/#",), {"steps": CONFIGS["rename"]}),
            Entry("mask", Stage.INGRESS, "rules", ("other/#",), {"steps": CONFIGS["mask"]}),
        ]
    )
    messages, _ = in_one_piece(stages, [b'{"v":1,"name":"x"}', b'{"v":9,"name":"x"}'])
    assert [message[:2] for message in messages] == [
        ("a/b", b'{"v":1,"name":"x"}'),
        ("other/b", b'{"v":9,"name":"***"}'),
    ]
    stages.close()


def test_rules_behind_it_see_what_was_emitted() -> None:
    emit = {"steps": [{"action": "emit", "topic": "copy"}]}
    mask = {"steps": [{"action": "redact", "path": "name"}]}
    stages = Stages(
        [
            Entry("emits", Stage.INGRESS, "rules", ("a/b",), emit),
            Entry("mask", Stage.INGRESS, "rules", ("copy",), mask),
        ]
    )
    payloads = [b'{"name":"x"}', b'{"name":"y"}']
    messages, emitted = in_one_piece(stages, payloads)
    assert (messages, emitted) == one_by_one(stages, payloads)
    assert [message[:2] for message in emitted] == [("copy", b'{"name":"***"}')] * 2
    assert [message[1] for message in messages] == payloads
    stages.close()


def test_where_the_module_fails_nothing_is_done(tmp_path: Path) -> None:
    path = tmp_path / "bang.wasm"
    path.write_bytes(modules.module(modules.TRAPS_ON_BANG))
    stages = Stages([Entry("rule", Stage.INGRESS, str(path), ("#",))])
    payloads = [b"a", b"!", b"b"]
    assert stages.run_ingress(run_of("a/b", payloads, 4), "a/b", "", "", 1.0) is None
    assert stages.counters()[0]["messages"] == stages.counters()[0]["passed"] == 0
    found, _ = one_by_one(stages, payloads)
    assert found[0] is not None
    assert found[1] is None
    assert stages.counters()[0]["messages"] == 3
    stages.close()


def test_two_rules_for_a_topic_work_one_by_one() -> None:
    entries = [Entry(name, Stage.INGRESS, "rules", ("#",), {"steps": CONFIGS["mask"]}) for name in "ab"]
    stages = Stages(entries)
    assert stages.at_once("a/b") == -1
    stages.close()


async def test_order_is_kept_among_runs_and_single_messages(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(
        entry(tmp_path, "slow", SLOW, "a", "c"),
        entry(tmp_path, "fast", modules.PASSES, "b", "c"),
    )
    benches.append(bench)
    chance = random.Random(9)
    sent: dict[str, list[bytes]] = defaultdict(list)
    for number in range(150):
        topic = chance.choice("aabbc")
        payloads = [b"%04d.%02d" % (number, part) for part in range(chance.choice([1, 3, 12]))]
        sent[topic] += payloads
        if chance.random() < 0.7:
            bench.publish_run(topic, payloads)
        else:
            bench.publish(*(Message(topic, payload) for payload in payloads))
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    await bench.all_through()
    assert bench.came == sent
    assert bench.packets > 10
    slow, fast = bench.stages.counters()
    assert slow["messages"] == slow["passed"] == len(sent["a"]) + len(sent["c"])
    assert fast["messages"] == len(sent["b"]) + len(sent["c"])
    assert not bench.stages.behind


async def test_messages_of_a_run_that_get_other_topics_later(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "names", RENAMES, "raw"), entry(tmp_path, "slow", SLOW, "s"))
    benches.append(bench)
    payloads = [b"%c%03d" % (b"sn"[number % 2], number) for number in range(100)]
    bench.publish_run("raw", payloads)
    bench.publish_run("raw", [payload[:1] + b"1" + payload[2:] for payload in payloads])
    assert bench.packets == 2
    await bench.all_through()
    for topic in "sn":
        mine = [payload for payload in payloads if payload.startswith(topic.encode())]
        assert bench.came[topic] == mine + [payload[:1] + b"1" + payload[2:] for payload in mine]
    bench.publish_run("raw", [b"s999"] * 3)
    await bench.all_through()
    assert bench.came["s"][-3:] == [b"s999"] * 3


async def test_a_run_with_a_poisonous_message_later(tmp_path: Path, benches: list[Bench]) -> None:
    bench = Bench(entry(tmp_path, "bang", modules.TRAPS_ON_BANG, "#"))
    benches.append(bench)
    bench.publish_run("t", [b"a1", b"!2", b"a3"])
    assert bench.packets == 1
    await bench.all_through()
    assert bench.came["t"][0] == b"a1"
    assert b"!2" not in bench.came["t"]
    (figures,) = bench.stages.counters()
    assert figures["messages"] == 3
    assert figures["failed"] >= 1


async def test_runs_wait_while_the_rules_change(tmp_path: Path, benches: list[Bench]) -> None:
    before = entry(tmp_path, "slow", SLOW, "#")
    bench = Bench(before)
    benches.append(bench)
    numbers = [b"%03d" % number for number in range(400)]
    bench.publish_run("t", numbers[:380])
    renewal = asyncio.create_task(bench.stages.renew([replace(before, topics=("t",), config={"n": 1})]))
    async with asyncio.timeout(10):
        while bench.stages.at_once("t") != -1 and not renewal.done():
            await asyncio.sleep(0)
    bench.publish_run("t", numbers[380:])
    await renewal
    await bench.all_through()
    assert bench.came["t"] == numbers
