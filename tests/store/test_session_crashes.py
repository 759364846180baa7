"""Sessions against a model of faithful clients, where the node crashes at any moment and commits when it likes."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.harness import Peer
from tests.engine.test_session_model import Receiver
from tests.protocol import wire
from tests.store.harness import DurableBroker, database

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 2)),
        st.tuples(st.just("finish"), st.integers(1, 3)),
        st.tuples(st.just("answer"), st.integers(1, 3)),
        st.tuples(st.just("leave"), st.just(0)),
        st.tuples(st.just("return"), st.integers(1, 3)),
        st.tuples(st.just("block"), st.just(0)),
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.just("told"), st.just(0)),
        st.tuples(st.just("step"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
    ),
    max_size=80,
)


class DurableReceiver(Receiver):
    """A subscriber that never forgets its session."""

    def connect(self, quota: int) -> None:
        super().connect(quota)
        assert self.peer is not None
        if self.subscribed:
            assert self.peer.connack.session_present, "SUBACK said that the session is safe"

    subscribed = False

    def subscribe(self) -> None:
        assert self.peer is not None
        assert isinstance(self.broker, DurableBroker)
        self.peer.send(wire.subscribe(10, [("t", 2)], self.version))
        assert self.peer.take() == [], "SUBACK waits for the disk"
        self.broker.settle()
        (answer,) = self.peer.take_kind(wire.SUBACK)
        assert answer.reasons == [2]
        self.subscribed = True


class Publisher:
    """A client that publishes numbers, and again after each connection what was not acknowledged."""

    def __init__(self, broker: DurableBroker, version: int) -> None:
        self.version = version
        self.owed: dict[int, tuple[int, int, bool]] = {}
        """Packet identifier -> (QoS, number, released)."""
        self.count = 0
        self.connect(broker)

    def connect(self, broker: DurableBroker) -> None:
        more = {"properties": wire.props((0x11, 0xFFFFFFFF))} if self.version == 5 else {}
        self.peer: Peer = broker.client("publisher", self.version, clean=False, **more)
        for packet_id, (qos, number, released) in self.owed.items():
            if released:
                self.peer.send(wire.ack(wire.PUBREL, packet_id))
            else:
                self.peer.publish("t", b"%d" % number, qos, packet_id, dup=True)

    def publish(self, qos: int) -> tuple[int, int]:
        number, packet_id = self.count, self.count + 1
        self.count += 1
        self.owed[packet_id] = (qos, number, False)
        self.peer.publish("t", b"%d" % number, qos, packet_id)
        return qos, number

    def hear(self, most: int = 1000) -> bool:
        answers = self.peer.take()
        for answer in answers:
            packet_id = answer.packet_id
            if answer.kind in (wire.PUBACK, wire.PUBCOMP):
                self.owed.pop(packet_id, None)
            elif answer.kind == wire.PUBREC and packet_id in self.owed:
                qos, number, _ = self.owed[packet_id]
                self.owed[packet_id] = (qos, number, True)
                self.peer.send(wire.ack(wire.PUBREL, packet_id))
        return bool(answers)


@pytest.mark.spec("MQTT-4.1.0-1", "MQTT-4.1.0-2", "MQTT-4.3.2-4", "MQTT-4.3.3-10", "MQTT-4.4.0-1")
@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("in_memory", [256, 2])
@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_crashes_lose_nothing_and_double_nothing_at_qos_2(
    version: int, in_memory: int, steps: list[tuple[str, int]]
) -> None:
    with patch("broker.queue._IN_MEMORY", in_memory), patch("broker.session.LOAD", in_memory + 1):
        check(version, steps)


def check(version: int, steps: list[tuple[str, int]]) -> None:
    broker = DurableBroker(database())
    receiver = DurableReceiver(broker, version)
    publisher = Publisher(broker, version)
    published: list[tuple[int, int]] = []
    for what, number in [*steps, ("crash", 0)]:
        if what == "publish":
            published.append(publisher.publish(number))
        elif what == "finish":
            publisher.hear()
        elif what == "answer":
            for _ in range(number):
                receiver.answer_one()
        elif what == "leave":
            receiver.leave()
        elif what == "return" and receiver.peer is None:
            receiver.connect(number)
        elif what == "block" and receiver.peer is not None:
            if receiver.peer.connection.blocked:
                receiver.peer.unblock()
            else:
                receiver.peer.block()
        elif what == "begin":
            broker.store.begin()
        elif what == "told":
            broker.store.finish()
            broker.store.release()
        elif what == "step":
            broker.store.step()
        elif what == "crash":
            receiver.hear()
            receiver.leave()
            broker = receiver.broker = broker.crashed()
            publisher.connect(broker)
        receiver.hear()
    if receiver.peer is None:
        receiver.connect(2)
    busy = True
    while busy:
        busy = bool(receiver.waiting)
        receiver.answer_one()
        broker.settle()
        busy = publisher.hear() or busy
        receiver.hear()
        busy = busy or bool(receiver.waiting)
    assert publisher.owed == {}
    for qos in (1, 2):
        heard = [number for level, number in receiver.heard if level == qos]
        sent = [number for level, number in published if level == qos]
        assert list(dict.fromkeys(heard)) == sent, "nothing lost, in the order of publication"
        if qos == 2:
            assert heard == sent, "exactly once"
    session = broker.engine.roster._sessions["receiver"]
    assert (session.inflight, len(session.queue), session.queue.bytes) == ({}, 0, 0)
    broker.settle()
    left = broker.store.database._connection
    for table in ("delivery", "message", "incoming", "releasing"):
        assert left.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
