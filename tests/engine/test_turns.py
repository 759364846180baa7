"""A client that sends much at once does not keep the others waiting, and loses nothing by it."""

from __future__ import annotations

from typing import Any

import pytest

from broker.flow import Turns
from tests.engine.harness import Broker, Peer
from tests.protocol import wire


class Busy:
    """A broker whose turns are taken one at a time, by the test."""

    def __init__(self, **limits: Any) -> None:
        self.broker = Broker(**limits)
        self.broker.take_turns = lambda: None  # type: ignore[method-assign]

    def turn(self) -> bool:
        """Let everybody have one turn; whether there is more to do."""
        self.broker.engine.take_turns(self.broker.now)
        return bool(self.broker.engine.turns._waiting)


def many(count: int, qos: int = 1, topics: int = 1) -> bytes:
    return b"".join(
        wire.publish(f"t/{number % topics}", b"%d" % number, qos, number + 1, 5) for number in range(count)
    )


@pytest.mark.parametrize("topics", [1, 2000])
def test_others_come_between(topics: int) -> None:
    busy = Busy()
    watcher = busy.broker.client("watcher")
    watcher.subscribe(("#", 0))
    loud, quiet = busy.broker.client("loud"), busy.broker.client("quiet")
    loud.send(many(2000, topics=topics))
    assert loud.transport.paused
    first = len(watcher.heard())
    assert 0 < first < 600 // (16 if topics > 1 else 1) + 20
    quiet.publish("quiet", b"here", 1)
    assert watcher.heard() == [("quiet", b"here")]
    heard: list[bytes] = []
    while busy.turn():
        heard += [payload for _, payload in watcher.heard()]
    heard += [payload for _, payload in watcher.heard()]
    assert heard == [b"%d" % number for number in range(first, 2000)], "in order, and all of them"
    acks = loud.take_kind(wire.PUBACK)
    assert [ack.packet_id for ack in acks] == list(range(1, 2001))
    assert not loud.transport.paused


def test_what_arrives_meanwhile_comes_behind() -> None:
    busy = Busy()
    client = busy.broker.client()
    client.subscribe(("t/0", 0))
    client.send(many(600))
    client.send(wire.publish("t/0", b"late", 1, 1, 5), wire.PINGREQ)
    while busy.turn():
        pass
    found = client.take()
    assert found[-1].kind == wire.PINGRESP
    assert [message.payload for message in found if message.kind == wire.PUBLISH][-1] == b"late"


@pytest.mark.parametrize("farewell", [True, False])
def test_client_that_closes_behind_much_that_it_sent(farewell: bool) -> None:
    busy = Busy()
    watcher = busy.broker.client("watcher")
    watcher.subscribe(("#", 0))
    client = busy.broker.client("client", will=("will", b"gone", 0, False))
    client.send(many(1500) + (wire.disconnect(5) if farewell else b""))
    client.drop()
    heard = watcher.heard()
    assert [payload for topic, payload in heard if topic == "t/0"] == [b"%d" % n for n in range(1500)]
    assert (("will", b"gone") in heard) == (not farewell)
    assert busy.broker.engine.roster.connected == 1
    busy.turn()


def test_error_behind_much_that_was_sent() -> None:
    busy = Busy()
    client = busy.broker.client()
    client.send(many(600) + b"\xc1\x00")
    assert not client.closed
    while busy.turn():
        pass
    found = client.take()
    assert [answer.kind for answer in found].count(wire.PUBACK) == 600
    assert (found[-1].kind, found[-1].reason) == (wire.DISCONNECT, 0x81)
    assert client.closed


def test_one_wake_for_all_that_wait() -> None:
    turns = Turns()
    woken: list[int] = []
    turns.wake = lambda: woken.append(1)
    peers: list[Peer] = [Broker().client(str(number)) for number in range(3)]
    for peer in peers:
        turns.put(peer.connection)
    assert woken == [1]
    assert turns.take() == [peer.connection for peer in peers]
    turns.put(peers[0].connection)
    assert woken == [1, 1]
