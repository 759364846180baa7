"""Messages on their way to other nodes, through rules that take their time, while the node crashes at any moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.crossings import Crossings
from broker.message import Message, OnceMessage
from broker.ports import Later, Outbound, Processed, Stage
from tests.engine.harness import WALL, Peer
from tests.protocol import wire
from tests.store.harness import DurableBroker, database
from tests.store.test_session_crashes import Publisher

TOPIC = "t"

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 2)),
        st.tuples(st.just("hear"), st.just(0)),
        st.tuples(st.just("rule"), st.just(0)),
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.just("told"), st.just(0)),
        st.tuples(st.just("outbox"), st.just(0)),
        st.tuples(st.just("return"), st.just(0)),
        st.tuples(st.just("stop"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
    ),
    max_size=80,
)


class Outbox:
    """What is on the mesh's disk, and what other nodes have heard."""

    def __init__(self) -> None:
        self.crossed: set[int] = set()
        self.heard: list[bytes] = []


class StepMesh:
    """A :class:`broker.ports.Mesh` whose outbox is written by :meth:`commit`."""

    def __init__(self, outbox: Outbox, kept: Callable[[], set[int]]) -> None:
        self._outbox = outbox
        self._kept = kept
        self._forgotten: set[int] = set()
        self.stopped = False
        self._waiting: list[Callable[[], None]] = []
        self._lane: list[bytes] = []
        """What is sent when what came before it is written."""
        self.crossed = frozenset(outbox.crossed)
        self.failing = False
        self._stamp = 0

    def interest_added(self, topic_filter: str) -> None: ...

    def interest_removed(self, topic_filter: str) -> None: ...

    def refuses(self, nodes: Sequence[str], retain: bool, size: int) -> bool:
        return False

    def stamp(self) -> int:
        self._stamp += 1
        return self._stamp

    def forward(self, batch: Sequence[Outbound], on_safe: Callable[[], None] | None) -> bool:
        if self.stopped:
            return False
        outbox = self._outbox
        crossing: set[int] = set()
        for message, nodes in batch:
            assert nodes == ("far",)
            if isinstance(message, OnceMessage) and message.crossing:
                assert message.crossing not in outbox.crossed
                crossing.add(message.crossing)
            if crossing or self._lane:
                self._lane.append(message.payload)
            else:
                outbox.heard.append(message.payload)

        def write() -> None:
            outbox.crossed |= crossing
            if on_safe is not None:
                on_safe()

        self._waiting.append(write)
        return True

    def forget_crossed(self, numbers: Sequence[int]) -> None:
        assert not self._kept().intersection(numbers), "the store would hand them over again"
        assert not self._forgotten.intersection(numbers)
        self._forgotten.update(numbers)
        self._waiting.append(lambda: self._outbox.crossed.difference_update(numbers))

    def commit(self) -> bool:
        """Write all that waits; whether there was anything."""
        self._outbox.heard += self._lane
        self._lane = []
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            write()
        return bool(waiting)


class SlowRules:
    """An ingress stage that works on one batch each time that it is told to."""

    behind = False

    def __init__(self, slow: bool) -> None:
        self._slow = slow
        self.waiting: list[tuple[Sequence[Message], Later]] = []

    def stages(self, topic: str) -> int:
        return Stage.INGRESS if self._slow else 0

    def at_once(self, topic: str) -> int:
        return -1

    def run(self, stage: Stage, batch: Sequence[Message], now: float, then: Later) -> Processed:
        self.waiting.append((batch, then))
        return Processed([None] * len(batch), [], frozenset(range(len(batch))))

    def work(self) -> None:
        if self.waiting:
            batch, then = self.waiting.pop(0)
            made = [m.revised(m.topic, m.payload + b"!", m.qos, m.retain, b"") for m in batch]
            then(batch, Processed(list(made), []), WALL)


def numbers(broker: DurableBroker) -> set[int]:
    """Of what the store has on disk for other nodes."""
    rows = broker.store.database._connection.execute("SELECT number FROM delivery WHERE session = 0")
    return {number for (number,) in rows}


class Life:
    """A node from its start to its end, and the publisher's connection to it."""

    def __init__(
        self, broker: DurableBroker, outbox: Outbox, slow: bool, publisher: Publisher | None
    ) -> None:
        self.broker = broker
        self.rules = SlowRules(slow)
        self.mesh = StepMesh(outbox, lambda: numbers(broker))
        engine = broker.engine
        engine.have_rules(self.rules)
        engine.mesh = self.mesh
        engine.remote_interest("far", [TOPIC], ())
        last = broker.store.database.last_crossing()
        self.crossings = engine.crossings = Crossings(broker.store, self.mesh, last)
        done: list[bool] = []
        self.crossings.resume(
            lambda topic: engine.subscriptions.route(topic).nodes, lambda: done.append(True)
        )
        while not done:
            broker.store.step()
        if publisher is not None:
            publisher.connect(broker)

    def settle(self) -> bool:
        """Do all that is to be done; whether there was anything."""
        busy = bool(self.rules.waiting)
        self.rules.work()
        busy = self.mesh.commit() or busy
        return self.broker.store.step() or busy


@pytest.mark.spec("MQTT-4.3.2-4", "MQTT-4.3.3-10")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("slow", [False, True])
@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_crashes_lose_nothing_and_double_nothing_at_qos_2(
    version: int, slow: bool, steps: list[tuple[str, int]]
) -> None:
    outbox = Outbox()
    life = Life(DurableBroker(database()), outbox, slow, None)
    publisher = Publisher(life.broker, version)
    published: list[tuple[int, int]] = []
    crashes = any(what in ("crash", "stop") for what, _ in steps)
    for what, number in steps:
        if what == "publish":
            published.append(publisher.publish(number))
        elif what == "hear":
            publisher.hear()
        elif what == "rule":
            life.rules.work()
        elif what == "begin":
            life.broker.store.begin()
        elif what == "told":
            life.broker.store.finish()
            life.broker.store.release()
        elif what == "outbox":
            life.mesh.commit()
        elif what == "return":
            publisher.connect(life.broker)
        elif what == "stop":
            # The mesh leaves first; the store writes what it has.
            life.crossings.stop()
            life.mesh.stopped = True
            life.broker.settle()
        if what in ("stop", "crash"):
            life = Life(life.broker.crashed(), outbox, slow, publisher)
    while life.settle() or publisher.hear():
        pass
    assert publisher.owed == {}
    heard = [int(payload.rstrip(b"!")) for payload in outbox.heard]
    for qos in (1, 2):
        sent = [number for level, number in published if level == qos]
        arrived = [number for number in heard if number in sent]
        assert list(dict.fromkeys(arrived)) == sent, "nothing lost, in the order of publication"
        if qos == 2:
            assert arrived == sent, "exactly once"
    if not crashes:
        assert list(dict.fromkeys(heard)) == [number for _, number in published], "all in order"
    assert_nothing_is_left(life, publisher.peer)


def test_a_number_is_known_until_the_store_has_let_go_of_it() -> None:
    outbox = Outbox()
    life = Life(DurableBroker(database()), outbox, False, None)
    publisher = Publisher(life.broker, 5)
    store = life.broker.store
    publisher.publish(2)
    store.step()
    publisher.publish(2)
    store.begin()
    life.mesh.commit()
    # It is in line behind the second one, and has nothing to write: its commit comes with that one's.
    publisher.publish(1)
    store.finish()
    store.release()
    life.mesh.commit()
    life = Life(life.broker.crashed(), outbox, False, publisher)
    while life.settle() or publisher.hear():
        pass
    assert sorted(set(outbox.heard)) == [b"0", b"1", b"2"]
    assert [outbox.heard.count(payload) for payload in (b"0", b"1")] == [1, 1]


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_a_will_in_line_is_not_lost_when_the_node_ends(how: str) -> None:
    outbox = Outbox()
    life = Life(DurableBroker(database()), outbox, False, None)
    more = wire.props((0x11, 0xFFFFFFFF))
    will = (TOPIC, b"will", 1, False)
    peer = life.broker.client("publisher", 5, clean=False, properties=more, will=will)
    life.broker.settle()
    peer.publish(TOPIC, b"0", 2, 1)
    life.broker.store.begin()
    peer.drop()
    if how == "stop":
        life.crossings.stop()
        life.mesh.stopped = True
        life.broker.settle()
    else:
        # The will is no will any more on disk: so it has to be what the mesh is owed.
        life.broker.store.finish()
        life.broker.store.begin()
    life = Life(life.broker.crashed(), outbox, False, None)
    while life.settle():
        pass
    assert outbox.heard == [b"0", b"will"]


@pytest.mark.parametrize("written", [False, True])
def test_a_will_at_qos_2_crosses_once(written: bool) -> None:
    outbox = Outbox()
    life = Life(DurableBroker(database()), outbox, False, None)
    more = wire.props((0x11, 0xFFFFFFFF))
    peer = life.broker.client("mortal", 5, clean=False, properties=more, will=(TOPIC, b"will", 2, False))
    life.broker.settle()
    peer.drop()
    if written:
        life.broker.store.step()
    life.mesh.commit()
    life = Life(life.broker.crashed(), outbox, False, None)
    life.broker.advance(1)
    while life.settle():
        pass
    assert outbox.heard == [b"will"]


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_numbers_are_forgotten_however_the_node_ends(how: str) -> None:
    outbox = Outbox()
    life = Life(DurableBroker(database()), outbox, False, None)
    publisher = Publisher(life.broker, 5)
    publisher.publish(2)
    while life.settle() or publisher.hear():
        pass
    assert outbox.crossed == {1}, "the next message would have it forgotten"
    assert numbers(life.broker) == set()
    if how == "stop":
        life.crossings.stop()
    life = Life(life.broker.crashed(), outbox, False, publisher)
    while life.settle():
        pass
    assert outbox.crossed == set()
    assert outbox.heard == [b"0"]


def test_qos_1_keeps_its_order_over_a_crash() -> None:
    """What went ahead, and is not yet safe, is published again: what waited behind QoS 2 must not be first."""
    outbox = Outbox()
    life = Life(DurableBroker(database()), outbox, False, None)
    publisher = Publisher(life.broker, 4)
    for qos in (1, 2, 1):
        publisher.publish(qos)
    outbox.heard.clear()
    life.broker.store.begin()
    life = Life(life.broker.crashed(), outbox, False, publisher)
    while life.settle() or publisher.hear():
        pass
    assert list(dict.fromkeys(outbox.heard)) == [b"1", b"0", b"2"]


def test_what_comes_in_one_chunk_behind_a_qos_2_message_stays_behind_it() -> None:
    outbox = Outbox()
    life = Life(DurableBroker(database()), outbox, False, None)
    publisher = Publisher(life.broker, 5)
    kinds = [1, 2, 1, 2, 1]
    publisher.peer.send(
        b"".join(wire.publish(TOPIC, b"%d" % number, qos, number + 1, 5) for number, qos in enumerate(kinds))
    )
    while life.settle():
        pass
    assert outbox.heard == [b"0", b"1", b"2", b"3", b"4"]


def test_a_session_that_ends_while_rules_work_on_its_message_leaves_no_packet_identifier() -> None:
    outbox = Outbox()
    life = Life(DurableBroker(database()), outbox, True, None)
    more = wire.props((0x11, 0xFFFFFFFF))
    peer = life.broker.client("publisher", 5, clean=False, properties=more)
    life.broker.settle()
    peer.publish(TOPIC, b"0", 2, 1)
    peer = life.broker.client("publisher", 5, clean=True, properties=more)
    life.broker.settle()
    while life.settle():
        pass
    assert outbox.heard == [b"0!"]
    assert_nothing_is_left(life, peer)


def assert_nothing_is_left(life: Life, peer: Peer) -> None:
    peer.send(wire.disconnect(peer.version))
    while life.settle():
        pass
    assert life.broker.engine.ruling is not None
    assert life.broker.engine.ruling.at_work == {}
    for table in ("delivery", "message", "incoming"):
        rows = life.broker.store.database._connection.execute(f"SELECT count(*) FROM {table}")
        assert rows.fetchone() == (0,), table
