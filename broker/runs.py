"""QoS 0 messages of one topic, worked on in one piece: for receivers here as they came, and for other nodes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from broker.message import Message, Run
from broker.ports import Outbound
from broker.protocol import encode
from broker.protocol.constants import V5, V311
from broker.protocol.packets import PublishRun
from broker.publisher import Publisher
from broker.session import Session
from broker.subscriptions import Route

if TYPE_CHECKING:
    from broker.engine import Engine


class Runs:
    """Part of the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def publish(self, run: PublishRun, route: Route, connection: Publisher) -> None:
        """Publish what a client sent, on a topic whose route is simple; payloads for other nodes are not empty."""
        engine = self._engine
        publisher = connection.session.client_id if connection.session else ""
        self._deliver(run, route, connection.version, publisher, connection.last_seen)
        if route.nodes and engine.mesh is not None:
            payloads = b"".join(run.payloads())
            engine.stats.publish_to_mesh += run.count
            size = run.size - run.payload_at
            engine.mesh.forward_run(Run(route.topic, payloads, size, publisher, connection.user), route.nodes)

    def publish_payloads(
        self, payloads: Sequence[bytes], route: Route, publisher: str, user: str, now: float
    ) -> None:
        """Publish what ingress rules have left of a run."""
        if not payloads:
            return
        engine = self._engine
        topic = route.topic
        count, size = len(payloads), sum(map(len, payloads))
        for version, sessions in ((V311, route.verbatim3), (V5, route.verbatim5)):
            if sessions:
                self._send_frames(sessions, encode.publish_each(topic, payloads, version), count, size)
        if route.particular:
            for payload in payloads:
                self._deliver_to_particular(Message(topic, payload, publisher=publisher), route, now)
        engine.stats.receive_denied += route.denied * count
        if route.nodes and engine.mesh is not None:
            engine.stats.publish_to_mesh += count
            for length, some in groupby(payloads, len):
                if length:
                    whole = Run(topic, b"".join(some), length, publisher, user)
                    engine.mesh.forward_run(whole, route.nodes)
                else:
                    messages = [Message(topic, b"", publisher=publisher, user=user) for _ in some]
                    engine.mesh.forward([Outbound(message, route.nodes) for message in messages], None)

    def deliver_from_mesh(self, run: Run, now: float) -> None:
        """Deliver what another node sent to local sessions only."""
        engine = self._engine
        stats = engine.stats
        route = engine.subscriptions.route(run.topic)
        count = run.count
        stats.publish_from_mesh += count
        if route.groups or route.undecided:
            for message in run.messages():
                engine.deliver(message, route, now + engine.wall_offset)
        elif route.receivers:
            frames, head = encode.publish_run(run.topic, run.payloads, run.size)
            self._deliver(PublishRun(b"", frames, count, head + run.size, head), route, V311, "", now)
        else:
            stats.publish_unwanted += count
            stats.receive_denied += route.denied * count

    def _deliver(self, run: PublishRun, route: Route, version: int, publisher: str, now: float) -> None:
        """To local sessions; the packets have the form of ``version``."""
        if version == V5:
            same, other, other_version = route.verbatim5, route.verbatim3, V311
        else:
            same, other, other_version = route.verbatim3, route.verbatim5, V5
        payload = run.count * (run.size - run.payload_at)
        if same:
            self._send_frames(same, run.frames, run.count, payload)
        if other:
            frames = encode.convert_run(
                run.frames, run.count, run.size, run.payload_at, version, other_version
            )
            self._send_frames(other, frames, run.count, payload)
        if route.particular:
            for start in range(0, run.count * run.size, run.size):
                content = run.frames[start + run.payload_at : start + run.size]
                self._deliver_to_particular(Message(route.topic, content, publisher=publisher), route, now)
        if route.denied:
            self._engine.stats.receive_denied += route.denied * run.count

    def _send_frames(self, sessions: Sequence[Session], frames: bytes, count: int, payload: int) -> None:
        """``payload`` is how many bytes of the frames are payload."""
        dirty = self._engine.dirty
        stats = self._engine.stats
        delivered = 0
        for session in sessions:
            connection = session.connection
            if connection is None:
                continue
            if connection.blocked:
                stats.dropped_slow_consumer += count
                continue
            out = connection.out
            if not out:
                dirty.append(connection)
            out.append(frames)
            delivered += 1
        stats.publish_delivered += delivered * count
        stats.payload_sent += delivered * payload

    def _deliver_to_particular(self, message: Message, route: Route, now: float) -> None:
        deliver_to = self._engine.deliver_to
        for receiver in route.particular:
            deliver_to(receiver, message, now + self._engine.wall_offset)
