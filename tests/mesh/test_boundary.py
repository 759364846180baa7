"""What leaves the node while rules are still working, or say much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from broker.message import Message, once
from broker.ports import Later, Outbound, Processed, Stage
from broker.protocol.packets import PublishRun
from edge_mesh.boundary import Boundary, OnSafe
from edge_mesh.dispatch import Dispatch


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

    def send(batch: Sequence[Outbound], on_safe: OnSafe, dropped: Sequence[int] = ()) -> bool:
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


class Reporter(Talkative):
    """An egress rule that says something else in the place of each message; later, where it is ``slow``."""

    def __init__(self, slow: bool) -> None:
        self._slow = slow

    def run(
        self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool = False
    ) -> Processed:
        self.batch, self.then = batch, then
        if self._slow:
            return super().run(stage, batch, now, then, answer)
        return self.report()

    def report(self) -> Processed:
        return Processed([None] * len(self.batch), [Message("e", b"report", 2)])


@pytest.mark.parametrize("slow", [False, True])
def test_crossings_end_with_what_rules_say_in_their_place(slow: bool) -> None:
    rule = Reporter(slow)
    boundary = Boundary(rule, lambda topic: ("other",), lambda: 1)
    ways, outbox = Record(), Record()
    dispatch = Dispatch(ways, outbox, Record(tight=False), True, Record())  # type: ignore[arg-type]
    batch = [
        once(Message("t", b"1", 2), None, 1, 7),
        Message("t", b"2", 1),
        once(Message("t", b"3", 2), None, 3, 8),
    ]
    boundary.pass_on([Outbound(message, ("other",)) for message in batch], 1.0, dispatch.send, lambda: None)
    if slow:
        rule.then(rule.batch, rule.report(), 1.0)
    assert ways.calls.count("add_stored") == 1, "nothing is sent before it is known that it was"
    assert "add_durable" not in ways.calls
    (entries,) = [arguments[0] for name, arguments in outbox.given if name == "add"]
    assert [(bool(entry.record), entry.crossing) for entry in entries] == [(True, 0), (False, 7), (False, 8)]


class Record:
    """Stands for anything: remembers what was called; plans, ways and a loop are all it."""

    everybody_there = True

    def __init__(self, tight: bool = False) -> None:
        self.tight = tight
        self.given: list[tuple[str, tuple[Any, ...]]] = []

    @property
    def calls(self) -> list[str]:
        return [name for name, _ in self.given]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.given.append((name, arguments))
            return self if name == "plan" else (("other", 1),)

        return call


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
