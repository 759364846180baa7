"""A node: what of it outlives a crash, and its lives, in each of which a real mesh runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.message import Message, Run
from broker.ports import Outbound
from broker.protocol.topics import matches
from broker.subscriptions import Subscriptions
from edge_mesh.filter_set import bare_filter
from edge_mesh.mesh import ZenohMesh
from edge_mesh.settings import MeshSettings
from tests.simulator.batches import one_by_one
from tests.simulator.disk import StepOutbox, Store
from tests.simulator.fabric import SimLink
from tests.simulator.loop import PROCESS
from tests.simulator.model import TOPICS

if TYPE_CHECKING:
    from tests.simulator.world import World

WALL = 1_700_000_000.0


class Node:
    """What of a node outlives a crash."""

    def __init__(self, settings: MeshSettings, folder: Path) -> None:
        self.settings = settings
        self.crowded = False
        self.name = settings.node
        self.outbox = folder / "outbox.db"
        self.written = 0.0
        """When the outbox was last written to, by the node's own clock."""
        self.shift = 0.0
        """By how much the clock is wrong."""
        self.held: set[str] = set()
        """What the sessions have subscribed to."""
        self.store = Store()
        self.incarnations: list[int] = []
        self.epochs: list[int] = []
        self.life: Life | None = None

    @property
    def durable(self) -> bool:
        """Whether it has anything on disk."""
        return self.settings.durability == "commit"

    def heard_of(self, origin: str) -> list[int]:
        """The publications of another node that it has heard."""
        store = self.store if self.life is None else self.life.store
        return store.heard.get(origin, [])

    def wants(self, topic: str) -> bool:
        """Whether any session has subscribed to the topic."""
        return any(matches(bare_filter(held), topic) for held in self.held)


class Life:
    """A node from a start to its end; its :class:`broker.ports.LocalNode`, and its clock."""

    def __init__(self, world: World, node: Node) -> None:
        self.world, self.node = world, node
        self.name = node.name
        self.context = copy_context()
        self.context.run(PROCESS.set, self)
        self.alive = True
        self.tasks: list[asyncio.Task[Any]] = []
        self.link = SimLink(world.fabric, node.name, self.context)
        self.outbox: StepOutbox
        self._opened = False
        self.store = node.store.copy()
        self._trie = Subscriptions()
        self._interest: dict[str, set[str]] = {}
        self._waiting: list[Callable[[], None]] = []
        self._saving = False
        self.mesh: ZenohMesh = self.context.run(ZenohMesh, node.settings, self, None, None, None)
        node.incarnations.append(self.mesh._incarnation)
        self.started = world.loop.create_task(self.mesh.start(), context=self.context)

    def wall(self) -> float:
        return WALL + self.world.loop.time() + self.node.shift

    # -- what it does ------------------------------------------------------------------------------------------

    def make_outbox(self, path: Path | None, retention: float, capacity: int, linger: float) -> StepOutbox:
        """In the place of :class:`edge_mesh.outbox.Outbox`."""
        self.outbox = StepOutbox(
            path,
            retention,
            capacity,
            wall=self.wall,
            steady=self.world.loop.time,
            delays=self.world.disk_delay,
            later=self._later,
            written=self._written,
        )
        self._opened = True
        return self.outbox

    @property
    def ready(self) -> bool:
        """Whether it has joined the mesh."""
        return self.alive and self.started.done()

    def run(self, call: Callable[[], object]) -> None:
        """Let it do something, now."""
        self.context.run(call)

    def subscribe(self, topic_filter: str) -> None:
        if topic_filter not in self.node.held:
            before = {topic for topic in TOPICS if self.node.wants(topic)}
            self.node.held.add(topic_filter)
            self.world.model.wants_more(self.node, before)
            self.run(lambda: self.mesh.interest_added(topic_filter))

    def unsubscribe(self, topic_filter: str) -> None:
        self.node.held.discard(topic_filter)
        self.run(lambda: self.mesh.interest_removed(topic_filter))

    def knows(self, topic: str) -> tuple[str, ...]:
        """The nodes of which this one believes that they want the topic."""
        return self._trie.route(topic).nodes

    def publish(self, message: Message, nodes: tuple[str, ...], on_safe: Callable[[], None]) -> None:
        """As the engine does it; what is numbered as a crossing is in the node's own store already."""
        if message.retain:
            message.stamp = self.context.run(self.mesh.stamp)
            self._keep(self.store, message)
            self._keep(self.node.store, message)
        if not self.context.run(self.mesh.forward, [Outbound(message, nodes)], on_safe):
            on_safe()

    def publish_run(self, run: Run, nodes: tuple[str, ...]) -> None:
        """As the engine does it."""
        if nodes:
            self.context.run(self.mesh.forward_run, run, nodes)

    def reconfigure(self, **changes: Any) -> None:
        self.node.settings = settings = replace(self.node.settings, **changes)
        self.world.loop.create_task(self.mesh.reconfigure(settings), context=self.context)

    def crash(self) -> None:
        """It is gone, with all that was not on disk."""
        self.world.fabric.died(self.link)
        self._end()
        crossed = self.outbox.crash() if self._opened else frozenset()
        self.world.model.crashed(self, crossed)

    async def stop(self) -> None:
        """It ends in order."""
        await self.mesh.stop()
        if self.alive:
            self.node.store = self.store
            self.world.model.saved(self)
            self._end()

    def _end(self) -> None:
        self.alive = False
        self.node.life = None
        if not self.node.durable:
            self.node.store = Store()
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.world.loop.call_later(seconds, lambda: call() if self.alive else None, context=self.context)

    def _written(self, wall: float) -> None:
        self.node.written = wall

    # -- the port ----------------------------------------------------------------------------------------------

    def remote_interest(self, node: str, added: Iterable[str], removed: Iterable[str]) -> None:
        held = self._interest.setdefault(node, set())
        for topic_filter in added:
            held.add(topic_filter)
            self._trie.add_node(node, topic_filter)
        for topic_filter in removed:
            held.discard(topic_filter)
            self._trie.remove_node(node, topic_filter)
        if self.alive:
            self.world.model.interest_heard(self, node)

    def remote_gone(self, node: str) -> None:
        for topic_filter in self._interest.pop(node, ()):
            self._trie.remove_node(node, topic_filter)
        if self.alive:
            self.world.model.forgotten(self, node)

    def deliver_from_mesh(self, batch: Sequence[Message | Run]) -> None:
        for message in one_by_one(batch):
            if message.retain:
                self._keep(self.store, message)
            if self.alive:
                self.world.say(
                    f"{self.name} hears {message.payload.split(b':')[0].decode()} of {message.origin}"
                )
                self.world.model.arrived(self, message)

    @property
    def crowded(self) -> bool:
        return self.node.crowded

    def marks(self) -> dict[str, tuple[int, int]]:
        return dict(self.store.marks)

    def heard(self, sender: str, epoch: int, sequence: int) -> None:
        self.store.marks[sender] = (epoch, sequence)

    def commit(self, on_safe: Callable[[], None]) -> None:
        self._waiting.append(on_safe)
        if not self._saving:
            self._saving = True
            self._later(self.world.disk_delay(), self._save)

    def retained_from_mesh(self, batch: Sequence[Message]) -> None:
        for message in batch:
            self._keep(self.store, message)

    def local_filters(self) -> Iterable[str]:
        return sorted(self.node.held)

    def retained_messages(self) -> Iterable[Message]:
        return list(self.store.retained.values())

    def retained_of(self, topics: Iterable[str]) -> Iterable[Message]:
        return [self.store.retained[topic] for topic in sorted(topics) if topic in self.store.retained]

    def _save(self) -> None:
        # What comes while the disk writes is not in this group.
        group, waiting, self._waiting = self.store.copy(), self._waiting, []

        def written() -> None:
            self.node.store = group
            self.world.model.saved(self)
            self._later(self.world.disk_delay() / 10, told)

        def told() -> None:
            self._saving = False
            for on_safe in waiting:
                on_safe()
            if self._waiting and not self._saving:
                self._saving = True
                self._later(self.world.disk_delay(), self._save)

        self._later(self.world.disk_delay(), written)

    def _keep(self, store: Store, message: Message) -> None:
        known = store.retained.get(message.topic)
        origin = message.origin or self.name
        if known is None or (known.stamp, known.origin or self.name) < (message.stamp, origin):
            store.retained[message.topic] = message
