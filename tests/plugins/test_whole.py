"""QoS 0 messages that a rule works on in one piece: what becomes of them is what becomes of them one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.message import Message
from broker.ports import Processed, Stage
from broker.protocol import encode
from broker.protocol.packets import PublishRun
from plugins.host.entry import DeadLetter, Entry
from plugins.stages import Stages
from tests.plugins import modules

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


def run_of(topic: str, payloads: Sequence[bytes], version: int) -> PublishRun:
    packets = [b"".join(encode.publish(topic, payload, 0, False, version, b"")) for payload in payloads]
    size = len(packets[0])
    return PublishRun(topic.encode(), b"".join(packets), len(packets), size, size - len(payloads[0]))


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
    assert stages.run_ingress(run_of("a/b", [b"{}"], 4), "a/b", "", "", 1.0) is None
    stages.close()
