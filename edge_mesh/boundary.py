"""The one exit: whatever leaves the node, by any door, has passed the egress rules here, once a message."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from broker.message import Message
from broker.ports import Outbound, Pipeline, Stage

logger = logging.getLogger("geomq.mesh.boundary")

_CACHE = 16_384


class Boundary:
    """``interested(topic)`` names the nodes that want a topic; ``stamp()`` makes hybrid clock stamps."""

    def __init__(
        self,
        pipeline: Pipeline | None,
        interested: Callable[[str], tuple[str, ...]],
        stamp: Callable[[], int],
    ) -> None:
        self._pipeline = pipeline
        self._interested = interested
        self._stamp = stamp
        self.kept_back = 0
        """Messages that did not leave, because a rule dropped them or the rules failed."""

    def pass_outbound(self, batch: Sequence[Outbound], now: float) -> Sequence[Outbound]:
        """What may leave of a batch, in order, and for whom; then what rules emitted."""
        pipeline = self._pipeline
        if pipeline is None:
            return batch
        stages = pipeline.stages
        chosen = [item.message for item in batch if stages(item.message.topic) & Stage.EGRESS]
        if not chosen:
            return batch
        kept, emitted = self._run(chosen, now)
        results = iter(kept)
        passed: list[Outbound] = []
        for item in batch:
            if not stages(item.message.topic) & Stage.EGRESS:
                passed.append(item)
                continue
            result = next(results)
            if result is None:
                continue
            if result is item.message:
                passed.append(item)
            elif may_leave(result.topic):
                # A rule that gave it another topic may have made it another node's concern.
                same = result.topic == item.message.topic
                passed.append(Outbound(result, item.nodes if same else self._interested(result.topic)))
        passed.extend(
            Outbound(message, self._interested(message.topic))
            for message in emitted
            if may_leave(message.topic)
        )
        return passed

    def pass_messages(self, batch: Sequence[Message], now: float) -> list[Message | None]:
        """What may be told of messages of this node when another one asks for them; one entry each."""
        pipeline = self._pipeline
        if pipeline is None:
            return list(batch)
        concerned = [bool(pipeline.stages(message.topic) & Stage.EGRESS) for message in batch]
        chosen = [message for message, is_concerned in zip(batch, concerned, strict=True) if is_concerned]
        if not chosen:
            return list(batch)
        # What rules emit belongs to the publication, which was at another time.
        results = iter(self._run(chosen, now)[0])
        return [
            next(results) if is_concerned else message
            for message, is_concerned in zip(batch, concerned, strict=True)
        ]

    def _run(self, batch: Sequence[Message], now: float) -> tuple[list[Message | None], list[Message]]:
        assert self._pipeline is not None
        try:
            kept, emitted = self._pipeline.run(Stage.EGRESS, batch, now)
            if len(kept) != len(batch):
                raise ValueError(f"{len(kept)} verdicts for {len(batch)} messages")
        except Exception:
            # The port promises not to raise; if it does nothing must leave.
            logger.exception("the egress rules failed: %d messages stay on this node", len(batch))
            kept, emitted = [None] * len(batch), []
        for message, result in zip(batch, kept, strict=True):
            if result is None:
                self.kept_back += 1
            elif result is not message and result.retain and not result.stamp:
                result.stamp = message.stamp or self._stamp()
        for message in emitted:
            if message.retain and not message.stamp:
                message.stamp = self._stamp()
        return kept, emitted


def may_leave(topic: str) -> bool:
    """Topics that begin with ``$`` are each node's own."""
    return topic[0] != "$"
