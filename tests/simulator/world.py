"""A mesh in one thread, driven by one seed: real ways, lanes, gateways and outboxes; simulated links, clocks, crashes.

What the nodes' event loops, disks and Zenoh would do happens in events of virtual time, in an order that the seed
decides. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import queue
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from broker.message import Message
from edge_mesh import control, envelope
from edge_mesh.arrivals import Arrivals
from edge_mesh.gateway import Gateway
from edge_mesh.keys import Keys
from edge_mesh.lanes import SendingLane, Stand
from edge_mesh.outbox import Outbox
from edge_mesh.outbox_store import Entry
from edge_mesh.ways import Ways

KEYS = Keys("sim")
TOPICS = ("t/0", "t/1", "t/2")
WALL = 1_700_000_000.0


class StepOutbox(Outbox):
    """The outbox without its thread: it writes when the world says so."""

    def __init__(self, path: Path, life: Life) -> None:
        super().__init__(path, 1e6, 1 << 30, wall=life.wall, steady=lambda: life.world.now)
        self._loop = life  # type: ignore[assignment]

    @property
    def is_busy(self) -> bool:
        return not self._commands.empty()

    def write(self) -> None:
        """Everything that was asked for, in one transaction."""
        group = []
        try:
            while True:
                group.append(self._commands.get_nowait())
        except queue.Empty:
            pass
        self._write(group)

    def crash(self) -> None:
        """What was not committed is gone."""
        self._store._db.close()


class NoThread:
    """A sender whose puts are over at once."""

    waiting = 0

    def stop(self) -> None:
        pass


class SimLink:
    """What a node puts, handed to the world."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def sender(self, name: str) -> NoThread:
        return NoThread()

    def put_soon(self, key: str, payload: bytes, priority: Any) -> None:
        self._life.world.carry(self._life, key, payload, droppable=True)

    def put_surely(self, sender: NoThread, key: str, payload: bytes, priority: Any) -> None:
        self._life.world.carry(self._life, key, payload, droppable=False)


class Peer:
    def __init__(self, node: Node, lane: SendingLane) -> None:
        self.name, self.region, self.lane = node.name, node.region, lane
        self.alive = False


class Node:
    """What of a node outlives a crash."""

    def __init__(self, name: str, region: str, wants: set[str], folder: Path) -> None:
        self.name, self.region, self.wants = name, region, wants
        self.outbox = folder / f"{name}.db"
        self.marks: dict[str, tuple[int, int]] = {}
        self.heard: list[tuple[str, bytes]] = []
        """(origin, payload) of everything above QoS 0 that is on disk here, in order."""
        self.published: dict[bytes, set[str]] = {}
        """What was published here above QoS 0, and the nodes that want it."""
        self.acknowledged: set[bytes] = set()
        self.life: Life | None = None


class Life:
    """A node from a start to a crash; also its :class:`broker.ports.LocalNode`."""

    def __init__(self, world: World, node: Node) -> None:
        self.world, self.node = world, node
        self.shift = 0.0
        self.sees: dict[str, Life | None] = {}
        """The lives of other nodes that this one believes to be there."""
        self._staged: list[tuple[str, bytes]] = []
        self._staged_marks: dict[str, tuple[int, int]] = {}
        self._waiting: list[Callable[[], None]] = []
        self.outbox = StepOutbox(node.outbox, self)
        stand: Any = Stand(
            node=node.name,
            keys=KEYS,
            link=SimLink(self),  # type: ignore[arg-type]
            outbox=self.outbox,
            local=self,  # type: ignore[arg-type]
            durable=True,
            times=lambda: (self.wall(), world.now),
            later=lambda seconds, call: world.after(seconds, lambda: self.turn(call)),
            window=2000,
            retry=1.0,
        )
        self.peers = {
            other.name: Peer(other, SendingLane(stand, other.name))
            for other in world.nodes.values()
            if other is not node
        }
        self.ways = Ways(stand, node.region, self.peers)
        self.ways.rebuild()
        self.arrivals = Arrivals(stand, lambda message: True, lambda: False)
        self.gateway = Gateway(node.name, KEYS, stand.link, self.arrivals.take)

    def wall(self) -> float:
        return WALL + self.world.now + self.shift

    def turn(self, work: Callable[[], None]) -> None:
        """A turn of this node's event loop, unless it has crashed; then what its disk has to do."""
        if self.node.life is not self:
            return
        work()
        self.arrivals.deliver()
        self.ways.flush()
        chance = self.world.chance
        if self.outbox.is_busy:
            self.world.after(chance.uniform(0, 0.05), lambda: self.turn(self.outbox.write))
        if self._waiting:
            self.world.after(chance.uniform(0, 0.05), lambda: self.turn(self._commit))

    def call_soon_threadsafe(self, call: Callable[..., None], *arguments: Any) -> None:
        self.world.after(0.0, lambda: self.turn(lambda: call(*arguments)))

    def receive(self, key: str, payload: bytes) -> None:
        kind, _, sender = key.split("/")[-3:]
        if kind == "relay":
            self.gateway.receive((key, payload))
        elif kind == "control":
            frame = control.decode(payload)
            assert isinstance(frame, control.Ack)
            if self.peers[sender].alive:
                self.peers[sender].lane.acknowledge(frame)
        else:
            self.arrivals.take((key, payload), envelope.DURABLE if kind == "durable" else envelope.LIVE)

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        names = tuple(n.name for n in self.world.nodes.values() if topic in n.wants and n is not self.node)
        plan = self.ways.plan(names)
        record = envelope.encode_record(Message(topic, payload, qos))
        if not qos:
            plan.add_live(record)
            return
        self.node.published[payload] = set(names)
        entry = Entry(record, 0.0, plan.add_durable(record))
        self.outbox.add([entry], lambda: self.node.acknowledged.add(payload), not plan.everybody_there)

    def tick(self) -> None:
        for peer in self.peers.values():
            peer.lane.tick()

    def joined(self, name: str) -> None:
        self.peers[name].alive = True
        self.ways.rebuild()
        self.peers[name].lane.resume()

    def left(self, name: str) -> None:
        self.peers[name].alive = False
        self.peers[name].lane.pause()
        self.ways.rebuild()

    # -- the port ----------------------------------------------------------------------------------------------

    def marks(self) -> dict[str, tuple[int, int]]:
        return dict(self.node.marks)

    def deliver_from_mesh(self, batch: Sequence[Message]) -> None:
        self._staged += ((message.origin, message.payload) for message in batch if message.qos)

    def heard(self, sender: str, epoch: int, sequence: int) -> None:
        self._staged_marks[sender] = (epoch, sequence)

    def commit(self, on_safe: Callable[[], None]) -> None:
        self._waiting.append(on_safe)

    def _commit(self) -> None:
        self.node.heard += self._staged
        self.node.marks |= self._staged_marks
        self._staged = []
        waiting, self._waiting = self._waiting, []
        for on_safe in waiting:
            on_safe()


class World:
    """``folder`` is for the outboxes; ``trace`` is told what happens."""

    def __init__(self, seed: int, folder: Path, trace: Callable[[str], None] = lambda line: None) -> None:
        self.chance = chance = random.Random(seed)
        self.now = 0.0
        self._trace = trace
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._cut: set[frozenset[str]] = set()
        self._last: dict[tuple[str, str], float] = defaultdict(float)
        self._loss = chance.choice([0.0, 0.0, 0.02, 0.2])
        self.nodes: dict[str, Node] = {}
        for region in "abc"[: chance.randint(1, 3)]:
            for number in range(chance.randint(1, 3)):
                wants = {topic for topic in TOPICS if chance.random() < 0.7}
                self.nodes[f"{region}{number}"] = Node(f"{region}{number}", region, wants, folder)
        for name in self.nodes:
            self.start(name)

    # -- time --------------------------------------------------------------------------------------------------

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, call))

    def run(self, seconds: float) -> None:
        """Let so much time go by."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, call = heapq.heappop(self._events)
            call()
        self.now = end

    # -- links -------------------------------------------------------------------------------------------------

    def reaches(self, one: str, other: str) -> bool:
        alive = self.nodes[one].life is not None and self.nodes[other].life is not None
        return alive and frozenset((one, other)) not in self._cut

    def carry(self, life: Life, key: str, payload: bytes, droppable: bool) -> None:
        """Bring a put to its receiver: in order on each link, late, or never."""
        sender, receiver = life.node.name, key.split("/")[-2]
        if not self.reaches(sender, receiver) or (droppable and self.chance.random() < self._loss):
            return
        target = self.nodes[receiver].life
        assert target is not None
        at = max(self._last[sender, receiver], self.now + self.chance.uniform(0.001, 0.1))
        self._last[sender, receiver] = at

        def arrive() -> None:
            if self.reaches(sender, receiver):
                target.turn(lambda: target.receive(key, payload))

        self.after(at - self.now, arrive)

    def _see(self, one: str, other: str) -> None:
        """Some time later ``one`` notices whether it reaches the other."""
        life = self.nodes[one].life
        if life is None:
            return

        def look() -> None:
            there = self.nodes[other].life if self.reaches(one, other) else None
            seen = life.sees.get(other)
            life.sees[other] = there
            if there is None:
                if seen is not None:
                    life.left(other)
            elif there is not seen or self.chance.random() < 0.5:
                # A cut that was too short to be noticed, or one that was.
                life.joined(other)

        self.after(self.chance.uniform(0.05, 1.0), lambda: life.turn(look))

    # -- what happens ------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        node = self.nodes[name]
        if node.life is None:
            self._trace(f"{self.now:8.3f} {name} starts")
            node.life = life = Life(self, node)
            self._tick(life)
            self._notice(name)

    def crash(self, name: str) -> None:
        node = self.nodes[name]
        if node.life is not None:
            self._trace(f"{self.now:8.3f} {name} crashes")
            node.life.outbox.crash()
            node.life = None
            self._notice(name)

    def cut(self, names: Iterable[str]) -> None:
        """Nobody of these reaches any of the others."""
        inside = set(names)
        self._trace(f"{self.now:8.3f} cut around {sorted(inside)}")
        pairs = {frozenset((one, other)) for one in inside for other in self.nodes if other not in inside}
        self._cut |= pairs
        self._notice_pairs(pairs)

    def heal(self) -> None:
        self._trace(f"{self.now:8.3f} healed")
        pairs, self._cut = self._cut, set()
        self._notice_pairs(pairs)

    def publish(self, name: str, topic: str, payload: bytes, qos: int) -> None:
        life = self.nodes[name].life
        if life is not None:
            number = payload.split(b":")[0].decode()
            self._trace(f"{self.now:8.3f} {name} publishes {number} to {topic} at QoS {qos}")
            life.turn(lambda: life.publish(topic, payload, qos))

    def set_clock(self, name: str, by: float) -> None:
        life = self.nodes[name].life
        if life is not None:
            self._trace(f"{self.now:8.3f} {name}'s clock is set by {by}")
            life.shift += by

    def _notice(self, name: str) -> None:
        self._notice_pairs({frozenset((name, other)) for other in self.nodes if other != name})

    def _notice_pairs(self, pairs: set[frozenset[str]]) -> None:
        for one, other in sorted(sorted(pair) for pair in pairs):
            self._see(one, other)
            self._see(other, one)

    def _tick(self, life: Life) -> None:
        if self.nodes[life.node.name].life is life:
            life.turn(life.tick)
            self.after(0.5, lambda: self._tick(life))
