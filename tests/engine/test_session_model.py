"""A session against a simple model of a faithful client: any order of publishing, acknowledging, leaving, returning."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.harness import Broker, Peer
from tests.protocol import wire
from tests.protocol.wire import Answer

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 2)),
        st.tuples(st.just("answer"), st.integers(1, 3)),
        st.tuples(st.just("leave"), st.just(0)),
        st.tuples(st.just("return"), st.integers(1, 3)),
        st.tuples(st.just("block"), st.just(0)),
    ),
    max_size=60,
)


class Receiver:
    """A client that keeps its side of a session as the standard says (method A of figure 4.3)."""

    def __init__(self, broker: Broker, version: int) -> None:
        self.broker = broker
        self.version = version
        self.heard: list[tuple[int, int]] = []
        """(QoS, number) of what was handed to the application."""
        self.unreleased: set[int] = set()
        self.waiting: deque[Answer] = deque()
        self.quota = 0xFFFF
        self.unfinished: set[int] = set()
        self.peer: Peer | None = None
        self.connect(3)
        self.subscribe()

    def subscribe(self) -> None:
        assert self.peer is not None
        self.peer.subscribe(("t", 2))

    def connect(self, quota: int) -> None:
        if self.version == 5:
            more: dict[str, Any] = {"properties": wire.props((0x11, 0xFFFFFFFF), (0x21, quota))}
            self.quota = quota
        else:
            more = {}
        self.unfinished.clear()
        self.peer = self.broker.client("receiver", self.version, clean=False, **more)

    def leave(self) -> None:
        if self.peer is not None:
            self.peer.drop()
            self.peer = None
            self.waiting.clear()

    def hear(self) -> None:
        """Take what came; QoS 0 is handed on at once."""
        if self.peer is None:
            return
        for answer in self.peer.take():
            if answer.kind == wire.PUBLISH and answer.qos == 0:
                self.heard.append((0, int(answer.payload)))
            else:
                if answer.kind == wire.PUBLISH:
                    assert answer.packet_id not in self.unfinished
                    self.unfinished.add(answer.packet_id)
                    assert len(self.unfinished) <= self.quota, "the quota is kept"
                self.waiting.append(answer)

    def answer_one(self) -> None:
        if self.peer is None or not self.waiting:
            return
        answer = self.waiting.popleft()
        packet_id = answer.packet_id
        if answer.kind == wire.PUBREL:
            self.unreleased.discard(packet_id)
            self.unfinished.discard(packet_id)
            self.peer.send(wire.ack(wire.PUBCOMP, packet_id))
        elif answer.qos == 1:
            self.heard.append((1, int(answer.payload)))
            self.unfinished.discard(packet_id)
            self.peer.send(wire.ack(wire.PUBACK, packet_id))
        else:
            if packet_id not in self.unreleased:
                self.unreleased.add(packet_id)
                self.heard.append((2, int(answer.payload)))
            self.peer.send(wire.ack(wire.PUBREC, packet_id))
        self.hear()


def check(receiver: Receiver, published: list[tuple[int, int]]) -> None:
    for qos in (0, 1, 2):
        heard = [number for level, number in receiver.heard if level == qos]
        sent = [number for level, number in published if level == qos]
        if qos == 2:
            assert heard == sent, "exactly once, in order"
        else:
            assert list(dict.fromkeys(heard)) == sorted(set(heard)), "in order"
            assert set(heard) <= set(sent)
        if qos == 1:
            assert set(heard) == set(sent), "at least once"


@pytest.mark.spec(
    "MQTT-4.3.1-1", "MQTT-4.3.2-1", "MQTT-4.3.3-1", "MQTT-4.4.0-1", "MQTT-4.6.0-5", "MQTT-4.9.0-2"
)
@pytest.mark.parametrize("version", [4, 5])
@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
@pytest.mark.spec311(
    "MQTT-2.3.1-4",
    "MQTT-4.3.1-1",
    "MQTT-4.3.2-1",
    "MQTT-4.3.3-1",
    "MQTT-4.4.0-1",
    "MQTT-4.6.0-1",
    "MQTT-4.6.0-6",
)
def test_any_history_ends_well(version: int, steps: list[tuple[str, int]]) -> None:
    broker = Broker()
    receiver = Receiver(broker, version)
    publisher = broker.client("publisher")
    published: list[tuple[int, int]] = []
    for what, number in steps:
        if what == "publish":
            count = len(published)
            publisher.publish("t", b"%d" % count, number, count % 60000 + 1)
            if number == 2:
                publisher.send(wire.ack(wire.PUBREL, count % 60000 + 1))
            publisher.take()
            published.append((number, count))
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
        receiver.hear()
    if receiver.peer is None:
        receiver.connect(2)
    assert receiver.peer is not None
    receiver.peer.unblock()
    receiver.hear()
    while receiver.waiting:
        receiver.answer_one()
    check(receiver, published)
    session = broker.engine.roster._sessions["receiver"]
    assert (session.inflight, len(session.queue), session.queue.bytes) == ({}, 0, 0)
