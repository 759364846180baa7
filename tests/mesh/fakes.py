"""Small stand-ins for the engine and the rules, with real topic filters and real retained messages."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker.message import Message, Run, once
from broker.ports import Failure, Later, Outbound, Processed, Stage
from broker.protocol.topics import matches
from edge_mesh.mesh import ZenohMesh
from edge_mesh.settings import MeshSettings
from tests.ports import free_port
from tests.simulator.batches import one_by_one


async def until(condition: Callable[[], Any], what: str = "", seconds: float = 15.0) -> Any:
    """The first true value of ``condition``; fails with ``what`` when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what or condition}")


class FakeNode:
    """A :class:`broker.ports.LocalNode` that remembers what it was told."""

    def __init__(self, *topic_filters: str) -> None:
        self.filters: list[str] = list(topic_filters)
        self.interest: dict[str, set[str]] = {}
        self.delivered: list[Message] = []
        self.retained: dict[str, Message] = {}
        self.crowded = False
        self.kept_marks: dict[str, tuple[int, int]] = {}

    def remote_interest(self, node: str, added: Iterable[str], removed: Iterable[str]) -> None:
        held = self.interest.setdefault(node, set())
        held.update(added)
        held.difference_update(removed)

    def remote_gone(self, node: str) -> None:
        self.interest.pop(node, None)

    def deliver_from_mesh(self, batch: Sequence[Message | Run]) -> None:
        for message in one_by_one(batch):
            if message.retain:
                self.keep(message)
            self.delivered.append(message)

    def marks(self) -> dict[str, tuple[int, int]]:
        return dict(self.kept_marks)

    def heard(self, sender: str, epoch: int, sequence: int) -> None:
        self.kept_marks[sender] = (epoch, sequence)

    def commit(self, on_safe: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(on_safe)

    def retained_from_mesh(self, batch: Sequence[Message]) -> None:
        for message in batch:
            self.keep(message)

    def local_filters(self) -> Iterable[str]:
        return list(self.filters)

    def retained_messages(self) -> Iterable[Message]:
        return list(self.retained.values())

    def retained_of(self, topics: Iterable[str]) -> Iterable[Message]:
        return [self.retained[topic] for topic in topics if topic in self.retained]

    # -- for tests -----------------------------------------------------------------------------------------

    def keep(self, message: Message) -> None:
        known = self.retained.get(message.topic)
        if known is None or (known.stamp, known.origin) <= (message.stamp, message.origin):
            self.retained[message.topic] = message

    def nodes_for(self, topic: str) -> tuple[str, ...]:
        return tuple(
            name
            for name, held in self.interest.items()
            if any(matches(topic_filter, topic) for topic_filter in held)
        )

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.delivered]


class FakePipeline:
    """A :class:`broker.ports.Pipeline` whose egress rule is a function; None drops."""

    def __init__(
        self,
        topic_filter: str,
        rule: Callable[[Message], Message | None],
        emits: Callable[[Message], list[Message]] = lambda message: [],
    ) -> None:
        self.topic_filter = topic_filter
        self.rule = rule
        self.emits = emits
        self.seen: list[Message] = []
        self.behind = False

    def stages(self, topic: str) -> int:
        return Stage.EGRESS if matches(self.topic_filter, topic) else 0

    def run(
        self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool = False
    ) -> Processed:
        assert stage is Stage.EGRESS
        self.seen.extend(batch)
        emitted = [extra for message in batch for extra in self.emits(message)]
        return Processed([self.rule(message) for message in batch], emitted)


class FailingPipeline(FakePipeline):
    """Cannot work on some topics when it is asked for them."""

    fails: Set[str] = frozenset()

    def run(
        self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool = False
    ) -> Processed:
        broken = [at for at, message in enumerate(batch) if answer and message.topic in self.fails]
        messages = [None if at in broken else self.rule(message) for at, message in enumerate(batch)]
        return Processed(messages, [], failed=dict.fromkeys(broken, Failure("mask", "is broken")))


class SlowPipeline(FakePipeline):
    """Works on each batch until it is told to finish."""

    def __init__(self, topic_filter: str, rule: Callable[[Message], Message | None]) -> None:
        super().__init__(topic_filter, rule)
        self.waiting: list[tuple[Sequence[Message], Later]] = []

    def run(
        self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool = False
    ) -> Processed:
        self.waiting.append((batch, then))
        return Processed([None] * len(batch), [], frozenset(range(len(batch))))

    def finish(self) -> None:
        """Be done with all batches, one after the other."""
        waiting, self.waiting = self.waiting, []
        for batch, then in waiting:
            then(batch, super().run(Stage.EGRESS, batch, 0.0, then), 0.0)


def with_payload(message: Message, payload: bytes) -> Message:
    """What a masking rule makes of a message."""
    return Message(
        message.topic,
        payload,
        message.qos,
        message.retain,
        message.properties,
        message.expires_at,
        message.publisher,
        message.origin,
        message.stamp,
    )


class Member:
    """A node of a mesh under test, with an engine that is none."""

    def __init__(
        self,
        settings: MeshSettings,
        node: FakeNode | None = None,
        pipeline: FakePipeline | None = None,
        history: Any = None,
    ) -> None:
        self.settings = settings
        self.name = settings.node
        self.port = int(settings.listen[0].rsplit(":", 1)[1]) if settings.listen else 0
        self.node = node or FakeNode()
        self.mesh = ZenohMesh(
            settings,
            self.node,
            pipeline,
            history,
            lambda: {"node": self.name, "peers": len(self.mesh.peers()), "refused": self.mesh.refused},
        )
        self.safe = 0

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        publisher: str = "device",
        crossing: int = 0,
        **more: Any,
    ) -> bool:
        """As the engine does it; True when there was something to wait for."""
        message = Message(topic, payload, qos, retain, publisher=publisher, **more)
        if crossing:
            message = once(message, None, 0, crossing)
        if retain:
            message.stamp = self.mesh.stamp()
            self.node.keep(message)
        return self.publish_all([message])

    def publish_run(self, run: Run) -> None:
        self.mesh.forward_run(run, self.node.nodes_for(run.topic))

    def publish_all(self, messages: Sequence[Message]) -> bool:
        batch = [Outbound(message, self.node.nodes_for(message.topic)) for message in messages]
        return self.mesh.forward(batch, self._on_safe)

    def _on_safe(self) -> None:
        self.safe += 1

    def subscribe(self, topic_filter: str) -> None:
        self.node.filters.append(topic_filter)
        self.mesh.interest_added(topic_filter)

    def unsubscribe(self, topic_filter: str) -> None:
        self.node.filters.remove(topic_filter)
        self.mesh.interest_removed(topic_filter)

    def sees(self, *names: str) -> bool:
        """Whether exactly these nodes are alive, as far as this one knows."""
        return {peer.name for peer in self.mesh.peers() if peer.alive} == set(names)

    def peer(self, name: str) -> Any:
        return next(peer for peer in self.mesh.peers() if peer.name == name)


class Meadow:
    """Makes nodes for one test: a namespace and folders of their own, everything stopped at the end."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self.folder = folder
        self.namespace = namespace
        self.members: list[Member] = []

    def settings(self, name: str, **changes: Any) -> MeshSettings:
        defaults = MeshSettings(
            node=name,
            region=f"region-{name}",
            data_dir=self.folder / name,
            namespace=self.namespace,
            listen=(f"tcp/127.0.0.1:{free_port()}",),
            compression=False,
            lease_seconds=1.5,
            ping_seconds=0.2,
            retry_seconds=0.3,
        )
        return dataclasses.replace(defaults, **changes)

    async def node(
        self,
        name: str,
        *connect: Member | int,
        filters: Sequence[str] = (),
        pipeline: FakePipeline | None = None,
        history: Any = None,
        **changes: Any,
    ) -> Member:
        """Start a node that connects to others, or to ports."""
        ports = [item.port if isinstance(item, Member) else item for item in connect]
        changes.setdefault("connect", tuple(f"tcp/127.0.0.1:{port}" for port in ports))
        return await self.start(self.settings(name, **changes), FakeNode(*filters), pipeline, history)

    async def start(
        self,
        settings: MeshSettings,
        node: FakeNode | None = None,
        pipeline: FakePipeline | None = None,
        history: Any = None,
    ) -> Member:
        member = Member(settings, node, pipeline, history)
        await member.mesh.start()
        self.members.append(member)
        return member

    async def again(self, member: Member) -> Member:
        """The node started again with an engine that has nothing but its marks; stop it before."""
        node = FakeNode(*member.node.filters)
        node.kept_marks = member.node.kept_marks
        return await self.start(member.settings, node)

    async def stop(self) -> None:
        await asyncio.gather(*(member.mesh.stop() for member in self.members))


@asynccontextmanager
async def meadow(folder: Path, namespace: str) -> AsyncIterator[Meadow]:
    made = Meadow(folder, namespace)
    try:
        yield made
    finally:
        await made.stop()


async def joined(*members: Member) -> None:
    """Wait until all of them see each other and know each other's interest."""
    for member in members:
        others = {other.name: other for other in members if other is not member}
        await until(lambda m=member, o=others: m.sees(*o), f"{member.name} sees {sorted(others)}")
        for name, other in others.items():
            for topic_filter in other.node.filters:
                await until(
                    lambda m=member, n=name, f=topic_filter: f in m.node.interest.get(n, ()),
                    f"{member.name} knows that {name} wants {topic_filter}",
                )
