"""The pure parts of a mesh against a model of one broker, with the order of everything in hypothesis's hands.

Frames overtake each other, are lost and come twice; disks write late; nodes crash between any two steps. The simulator
(``tests/simulator``) plays whole meshes over longer times; here it is the smallest sequence that is found.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.message import Message, Run
from broker.protocol.topics import matches
from edge_mesh import control, envelope, regions
from edge_mesh.arrivals import Arrivals
from edge_mesh.control import Ack, Ping
from edge_mesh.gateway import Gateway
from edge_mesh.interest import LocalInterest, RemoteInterest
from edge_mesh.interest_change import decode_change, join_snapshot, snapshot_parts
from edge_mesh.keys import Keys
from edge_mesh.lanes import SendingLane, Stand
from edge_mesh.outbox_store import Entry
from edge_mesh.ways import Ways
from tests.simulator.batches import one_by_one
from tests.simulator.disk import StepOutbox, Store

KEYS = Keys("m")
REGIONS = {"a0": "a", "a1": "a", "b0": "b", "b1": "b"}
NAMES = sorted(REGIONS)
TOPICS = ("x/1", "x/2", "y")
FILTERS = (*TOPICS, "x/+", "#")
MAX_FILTERS = 2
NODES = st.sampled_from(NAMES)
THEN = st.sampled_from(["nothing", "all comes", "quiet", "quiet"])
FATES = st.sampled_from(["comes", "comes", "comes", "comes twice", "is lost"])


class Frame(NamedTuple):
    """What one node has put for another one."""

    receiver: str
    key: str
    payload: bytes


class NoThread:
    waiting = 0

    def stop(self) -> None:
        pass


class Peer:
    def __init__(self, name: str, lane: SendingLane, interest: RemoteInterest) -> None:
        self.name, self.region = name, REGIONS[name]
        self.lane, self.interest = lane, interest
        self.alive = False


class Node:
    """What of a node outlives a crash."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.held: set[str] = set()
        self.store = Store()
        self.lives = 0
        self.life: Life | None = None

    def wants(self, topic: str) -> bool:
        return any(matches(held, topic) for held in self.held)


class Life:
    """A node from a start to a crash: the real parts, put together as :mod:`edge_mesh.mesh` does it, without a loop."""

    def __init__(self, mesh: MeshMachine, node: Node) -> None:
        self.mesh, self.node, self.name = mesh, node, node.name
        node.lives += 1
        self.store = node.store.copy()
        self.due: list[Callable[[], None]] = []
        """What the disks, and timers, have still to do."""
        self._waiting: list[Callable[[], None]] = []
        self.outbox = StepOutbox(
            node.path,
            1e6,
            1 << 20,
            wall=lambda: 1000.0 + mesh.clock,
            steady=lambda: mesh.clock,
            delays=lambda: 0.0,
            later=lambda seconds, call: self.due.append(call),
            written=lambda wall: None,
        )
        self.outbox.start(None)
        link: Any = self
        local: Any = self
        stand = Stand(
            node=self.name,
            keys=KEYS,
            link=link,
            outbox=self.outbox,
            local=local,
            durable=True,
            times=lambda: (1000.0 + mesh.clock, mesh.clock),
            later=lambda seconds, call: self.due.append(call),
            window=300,
            retry=1.0,
        )
        known = {peer.name: peer.topic_filters for peer in self.outbox.known_peers}
        self.peers = {
            name: Peer(name, SendingLane(stand, name), RemoteInterest(known.get(name, ())))
            for name in NAMES
            if name != self.name
        }
        self.ways = Ways(stand, REGIONS[self.name], self.peers)
        self.ways.rebuild()
        self.arrivals = Arrivals(stand, lambda message: True, lambda: False)
        self.gateway = Gateway(self.name, KEYS, link, self.arrivals.take)
        self.interest = LocalInterest(node.lives, MAX_FILTERS)
        for topic_filter in sorted(node.held):
            self.interest.add(topic_filter)
        while self.interest.changed:
            self.interest.take_change()

    # -- as a link ---------------------------------------------------------------------------------------------

    def sender(self, name: str) -> NoThread:
        return NoThread()

    def put_soon(self, key: str, payload: bytes, priority: Any) -> None:
        self.mesh.frames.append(Frame(key.split("/")[-2], key, payload))

    def put_surely(self, sender: NoThread, key: str, payload: bytes, priority: Any) -> None:
        self.put_soon(key, payload, priority)

    def tell(self, receiver: str, what: str, payload: bytes) -> None:
        self.mesh.frames.append(Frame(receiver, f"m/{what}/{receiver}/{self.name}", payload))

    # -- as a node ---------------------------------------------------------------------------------------------

    crowded = False

    def marks(self) -> dict[str, tuple[int, int]]:
        return dict(self.store.marks)

    def heard(self, sender: str, epoch: int, sequence: int) -> None:
        self.store.marks[sender] = (epoch, sequence)

    def deliver_from_mesh(self, batch: Sequence[Message | Run]) -> None:
        for message in one_by_one(batch):
            self.mesh.arrived(self, message)

    def commit(self, on_safe: Callable[[], None]) -> None:
        self._waiting.append(on_safe)
        if len(self._waiting) == 1:
            self.due.append(self._save)

    def _save(self) -> None:
        self.node.store = self.store.copy()
        waiting, self._waiting = self._waiting, []
        for on_safe in waiting:
            on_safe()

    # -- what happens to it ------------------------------------------------------------------------------------

    def receive(self, frame: Frame) -> None:
        kind, _, sender = frame.key.split("/")[-3:]
        peer = self.peers[sender]
        if kind in ("live", "durable"):
            kinds = {"live": envelope.LIVE, "durable": envelope.DURABLE}
            self.arrivals.take((frame.key, frame.payload), kinds[kind])
        elif kind == "relay":
            self.gateway.receive((frame.key, frame.payload))
        elif kind == "ask":
            self.tell(sender, "snapshot", b"\n".join(snapshot_parts(self.interest.snapshot())))
        elif kind == "snapshot":
            snapshot = join_snapshot(frame.payload.split(b"\n"))
            assert snapshot is not None
            if snapshot.incarnation == self.mesh.nodes[sender].lives:
                self._learn(peer, peer.interest.apply_snapshot(snapshot))
        elif kind == "interest":
            change = decode_change(frame.payload)
            if peer.alive and change.incarnation == self.mesh.nodes[sender].lives:
                self._learn(peer, peer.interest.apply(change))
        else:
            self._control(peer, control.decode(frame.payload))
        self.arrivals.deliver()
        self.ways.flush()

    def _control(self, peer: Peer, found: Ack | Ping | control.Pong) -> None:
        if isinstance(found, Ack):
            if peer.alive:
                peer.lane.acknowledge(found)
        elif isinstance(found, Ping) and found.incarnation == self.mesh.nodes[peer.name].lives:
            known = peer.interest
            if not known.is_current(*found[1:3]) or known.differs(*found[1:]):
                self.tell(peer.name, "ask", b"")

    def _learn(self, peer: Peer, result: tuple[list[str], list[str]] | None) -> None:
        if result is None:
            self.tell(peer.name, "ask", b"")
        else:
            self.outbox.save_interest(peer.name, *result)

    def announce(self) -> None:
        while self.interest.changed:
            change = self.interest.take_change().encode()
            for name in self.peers:
                self.tell(name, "interest", change)

    def ping(self) -> None:
        interest = self.interest
        for peer in self.peers.values():
            if peer.alive:
                ping = Ping(0.0, interest.incarnation, interest.version, interest.digest)
                self.tell(peer.name, "control", ping.encode())
            peer.lane.tick()

    def notice(self, name: str, there: bool) -> None:
        peer = self.peers[name]
        peer.alive = there
        self.outbox.remember_peer(name, peer.region)
        if there:
            self.ways.rebuild()
            peer.lane.resume()
            self.tell(name, "ask", b"")
        else:
            peer.lane.pause()
            self.ways.rebuild()


class Publication(NamedTuple):
    origin: str
    topic: str
    nodes: set[str]
    """Those to which it was sent."""
    owed: set[str]
    """Those of them that have wanted it ever since."""


class MeshMachine(RuleBasedStateMachine):
    """One broker: what it has taken comes once, in order, to all who have wanted it since it was published."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="geomq-model-", dir=_fast())
        self.clock = 0.0
        self.frames: list[Frame] = []
        self.publications: list[Publication] = []
        self.taken: set[int] = set()
        self.live: set[tuple[str, int]] = set()
        self.nodes = {name: Node(name, Path(self._folder.name) / f"{name}.db") for name in NAMES}

    def lives(self) -> Iterable[Life]:
        return [node.life for node in self.nodes.values() if node.life is not None]

    # -- what may happen ---------------------------------------------------------------------------------------

    @initialize(held=st.tuples(*(st.sets(st.sampled_from(FILTERS), min_size=1, max_size=2) for _ in NAMES)))
    def begin(self, held: tuple[set[str], ...]) -> None:
        """All are there, and know of each other."""
        for node, some in zip(self.nodes.values(), held, strict=True):
            node.held = some
            node.life = Life(self, node)
        self._all_meet()

    def _all_meet(self) -> None:
        for life in self.lives():
            for name in life.peers:
                life.notice(name, True)
        for _ in range(3):
            self.everything_comes()
            for life in self.lives():
                self._write(life.name)

    @rule(
        name=NODES,
        batch=st.lists(
            st.tuples(st.sampled_from(TOPICS), st.integers(0, 2), st.sampled_from([0, 200])),
            min_size=1,
            max_size=4,
        ),
        then=THEN,
    )
    def publish(self, name: str, batch: list[tuple[str, int, int]], then: str) -> None:
        life = self.nodes[name].life
        if life is not None:
            for topic, qos, size in batch:
                self._publish(life, topic, qos, size)
            life.ways.flush()
        self._then(then)

    def _then(self, what: str) -> None:
        """Hypothesis would seldom let all of it happen in turn."""
        if what != "nothing":
            self.everything_comes()
        if what == "quiet":
            self.disks_write(set(NAMES))
            self.everything_comes()

    def _publish(self, life: Life, topic: str, qos: int, size: int) -> None:
        number = len(self.publications)
        names = tuple(peer.name for peer in life.peers.values() if peer.interest.matches(topic))
        owed = {other for other in names if qos and self.nodes[other].wants(topic)}
        self.publications.append(Publication(life.name, topic, set(names), owed))
        plan = life.ways.plan(names)
        record = envelope.encode_record(Message(topic, b"%d:" % number + bytes(size), qos))
        if qos:
            entry = Entry(record, 0.0, plan.add_durable(record))
            life.outbox.add([entry], lambda: self.taken.add(number), not plan.everybody_there)
        else:
            plan.add_live(record)

    @rule(name=NODES, topic_filter=st.sampled_from(FILTERS), add=st.booleans())
    def subscribe(self, name: str, topic_filter: str, add: bool) -> None:
        node = self.nodes[name]
        if node.life is None:
            return
        (node.held.add if add else node.held.discard)(topic_filter)
        (node.life.interest.add if add else node.life.interest.remove)(topic_filter)
        node.life.announce()
        for publication in self.publications:
            if not node.wants(publication.topic):
                publication.owed.discard(name)

    @precondition(lambda self: self.frames)
    @rule(moves=st.lists(st.tuples(st.integers(0, 5), FATES), min_size=1, max_size=12))
    def some_come(self, moves: list[tuple[int, str]]) -> None:
        for at, fate in moves:
            if self.frames:
                self._come(at % len(self.frames), fate)

    def _come(self, at: int, fate: str) -> None:
        frame = self.frames.pop(at)
        life = self.nodes[frame.receiver].life
        if life is not None and fate != "is lost":
            life.receive(frame)
        if fate == "comes twice" and ("/durable/" in frame.key or "/control/" in frame.key):
            # Later, as from a life before this one. What may be lost is not sent twice by anybody.
            self.frames.append(frame)

    @rule()
    def everything_comes(self) -> None:
        for _ in range(100):
            if not self.frames:
                break
            frame = self.frames.pop(0)
            life = self.nodes[frame.receiver].life
            if life is not None:
                life.receive(frame)

    @rule(names=st.sets(NODES, min_size=1))
    def disks_write(self, names: set[str]) -> None:
        for name in sorted(names):
            self._write(name)

    def _write(self, name: str) -> None:
        life = self.nodes[name].life
        if life is not None:
            due, life.due = life.due, []
            for call in due:
                call()
            life.ways.flush()

    @rule(name=NODES, at_once=st.booleans(), then=THEN)
    def crash(self, name: str, at_once: bool, then: str) -> None:
        node = self.nodes[name]
        if node.life is not None:
            node.life.outbox.crash()
            node.life = None
            if at_once:
                self.start(name)
        self._then(then)

    @rule(name=NODES)
    def start(self, name: str) -> None:
        node = self.nodes[name]
        if node.life is None:
            node.life = own = Life(self, node)
            for life in self.lives():
                if life is not own:
                    # The token of the former life goes when that of the new one comes.
                    life.notice(name, False)
                    life.notice(name, True)
                    own.notice(life.name, True)

    @rule(
        pair=st.sampled_from([(one, other) for one in NAMES for other in NAMES if one < other]),
        there=st.booleans(),
        then=THEN,
    )
    def link(self, pair: tuple[str, str], there: bool, then: str) -> None:
        one, other = (self.nodes[name].life for name in pair)
        if one is not None and other is not None:
            one.notice(other.name, there)
            other.notice(one.name, there)
        self._then(then)

    @rule()
    def time(self) -> None:
        self.clock += 1.1
        for life in self.lives():
            life.ping()

    # -- what must hold ----------------------------------------------------------------------------------------

    def arrived(self, life: Life, message: Message) -> None:
        """Called at each delivery."""
        number = int(message.payload.split(b":")[0])
        publication = self.publications[number]
        assert message.origin == publication.origin
        assert message.topic == publication.topic
        assert life.name in publication.nodes, "it went where nobody had listened"
        if not message.qos:
            assert (life.name, number) not in self.live, "at most once"
            self.live.add((life.name, number))
            return
        heard = life.store.heard.setdefault(message.origin, [])
        assert number not in heard, "exactly once"
        assert not heard or heard[-1] < number, "in order"
        heard.append(number)

    @invariant()
    def all_choose_the_gateway_alike(self) -> None:
        for life in self.lives():
            for status in life.ways.regions():
                there = [p.name for p in life.peers.values() if p.alive and p.region == status.name]
                assert status.gateway == regions.gateway(status.name, sorted(there, reverse=True))

    def teardown(self) -> None:
        """All is well from now on, and all that was taken arrives. The accounts are audited with each write."""
        try:
            for name in NAMES:
                self.start(name)
            self._all_meet()
            for _ in range(40):
                self.disks_write(set(NAMES))
                self.time()
                self.everything_comes()
            self._check()
        finally:
            for life in self.lives():
                life.outbox.crash()
            self._folder.cleanup()

    def _check(self) -> None:
        for life in self.lives():
            exact = len(life.node.held) <= MAX_FILTERS // 2
            for other in self.lives():
                if other is not life:
                    ledger = other.outbox.ledger(life.name)
                    assert not ledger.queued, (
                        f"{other.name} still has {ledger.queued} messages for {life.name}"
                    )
                    for topic in TOPICS:
                        known, wanted = other.peers[life.name].interest.matches(topic), life.node.wants(topic)
                        assert known == wanted or (known and not exact), (
                            f"{other.name} knows {life.name} wrongly"
                        )
        for number in self.taken:
            publication = self.publications[number]
            for name in publication.owed:
                heard = self.nodes[name].store.heard.get(publication.origin, [])
                assert number in heard, f"{name} misses {number} of {publication.origin}"


def _fast() -> str | None:
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None


TestMeshModel = MeshMachine.TestCase
TestMeshModel.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
