"""Rules behind the engine's port: which topics they are for, in which order, and what goes into the history."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.message import Message
from broker.ports import Processed, Stage
from plugins.host.entry import Entry
from plugins.stages import Stages
from tests.plugins import modules

MASK = {"steps": [{"path": "name", "action": "redact"}]}


def never(messages: Sequence[Message], processed: Processed, now: float) -> None:
    """Without workers nothing is done later."""
    raise AssertionError("later")


class Kept:
    """Remembers what the store stage would keep."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def append(self, messages: Sequence[Message], now: float) -> None:
        self.messages += messages


@pytest.fixture
def dropping(tmp_path: Path) -> str:
    path = tmp_path / "drops.wasm"
    path.write_bytes(modules.module(modules.DROPS_ALL))
    return str(path)


def test_topics_choose_stages(dropping: str) -> None:
    stages = Stages(
        [
            Entry("a", Stage.INGRESS, dropping, ("a/#", "b")),
            Entry("b", Stage.EGRESS, "rules", ("+/x",), MASK),
            Entry("c", Stage.STORE, None, ("a/x",)),
        ],
        None,
    )
    assert stages.stages("a/x") == Stage.INGRESS | Stage.EGRESS | Stage.STORE
    assert stages.stages("b") == Stage.INGRESS
    assert stages.stages("c/x") == Stage.EGRESS
    assert stages.stages("c") == 0
    stages.close()


def test_only_named_topics_are_touched_and_order_is_kept(dropping: str) -> None:
    stages = Stages([Entry("a", Stage.INGRESS, dropping, ("drop/#",))], None)
    batch = [Message("keep/1", b"1"), Message("drop/2", b"2"), Message("keep/3", b"3")]
    processed = stages.run(Stage.INGRESS, batch, 1.0, never)
    assert processed.messages == [batch[0], None, batch[2]]
    assert processed.messages[0] is batch[0]
    stages.close()


def test_changed_message_keeps_what_no_rule_sees() -> None:
    stages = Stages([Entry("mask", Stage.EGRESS, "rules", ("t",), MASK)], None)
    before = Message("t", b'{"name":"x"}', 2, True, b"\x01\x01", 99.0, "device", "eu", 7)
    (after,) = stages.run(Stage.EGRESS, [before], 1.0, never).messages
    assert after is not None
    assert after.payload == b'{"name":"***"}'
    assert (after.topic, after.qos, after.retain, after.properties) == ("t", 2, True, b"\x01\x01")
    assert (after.expires_at, after.publisher, after.origin, after.stamp) == (99.0, "device", "eu", 7)
    assert before.payload == b'{"name":"x"}'
    stages.close()


def test_rules_follow_one_another() -> None:
    stages = Stages(
        [
            Entry("first", Stage.INGRESS, "rules", ("#",), {"steps": [{"path": "a", "action": "remove"}]}),
            Entry(
                "second",
                Stage.INGRESS,
                "rules",
                ("#",),
                {"steps": [{"action": "drop", "when": {"path": "a", "exists": True}}]},
            ),
        ],
        None,
    )
    (after,) = stages.run(Stage.INGRESS, [Message("t", b'{"a":1,"b":2}')], 1.0, never).messages
    assert after is not None
    assert after.payload == b'{"b":2}'
    assert [entry["passed"] + entry["replaced"] for entry in stages.counters()] == [1, 1]
    stages.close()


def test_rules_behind_see_what_a_rule_emits() -> None:
    stages = Stages(
        [
            Entry("before", Stage.EGRESS, "rules", ("copy",), {"steps": [{"action": "drop"}]}),
            Entry("emits", Stage.EGRESS, "rules", ("t",), {"steps": [{"action": "emit", "topic": "copy"}]}),
            Entry("mask", Stage.EGRESS, "rules", ("#",), MASK),
        ],
        None,
    )
    processed = stages.run(Stage.EGRESS, [Message("t", b'{"name":"x"}')], 1.0, never)
    assert [message and message.payload for message in processed.messages] == [b'{"name":"***"}']
    assert [(message.topic, message.payload) for message in processed.emitted] == [
        ("copy", b'{"name":"***"}')
    ]
    stages.close()


def test_rules_behind_drop_what_a_rule_emits_and_cannot_be_read() -> None:
    emit = {"action": "emit", "topic": "copy", "payload": "name is {path:name}"}
    stages = Stages(
        [
            Entry("emits", Stage.EGRESS, "rules", ("t",), {"steps": [emit]}),
            Entry("mask", Stage.EGRESS, "rules", ("#",), MASK),
        ],
        None,
    )
    processed = stages.run(Stage.EGRESS, [Message("t", b'{"name":"x"}')], 1.0, never)
    assert processed.emitted == []
    assert not processed.failed, "the message itself has passed"
    stages.close()


def test_store_stage_keeps_what_its_rules_name(dropping: str) -> None:
    kept = Kept()
    stages = Stages(
        [
            Entry("raw", Stage.STORE, None, ("raw/#",)),
            Entry("masked", Stage.STORE, "rules", ("masked",), MASK),
            Entry("never", Stage.STORE, dropping, ("never",)),
        ],
        kept,
    )
    batch = [Message(topic, b'{"name":"x"}') for topic in ("raw/1", "masked", "never", "other")]
    stages.run(Stage.STORE, batch, 1.0, never)
    assert [(m.topic, m.payload) for m in kept.messages] == [
        ("raw/1", b'{"name":"x"}'),
        ("masked", b'{"name":"***"}'),
    ]
    stages.close()
