"""A mesh in one thread, driven by one seed: the real mesh on simulated links, clocks and disks.

What the nodes' processes, disks and Zenoh would do happens in events of virtual time, in an order that the seed
decides. The same seed gives the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from broker.message import Message, Run, once
from edge_mesh.interest_change import decode_change
from edge_mesh.settings import MeshSettings
from tests.simulator.fabric import Fabric
from tests.simulator.loop import PROCESS, NodeTime, VirtualLoop
from tests.simulator.model import FILTERS, Model, Publication
from tests.simulator.node import Life, Node

_MANY = 10_000


class World:
    """``folder`` is for the outboxes; ``trace`` is told what happens. Use as a context manager."""

    def __init__(self, seed: int, folder: Path, trace: Callable[[str], None] = lambda line: None) -> None:
        self.chance = chance = random.Random(seed)
        self._trace = trace
        self._failure: str | None = None
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._on_exception)
        self.fabric = Fabric(self.loop, chance, chance.choice([0.0, 0.0, 0.02, 0.2]), self._tamper)
        self.tampers = chance.random() < 0.2
        self.bounded = chance.random() < 0.2
        self.forgetful = chance.random() < 0.15
        self.lossy = False
        """Whether an outbox was lost."""
        self.most_filters = chance.choice([_MANY, _MANY, 1, 2, 4])
        self.nodes: dict[str, Node] = {}
        for region in "abc"[: chance.randint(1, 3)]:
            for number in range(chance.randint(1, 3)):
                self._make(f"{region}{number}", region, folder)
        self.model = Model(self.nodes, self.loop.time, self.fail, not self.tampers, self.forgetful)
        self._patches = contextlib.ExitStack()

    def _make(self, name: str, region: str, folder: Path) -> None:
        chance = self.chance
        settings = MeshSettings(
            node=name,
            region=region,
            data_dir=folder / name,
            namespace="sim",
            retention_seconds=15.0 if self.forgetful else 1e6,
            outbox_bytes=3000 if self.bounded else 1 << 30,
            window_bytes=2000,
            durability="memory" if chance.random() < 0.15 else "commit",
            max_filters=self.most_filters,
        )
        node = self.nodes[name] = Node(settings, folder / name)
        node.held = {topic_filter for topic_filter in FILTERS if chance.random() < 0.25}

    def __enter__(self) -> World:
        patch, stack = mock.patch, self._patches
        time = NodeTime(self.loop)
        for module in ("mesh", "outbox_store"):
            stack.enter_context(patch(f"edge_mesh.{module}.time", time))
        stack.enter_context(patch("edge_mesh.mesh.Link", lambda settings, loop: _life().link))
        stack.enter_context(patch("edge_mesh.mesh.Outbox", lambda *settings: _life().make_outbox(*settings)))
        stack.enter_context(patch("edge_mesh.outbox_store.last_written", lambda path: _life().node.written))
        stack.enter_context(_errors_are_told(self.fail))
        return self

    def begin(self) -> None:
        """Most nodes are there from the beginning."""
        for name in self.nodes:
            if self.chance.random() < 0.8:
                self.start(name)

    def __exit__(self, *error: object) -> None:
        self.loop.run_until_complete(self._end())
        self.loop.close()
        self._patches.close()

    async def _end(self) -> None:
        for node in self.nodes.values():
            if node.life is not None:
                node.life.crash()

    def fail(self, what: str) -> None:
        """Something is wrong: the first such thing ends the run."""
        if self._failure is None:
            self._failure = f"at {self.loop.time():.3f}: {what}"

    async def passes(self, seconds: float) -> None:
        """Let so much time go by. AssertionError where something went wrong."""
        await asyncio.sleep(seconds)
        if self._failure is not None:
            raise AssertionError(self._failure)

    def disk_delay(self) -> float:
        """How long a disk takes; now and then somebody else needs it."""
        return self.chance.uniform(0.0, 0.5 if self.chance.random() < 0.2 else 0.02)

    def lives(self) -> Iterator[Life]:
        """The nodes that are in the mesh."""
        return (node.life for node in self.nodes.values() if node.life is not None and node.life.ready)

    # -- what happens ------------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        self._trace(f"{self.loop.time():8.3f} {line}")

    def start(self, name: str) -> None:
        node = self.nodes[name]
        if node.life is None:
            self.say(f"{name} starts")
            node.life = life = Life(self, node)
            life.started.add_done_callback(lambda _: self._started(life) if life.alive else None)

    def _started(self, life: Life) -> None:
        self.model.started(life)
        epochs = life.node.epochs
        if epochs and life.outbox.epoch < max(epochs):
            # A clock that was set back, a lost outbox, and frames that are late, all at once: who had never heard
            # the former life takes it for the later one. The protocol does not promise to see through that.
            self.fabric.forget_the_dead(life.name)
        epochs.append(life.outbox.epoch)

    def crash(self, name: str, lose: bool = False) -> None:
        """``lose``: its outbox goes with it."""
        node = self.nodes[name]
        life = node.life
        if life is not None:
            self.say(f"{name} crashes{' and loses its outbox' * lose}")
            life.crash()
            self.model.ended(life, False, lose)
            self.lossy = self.lossy or lose or not node.durable
            if lose:
                for path in node.outbox.parent.glob("outbox.db*"):
                    path.unlink()

    async def stop(self, name: str) -> None:
        node = self.nodes[name]
        life = node.life
        if life is not None and life.ready:
            self.say(f"{name} stops")
            await self.loop.create_task(life.stop(), context=life.context)
            self.model.ended(life, True, False)
            self.lossy = self.lossy or not node.durable

    def cut(self, names: Iterable[str]) -> None:
        inside = set(names)
        self.say(f"cut around {sorted(inside)}")
        self.fabric.cut(inside, sorted(self.nodes))

    def heal(self) -> None:
        self.say("healed")
        self.fabric.heal()

    def subscribe(self, name: str, topic_filter: str) -> None:
        life = self.nodes[name].life
        if life is not None and life.ready:
            self.say(f"{name} subscribes to {topic_filter}")
            life.subscribe(topic_filter)

    def unsubscribe(self, name: str, topic_filter: str) -> None:
        life = self.nodes[name].life
        if life is not None and life.ready and topic_filter in life.node.held:
            self.say(f"{name} unsubscribes from {topic_filter}")
            life.unsubscribe(topic_filter)
            self.model.wanted_less(life.node)

    def set_bound(self, name: str, most: int) -> None:
        life = self.nodes[name].life
        if life is not None and life.ready:
            self.say(f"{name} may tell {most} filters")
            life.reconfigure(max_filters=most)

    def set_crowded(self, name: str, crowded: bool) -> None:
        self.say(f"{name}'s clients {'have' if crowded else 'no longer have'} more than they can take")
        self.nodes[name].crowded = crowded

    def set_clock(self, name: str, to: float) -> None:
        self.say(f"{name}'s clock is wrong by {to}")
        self.nodes[name].shift = to

    def publish(
        self, name: str, topic: str, qos: int, size: int = 0, retain: bool = False, lasts: float = 0.0
    ) -> Publication | None:
        """``lasts`` is the Message Expiry Interval, 0.0 for none."""
        life = self.nodes[name].life
        if life is None or not life.ready:
            return None
        publication = self._publication(life, topic, qos, retain, lasts > 0)
        message = Message(topic, b"%d:" % publication.number + bytes(size), qos, retain)
        if publication.crosses:
            message = once(message, None, 0, publication.number)
        message.expires_at = life.wall() + lasts if lasts else 0.0

        def safe() -> None:
            publication.acknowledged = True

        life.publish(message, publication.nodes, safe)
        publication.stamp = message.stamp
        return publication

    def publish_run(self, name: str, topic: str, count: int, size: int) -> None:
        """So many messages at QoS 0 in one piece."""
        life = self.nodes[name].life
        if life is None or not life.ready:
            return
        publications = [self._publication(life, topic, 0, False, False) for _ in range(count)]
        payloads = b"".join(b"%08d:" % publication.number + bytes(size) for publication in publications)
        life.publish_run(Run(topic, payloads, 9 + size), publications[0].nodes)

    def _publication(self, life: Life, topic: str, qos: int, retain: bool, expires: bool) -> Publication:
        number = len(self.model.publications) + 1
        nodes = life.knows(topic)
        self.say(
            f"{life.name} publishes {number} to {topic} at QoS {qos}{' retained' * retain}, for {','.join(nodes)}"
        )
        there = tuple(peer.name for peer in life.mesh.peers() if peer.alive and peer.name in nodes)
        gateways = tuple((region.name, region.gateway) for region in life.mesh.regions())
        publication = Publication(number, life, topic, qos, retain, nodes, (there, gateways))
        self.model.published(publication, expires)
        return publication

    # -- what goes wrong by itself -----------------------------------------------------------------------------

    def _tamper(self, payload: bytes) -> bytes:
        if not self.tampers or self.chance.random() > 0.3:
            return payload
        change = decode_change(payload)
        return change._replace(added=change.added[1:], removed=change.removed[:-1]).encode()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.fail(f"{context['message']}: {error!r}")


def _life() -> Life:
    """Whose code runs."""
    life = PROCESS.get()
    assert isinstance(life, Life)
    return life


class _Errors(logging.Handler):
    def __init__(self, fail: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._fail = fail

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "is taken by another living node" not in text:
            error = record.exc_info[1] if record.exc_info else None
            self._fail(f"the log says: {text}" + (f" ({error!r})" if error else ""))


@contextlib.contextmanager
def _errors_are_told(fail: Callable[[str], None]) -> Iterator[None]:
    """Nothing but errors is of interest, and nothing is printed."""
    logger, handler = logging.getLogger("geomq"), _Errors(fail)
    before = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
