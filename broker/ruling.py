"""The ingress and store rules on a message's way; batches that rules take long for go it later, the others at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from broker.acks import AckGroup
from broker.joint import Joint
from broker.message import Message, OnceMessage
from broker.ports import Pipeline, Processed, RunResult, Stage
from broker.protocol.packets import PublishRun
from broker.subscriptions import Route

if TYPE_CHECKING:
    from broker.engine import Engine
    from broker.publisher import Publisher

_TURN = 64
"""Messages that are worth a turn of their own."""
_FEW = 8
"""Messages that rules had better work on together with those of other publishers."""

Batch = list[tuple[Message, Route]]


class _Source(NamedTuple):
    """What the messages of a run have in common."""

    topic: str
    publisher: str
    user: str

    def messages(self, payloads: Sequence[bytes | None]) -> list[Message | None]:
        return [
            None
            if payload is None
            else Message(self.topic, payload, publisher=self.publisher, user=self.user)
            for payload in payloads
        ]


class Ruling:
    """The rules, as the engine has them applied."""

    def __init__(self, engine: Engine, pipeline: Pipeline) -> None:
        self._engine = engine
        self._pipeline = pipeline
        self.at_work: dict[tuple[str, int], AckGroup] = {}
        """What rules work on that came at QoS 2 from sessions that are stored, by client and packet identifier."""

    @property
    def behind(self) -> bool:
        """Whether so much waits for rules that publishers should wait, too."""
        return self._pipeline.behind

    def publish(self, batch: Batch, now: float, on_safe: Callable[[], None] | None) -> bool:
        """What :meth:`broker.engine.Engine.publish` does with a batch that rules concern.

        When it returns, the batch holds all that may still have to be withdrawn.
        """
        engine = self._engine
        safe = Joint(on_safe)
        kept, apart = self._take_in(batch, now, safe)
        kept = self._store(kept, now, safe)
        batch[:] = kept
        if not safe.left:
            return engine.distribute(batch, now, on_safe)
        batch += apart
        safe.expect(1)
        if not engine.distribute(kept, now, safe.arrived):
            safe.arrived()
        return True

    def note_work(self, client_id: str, batch: Batch, group: AckGroup) -> None:
        """Know what of a batch, as :meth:`publish` left it, rules still work on; ``group`` acknowledges it."""
        names = [
            (client_id, message.packet_id)
            for message, _ in batch
            if type(message) is OnceMessage and not message.is_settled
        ]
        if names:
            self.at_work.update(dict.fromkeys(names, group))
            group.then.append(partial(self._worked, names, group))

    def _worked(self, names: Sequence[tuple[str, int]], group: AckGroup) -> None:
        for name in names:
            if self.at_work.get(name) is group:
                del self.at_work[name]

    def portion(self, run: PublishRun, route: Route) -> tuple[PublishRun, PublishRun | None]:
        """As much of a run as ingress rules can work on at once, and what has to wait for its turn."""
        most = self._pipeline.at_once(route.topic)
        return run.split(most) if _TURN <= most < run.count else (run, None)

    def publish_run(self, run: PublishRun, route: Route, connection: Publisher) -> bool:
        """Publish QoS 0 messages of one topic in one piece; False where they have to be published one by one."""
        pipeline = self._pipeline
        most = pipeline.at_once(route.topic)
        if most < 0 or most < run.count < _FEW:
            return False
        publisher = connection.session.client_id if connection.session else ""
        source = _Source(route.topic, publisher, connection.user)
        if run.count > most:
            through = partial(self._run_is_through, source, run, connection.waits_for_rules())
            pipeline.run_ingress_later(run, *source, through)
            return True
        now = connection.last_seen
        found = pipeline.run_ingress(run, *source, now + self._engine.wall_offset)
        if found is None:
            return False
        if not found:
            self._engine.runs.publish(run, route, connection)
        else:
            self._publish_result(found, source, route, now)
        return True

    def _run_is_through(
        self,
        source: _Source,
        run: PublishRun,
        on_safe: Callable[[], None],
        found: RunResult,
        wall: float,
    ) -> None:
        """The ingress rules have taken their time for a run."""
        # Others may hear it than when it came.
        route = self._engine.subscriptions.route(source.topic)
        found = found or list(run.payloads())
        if isinstance(found, list) and not (route.ruled or route.simple):
            found = Processed(source.messages(found), [])
        self._publish_result(found, source, route, wall - self._engine.wall_offset)
        if not (isinstance(found, Processed) and found.more):
            on_safe()
        self._engine.flush()

    def _publish_result(self, found: RunResult, source: _Source, route: Route, now: float) -> None:
        engine = self._engine
        if isinstance(found, Processed):
            kept = [message for message in found.messages if message is not None]
            engine.distribute(self._store(self._routed(kept + found.emitted), now, Joint(None)), now, None)
        else:
            payloads = [payload for payload in found if payload is not None]
            engine.runs.publish_payloads(payloads, route, source.publisher, source.user, now)

    def publish_emitted(self, stage: Stage, messages: Sequence[Message], now: float) -> None:
        """Publish what rules said without a message's occasion, as if it came out of their stage."""
        engine = self._engine
        if stage is Stage.EGRESS:
            if engine.mesh is not None:
                engine.mesh.publish_emitted(messages)
            return
        batch = self._routed(messages)
        if stage is Stage.INGRESS:
            batch = self._store(batch, now, Joint(None))
        engine.distribute(batch, now, None)
        engine.flush()

    def _take_in(self, batch: Batch, now: float, safe: Joint) -> tuple[Batch, Batch]:
        """(what the ingress rules leave of a batch, in order; what they are still working on)."""
        chosen = [message for message, route in batch if route.stages & Stage.INGRESS]
        if not chosen:
            return batch, []
        wall = now + self._engine.wall_offset
        processed = self._pipeline.run(Stage.INGRESS, chosen, wall, partial(self._taken_in, batch, safe))
        safe.expect(len(processed.later))
        kept: Batch = []
        apart: Batch = []
        number = 0
        for item in batch:
            route = item[1]
            if route.stages & Stage.INGRESS:
                result = processed.messages[number]
                if number in processed.later:
                    apart.append(item)
                elif result is not None:
                    same = result.topic == route.topic
                    kept.append((result, route if same else self._engine.subscriptions.route(result.topic)))
                number += 1
            else:
                kept.append(item)
        return kept + self._routed(processed.emitted), apart

    def _taken_in(
        self, batch: Batch, safe: Joint, messages: Sequence[Message], processed: Processed, wall: float
    ) -> None:
        """The ingress rules are through with a part of a batch."""
        now = wall - self._engine.wall_offset
        kept = [
            result
            for message, result in zip(messages, processed.messages, strict=True)
            if result is not None and not message.is_withdrawn
        ]
        part = self._store(self._routed(kept + processed.emitted), now, safe)
        batch += part
        self._part_is_done(part, len(messages), processed.more, safe, now)

    def _store(self, batch: Batch, now: float, safe: Joint) -> Batch:
        """Keep what the store rules name. The batch, which is not held up by that, and what they emitted."""
        stored = [message for message, route in batch if route.stages & Stage.STORE]
        if not stored:
            return batch
        wall = now + self._engine.wall_offset
        processed = self._pipeline.run(Stage.STORE, stored, wall, partial(self._stored, safe))
        safe.expect(len(processed.later))
        return batch + self._routed(processed.emitted)

    def _stored(self, safe: Joint, messages: Sequence[Message], processed: Processed, wall: float) -> None:
        part = self._routed(processed.emitted)
        self._part_is_done(part, len(messages), processed.more, safe, wall - self._engine.wall_offset)

    def _part_is_done(self, part: Batch, messages: int, more: bool, safe: Joint, now: float) -> None:
        engine = self._engine
        # Who waits for the messages waits for all that was emitted, too.
        safe.expect(more)
        count = messages or 1
        if not engine.distribute(part, now, partial(safe.arrived, count)):
            safe.arrived(count)
        engine.flush()

    def _routed(self, messages: Sequence[Message]) -> Batch:
        route = self._engine.subscriptions.route
        return [(message, route(message.topic)) for message in messages]
