"""The one exit: whatever leaves the node, by any door, has passed the egress rules here, once a message."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from broker.joint import Joint
from broker.message import Message, OnceMessage, Run
from broker.ports import Failure, Later, Outbound, Pipeline, Processed, Stage

logger = logging.getLogger("geomq.mesh.boundary")

SendRun = Callable[[Run, tuple[str, ...]], None]
OnSafe = Callable[[], None] | None


class Send(Protocol):
    """Behind the rules; the answer is that of :meth:`broker.ports.Mesh.forward`."""

    def __call__(self, passed: Sequence[Outbound], on_safe: OnSafe, dropped: Sequence[int] = ()) -> bool:
        """``dropped`` are the crossings that end here, and that ``passed`` holds what rules emitted for."""


_BROKEN = Failure("of the egress", "the host failed, its log says why")


class Told(NamedTuple):
    """What another node may be told of messages."""

    messages: list[Message | None]
    failed: dict[int, Failure]
    """Why those at these places are dropped that are so because rules failed."""

    @property
    def failures(self) -> Counter[Failure]:
        """How often what is to blame."""
        return Counter(self.failed.values())


class Boundary:
    """``interested(topic)`` names the nodes that want a topic; ``stamp()`` makes hybrid clock stamps."""

    def __init__(
        self,
        pipeline: Pipeline | None,
        interested: Callable[[str], tuple[str, ...]],
        stamp: Callable[[], int],
    ) -> None:
        self.pipeline = pipeline
        self._interested = interested
        self._stamp = stamp
        self.kept_back = 0
        """Messages that did not leave, because a rule dropped them or the rules failed."""

    def pass_on(
        self, batch: Sequence[Outbound], now: float, send: Send, on_safe: Callable[[], None] | None
    ) -> bool:
        """Send what may leave of a batch, in order, and then what rules emitted.

        Returns, and calls ``on_safe``, as :meth:`broker.ports.Mesh.forward` does; ``send`` is like it behind the rules.
        """
        pipeline = self.pipeline
        if pipeline is None:
            return send(batch, on_safe)
        stages = pipeline.stages
        chosen = [item.message for item in batch if stages(item.message.topic) & Stage.EGRESS]
        if not chosen:
            return send(batch, on_safe)
        safe = Joint(on_safe)
        processed = self._processed(chosen, now, partial(self._pass_later, safe, send))
        self._judge(chosen, processed)
        passed = self._passed(batch, processed)
        dropped = _dropped(chosen, processed)
        if not processed.later:
            return send(passed, on_safe, dropped)
        safe.expect(len(processed.later) + 1)
        if not send(passed, safe.arrived, dropped):
            safe.arrived()
        return True

    def pass_run(self, run: Run, nodes: tuple[str, ...], now: float, send_run: SendRun, send: Send) -> None:
        """Send messages of one topic, in one piece where no rule concerns them."""
        pipeline = self.pipeline
        if pipeline is None or not pipeline.stages(run.topic) & Stage.EGRESS:
            send_run(run, nodes)
        else:
            self.pass_on([Outbound(message, nodes) for message in run.messages()], now, send, None)

    def pass_emitted(self, messages: Sequence[Message], send: Send) -> None:
        """Send what rules said without a message's occasion."""
        self._stamp_emitted(messages)
        send(self._addressed(messages), None)

    def _pass_later(
        self, safe: Joint, send: Send, messages: Sequence[Message], processed: Processed, _: float
    ) -> None:
        """The rules are through with a part of a batch."""
        self._judge(messages, processed)
        left = [
            result
            for message, result in zip(messages, processed.messages, strict=True)
            if result is not None and not message.is_withdrawn
        ]
        safe.expect(processed.more)
        arrived = partial(safe.arrived, len(messages) or 1)
        if not send(self._addressed(left + processed.emitted), arrived, _dropped(messages, processed)):
            arrived()

    def _passed(self, batch: Sequence[Outbound], processed: Processed) -> list[Outbound]:
        """What is known already to leave of a batch, and what was emitted."""
        passed: list[Outbound] = []
        number = -1
        assert self.pipeline is not None
        for item in batch:
            if not self.pipeline.stages(item.message.topic) & Stage.EGRESS:
                passed.append(item)
                continue
            number += 1
            result = processed.messages[number]
            if result is None or number in processed.later:
                continue
            if result is item.message:
                passed.append(item)
            elif may_leave(result.topic):
                # A rule that gave it another topic may have made it another node's concern.
                same = result.topic == item.message.topic
                passed.append(Outbound(result, item.nodes if same else self._interested(result.topic)))
        return passed + self._addressed(processed.emitted)

    async def pass_messages(self, batch: Sequence[Message], now: float) -> Told:
        """What may be told of messages of this node when another one asks for them; one entry each."""
        pipeline = self.pipeline
        if pipeline is None:
            return Told(list(batch), {})
        concerned = [message for message in batch if pipeline.stages(message.topic) & Stage.EGRESS]
        if not concerned:
            return Told(list(batch), {})
        results: dict[int, Message | None] = {}
        failures: dict[int, Failure] = {}
        all_known = asyncio.get_running_loop().create_future()

        def settle(messages: Sequence[Message], processed: Processed, _: float) -> None:
            failures.update((id(messages[at]), why) for at, why in (processed.failed or {}).items())
            # What rules emit belongs to the publication, which was at another time.
            for number, message in enumerate(messages):
                if number not in processed.later:
                    results[id(message)] = processed.messages[number]
            if len(results) == len(concerned) and not all_known.done():
                all_known.set_result(None)

        def settle_later(messages: Sequence[Message], processed: Processed, now: float) -> None:
            self._stamp_changed(messages, processed)
            settle(messages, processed, now)

        processed = self._processed(concerned, now, settle_later, answer=True)
        self._stamp_changed(concerned, processed)
        settle(concerned, processed, now)
        await all_known
        failed = {at: failures[id(message)] for at, message in enumerate(batch) if id(message) in failures}
        return Told([results.get(id(message), message) for message in batch], failed)

    def _addressed(self, messages: Sequence[Message]) -> list[Outbound]:
        """Messages that rules have made, and the nodes that they concern."""
        return [
            Outbound(message, self._interested(message.topic))
            for message in messages
            if may_leave(message.topic)
        ]

    def _processed(
        self, batch: Sequence[Message], now: float, then: Later, answer: bool = False
    ) -> Processed:
        assert self.pipeline is not None
        try:
            processed = self.pipeline.run(Stage.EGRESS, batch, now, then, answer)
            if len(processed.messages) != len(batch):
                raise ValueError(f"{len(processed.messages)} verdicts for {len(batch)} messages")
        except Exception:
            # The port promises not to raise; if it does nothing must leave.
            logger.exception("the egress rules failed: %d messages stay on this node", len(batch))
            processed = Processed([None] * len(batch), [], failed=dict.fromkeys(range(len(batch)), _BROKEN))
        return processed

    def _judge(self, batch: Sequence[Message], processed: Processed) -> None:
        """Count what stays of what was published, and stamp what leaves."""
        for number, result in enumerate(processed.messages):
            if result is None:
                self.kept_back += number not in processed.later
        self._stamp_changed(batch, processed)
        self._stamp_emitted(processed.emitted)

    def _stamp_changed(self, batch: Sequence[Message], processed: Processed) -> None:
        """What is retained and has been changed gets a stamp."""
        for message, result in zip(batch, processed.messages, strict=True):
            if result is not None and result is not message and result.retain and not result.stamp:
                result.stamp = message.stamp or self._stamp()

    def _stamp_emitted(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.retain and not message.stamp:
                message.stamp = self._stamp()


def _dropped(messages: Sequence[Message], processed: Processed) -> list[int]:
    """The crossings that rules have dropped, and emitted something for: a crash must not have them do that again."""
    if not processed.emitted:
        return []
    return [
        message.crossing
        for number, (message, result) in enumerate(zip(messages, processed.messages, strict=True))
        if result is None
        and number not in processed.later
        and isinstance(message, OnceMessage)
        and message.crossing
    ]


def may_leave(topic: str) -> bool:
    """Topics that begin with ``$`` are each node's own."""
    return topic[0] != "$"
