"""Any sequence of what clients of both versions do, against a model that is as simple as the standard's words.

Three clients connect, subscribe, publish, leave in every way and come back; time passes. After each step all that each
connected client heard has to be what the model says, in order for each QoS. Windows, quotas and acknowledgements out of
step are test_session_model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.protocol.topics import matches
from tests.engine.harness import Broker, Peer
from tests.protocol import wire

TOPICS = ["a", "a/b", "a/c", "b/b", "$x/b"]
FILTERS = ["a", "a/b", "a/+", "a/#", "#", "+/b", "$x/#"]
NAMES = ["one", "two", "three"]
WEEK = 7 * 24 * 3600

Heard = tuple[str, bytes, int, bool]
"""Topic, payload, QoS, retain flag."""


@dataclass
class Will:
    """What is published when a client's connection ends badly."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass
class Session:
    """What the model knows of a client."""

    version: int
    expiry: float
    subscriptions: dict[str, int] = field(default_factory=dict)
    owed: list[Heard] = field(default_factory=list)
    peer: Peer | None = None
    will: Will | None = None
    ends_at: float = float("inf")


class Model(RuleBasedStateMachine):
    """The broker and its model, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, tuple[bytes, int]] = {}
        self.number = 0

    # -- what the standard says ----------------------------------------------------------------------------

    def published(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        if retain and payload:
            self.retained[topic] = (payload, qos)
        elif retain:
            self.retained.pop(topic, None)
        for session in self.sessions.values():
            granted = [level for name, level in session.subscriptions.items() if matches(name, topic)]
            if granted:
                level = min(qos, max(granted))
                if session.peer is not None or level:
                    session.owed.append((topic, payload, level, False))

    def departed(self, name: str, will: bool) -> None:
        session = self.sessions[name]
        session.peer = None
        last, session.will = session.will, None
        if not session.expiry:
            del self.sessions[name]
        session.ends_at = self.broker.now + session.expiry
        if will and last is not None:
            self.published(last.topic, last.payload, last.qos, last.retain)

    def connected(self) -> Iterator[tuple[str, Session, Peer]]:
        for name, session in list(self.sessions.items()):
            if session.peer is not None:
                yield name, session, session.peer

    # -- what clients do -----------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(NAMES),
        version=st.sampled_from([4, 5]),
        clean=st.booleans(),
        expiry=st.sampled_from([0, 20, 0xFFFFFFFF]),
        will=st.one_of(
            st.none(), st.tuples(st.sampled_from(TOPICS), st.integers(0, 2), st.booleans(), st.booleans())
        ),
    )
    def connect(self, name: str, version: int, clean: bool, expiry: int, will: Any) -> None:
        more: dict[str, Any] = {}
        if version == 5:
            more["properties"] = wire.props((0x11, expiry))
        left: Will | None = None
        if will is not None:
            topic, qos, retain, empty = will
            left = Will(topic, b"" if empty else self.payload(), qos, retain)
            more["will"] = (left.topic, left.payload, left.qos, left.retain)
        before = self.sessions.get(name)
        if before is not None and before.peer is not None:
            old = before.peer
            # The will of the older connection comes first: its session may still have it.
            self.departed(name, True)
            before = self.sessions.get(name)
        else:
            old = None
        peer = Peer(self.broker, version)
        peer.send(wire.connect(name, version, clean, **more))
        if old is not None:
            assert old.closed
        (connack,) = peer.take_kind(wire.CONNACK)
        assert connack.session_present == (before is not None and not clean)
        if before is None or clean:
            self.sessions[name] = Session(version, 0)
        session = self.sessions[name]
        session.version = version
        session.peer = peer
        session.will = left
        session.ends_at = float("inf")
        session.expiry = min(expiry, WEEK) if version == 5 else 0 if clean else WEEK

    def payload(self) -> bytes:
        self.number += 1
        return b"%d" % self.number

    @precondition(lambda self: any(True for _ in self.connected()))
    @rule(data=st.data(), topic_filter=st.sampled_from(FILTERS), qos=st.integers(0, 2))
    def subscribe(self, data: st.DataObject, topic_filter: str, qos: int) -> None:
        _, session, peer = data.draw(st.sampled_from(list(self.connected())))
        assert peer.subscribe((topic_filter, qos)) == [qos]
        session.subscriptions[topic_filter] = qos
        for topic, (payload, level) in self.retained.items():
            if matches(topic_filter, topic):
                session.owed.append((topic, payload, min(level, qos), True))

    @precondition(lambda self: any(True for _ in self.connected()))
    @rule(data=st.data(), topic_filter=st.sampled_from(FILTERS))
    def unsubscribe(self, data: st.DataObject, topic_filter: str) -> None:
        _, session, peer = data.draw(st.sampled_from(list(self.connected())))
        peer.send(wire.unsubscribe(9, [topic_filter], session.version))
        (answer,) = peer.take_kind(wire.UNSUBACK)
        known = session.subscriptions.pop(topic_filter, None) is not None
        assert answer.reasons == ([0 if known else 0x11] if session.version == 5 else [])

    @precondition(lambda self: any(True for _ in self.connected()))
    @rule(
        data=st.data(),
        topic=st.sampled_from(TOPICS),
        qos=st.integers(0, 2),
        retain=st.booleans(),
        empty=st.booleans(),
    )
    def publish(self, data: st.DataObject, topic: str, qos: int, retain: bool, empty: bool) -> None:
        _, session, peer = data.draw(st.sampled_from(list(self.connected())))
        payload = b"" if empty else self.payload()
        peer.publish(topic, payload, qos, 7, retain=retain)
        answers = [wire.PUBACK, wire.PUBREC]
        if qos:
            (answer,) = peer.take_kind(answers[qos - 1])
            assert answer.packet_id == 7
            assert answer.reason in ((0, 0x10) if session.version == 5 else (0,))
        if qos == 2:
            peer.send(wire.ack(wire.PUBREL, 7))
            assert len(peer.take_kind(wire.PUBCOMP)) == 1
        self.published(topic, payload, qos, retain)

    @precondition(lambda self: any(True for _ in self.connected()))
    @rule(data=st.data(), how=st.sampled_from(["drop", "leave", "leave with will", "nonsense"]))
    def leave(self, data: st.DataObject, how: str) -> None:
        name, session, peer = data.draw(st.sampled_from(list(self.connected())))
        self.hear()
        with_will = how != "leave"
        if how == "leave":
            peer.send(wire.disconnect(session.version))
        elif how == "leave with will" and session.version == 5:
            peer.send(wire.disconnect(5, 0x04))
        elif how == "nonsense":
            peer.send(b"\xc1\x00")
        else:
            peer.drop()
        assert peer.closed
        self.departed(name, with_will)

    @rule(seconds=st.sampled_from([1, 10, 30]))
    def wait(self, seconds: int) -> None:
        self.broker.advance(seconds)
        for name, session in list(self.sessions.items()):
            if session.ends_at <= self.broker.now:
                del self.sessions[name]

    # -- what they hear --------------------------------------------------------------------------------------

    @invariant()
    def hear(self) -> None:
        for _, session, peer in self.connected():
            self.settle(peer, session)

    def settle(self, peer: Peer, session: Session) -> None:
        """Take, acknowledge and compare what a client heard; order counts for each QoS."""
        heard: list[Heard] = []
        for message in peer.take_kind(wire.PUBLISH):
            heard.append((message.topic, message.payload, message.qos, message.retain))
            assert not message.dup
            if message.qos == 1:
                peer.send(wire.ack(wire.PUBACK, message.packet_id))
            elif message.qos == 2:
                peer.send(wire.ack(wire.PUBREC, message.packet_id))
                (release,) = peer.take_kind(wire.PUBREL)
                peer.send(wire.ack(wire.PUBCOMP, release.packet_id))
        for qos in (0, 1, 2):
            live = [one for one in heard if one[2:] == (qos, False)]
            assert live == [one for one in session.owed if one[2:] == (qos, False)]
        assert sorted(one for one in heard if one[3]) == sorted(one for one in session.owed if one[3])
        session.owed.clear()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
