"""What leaves the node while rules are still working, or say much."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from broker.message import Message
from broker.ports import Later, Outbound, Processed, Stage
from broker.protocol.packets import PublishRun
from edge_mesh.boundary import Boundary


class Talkative:
    """An egress rule for all topics that goes on later."""

    behind = False

    def stages(self, topic: str) -> int:
        return Stage.EGRESS

    def run(
        self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool = False
    ) -> Processed:
        self.batch, self.then = batch, then
        return Processed([None] * len(batch), [], frozenset(range(len(batch))))

    def run_ingress(self, run: PublishRun, *more: object) -> None:
        """There are no ingress rules."""


def test_batch_is_safe_when_all_that_rules_have_emitted_is() -> None:
    rule = Talkative()
    boundary = Boundary(rule, lambda topic: ("other",), lambda: 1)
    sent: list[bytes] = []
    unsafe: list[Callable[[], None]] = []
    safe: list[bool] = []

    def send(batch: Sequence[Outbound], on_safe: Callable[[], None] | None) -> bool:
        sent.extend(item.message.payload for item in batch)
        if batch and on_safe is not None:
            unsafe.append(on_safe)
        return bool(batch)

    waits = boundary.pass_on(
        [Outbound(Message("t", b"1", 1), ("other",))], 1.0, send, lambda: safe.append(True)
    )
    assert waits
    rule.then(rule.batch, Processed(list(rule.batch), [Message("e", b"a", 1)], more=True), 1.0)
    rule.then((), Processed([], [Message("e", b"b", 1)], more=True), 1.0)
    unsafe.pop(0)()
    unsafe.pop(0)()
    assert not safe
    rule.then((), Processed([], [Message("e", b"c", 1)]), 1.0)
    assert sent == [b"1", b"a", b"b", b"c"]
    assert not safe, "the last of them is not yet on disk"
    unsafe.pop(0)()
    assert safe == [True]


async def test_rules_know_what_is_told_to_a_node_that_asks() -> None:
    class Knows(Talkative):
        def __init__(self) -> None:
            self.answers: list[bool] = []

        def run(
            self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool = False
        ) -> Processed:
            self.answers.append(answer)
            return Processed(list(batch), [])

    rule = Knows()
    boundary = Boundary(rule, lambda topic: ("other",), lambda: 1)
    boundary.pass_on([Outbound(Message("t", b"1"), ("other",))], 1.0, lambda *_: False, None)
    await boundary.pass_messages([Message("t", b"1")], 1.0)
    assert rule.answers == [False, True]
