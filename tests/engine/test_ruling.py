"""Messages on which rules are still working: acknowledgements, order, and who has to wait."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from broker.message import Message
from broker.ports import Later, Processed, Stage
from tests.engine.harness import WALL, Broker, Peer
from tests.protocol import wire


class SlowPipeline:
    """Works on topics below ``slow/`` until it is told to finish; puts ``!`` behind what it lets through."""

    def __init__(self, stage: Stage = Stage.INGRESS) -> None:
        self.stage = stage
        self.behind = False
        self.waiting: list[tuple[Sequence[Message], Later]] = []
        self.drops = False
        self.emits: list[Message] = []

    def stages(self, topic: str) -> int:
        return self.stage if topic.startswith("slow/") else 0

    def run(self, stage: Stage, batch: Sequence[Message], now: float, then: Later) -> Processed:
        assert stage is self.stage
        self.waiting.append((batch, then))
        return Processed([None] * len(batch), [], frozenset(range(len(batch))))

    def at_once(self, topic: str) -> int:
        return -1

    def finish(self) -> None:
        """The oldest batch is done."""
        batch, then = self.waiting.pop(0)
        made = [
            None if self.drops else Message(m.topic, m.payload + b"!", m.qos, m.retain, publisher=m.publisher)
            for m in batch
        ]
        then(batch, Processed(made, self.emits), WALL)


def publish(topic: str, payload: bytes, qos: int = 0, packet_id: int = 0, retain: bool = False) -> bytes:
    return wire.publish(topic, payload, qos, packet_id, 5, retain)


@pytest.fixture
def slow() -> SlowPipeline:
    return SlowPipeline()


@pytest.fixture
def broker(slow: SlowPipeline) -> Broker:
    return Broker(pipeline=slow)


def payloads(peer: Peer) -> list[bytes]:
    return [answer.payload for answer in peer.take_kind(wire.PUBLISH)]


def test_acknowledgement_waits_and_those_behind_it_keep_their_order(
    broker: Broker, slow: SlowPipeline
) -> None:
    device, hears = broker.client("device"), broker.client("hears")
    hears.subscribe(("#", 0))
    device.send(publish("slow/a", b"1", 1, 1))
    device.send(publish("quick", b"2", 1, 2))
    assert payloads(hears) == [b"2"]
    assert device.take() == []
    slow.finish()
    assert payloads(hears) == [b"1!"]
    assert [answer.packet_id for answer in device.take_kind(wire.PUBACK)] == [1, 2]


def test_one_chunk_with_both(broker: Broker, slow: SlowPipeline) -> None:
    device, hears = broker.client("device"), broker.client("hears")
    hears.subscribe(("#", 0))
    device.send(publish("slow/a", b"1", 1, 1), publish("quick", b"2", 1, 2), publish("slow/a", b"3", 2, 3))
    assert payloads(hears) == [b"2"]
    assert device.take() == []
    slow.emits = [Message("extra", b"e")]
    slow.finish()
    assert payloads(hears) == [b"1!", b"3!", b"e"]
    assert [(answer.kind, answer.packet_id) for answer in device.take()] == [
        (wire.PUBACK, 1),
        (wire.PUBACK, 2),
        (wire.PUBREC, 3),
    ]


def test_acknowledgement_waits_for_all_that_was_emitted(broker: Broker, slow: SlowPipeline) -> None:
    """Rules that emit much say it in parts; only then can the node not lose what came of the message."""
    device, hears = broker.client("device"), broker.client("hears")
    hears.subscribe(("#", 0))
    device.send(publish("slow/a", b"1", 1, 1))
    (batch, then) = slow.waiting.pop()
    then(batch, Processed(list(batch), [Message("extra", b"a")], more=True), WALL)
    then((), Processed([], [Message("extra", b"b")], more=True), WALL)
    assert payloads(hears) == [b"1", b"a", b"b"]
    assert device.take() == []
    then((), Processed([], [Message("extra", b"c")]), WALL)
    assert payloads(hears) == [b"c"]
    assert [answer.packet_id for answer in device.take_kind(wire.PUBACK)] == [1]


def test_what_is_dropped_later_is_acknowledged(broker: Broker, slow: SlowPipeline) -> None:
    device, hears = broker.client("device"), broker.client("hears")
    hears.subscribe(("#", 0))
    device.send(publish("slow/a", b"1", 1, 1))
    slow.drops = True
    slow.finish()
    assert payloads(hears) == []
    assert [answer.packet_id for answer in device.take_kind(wire.PUBACK)] == [1]


@pytest.mark.parametrize("qos", [0, 1])
def test_publisher_waits_while_rules_are_behind(broker: Broker, slow: SlowPipeline, qos: int) -> None:
    device, other = broker.client("device"), broker.client("other")
    slow.behind = True
    device.send(publish("slow/a", b"1", qos, 1 if qos else 0))
    other.send(publish("quick", b"1", qos, 1 if qos else 0))
    assert device.transport.paused
    assert not other.transport.paused
    slow.behind = False
    slow.finish()
    assert not device.transport.paused


def test_publisher_waits_when_many_of_its_batches_do(broker: Broker, slow: SlowPipeline) -> None:
    device = broker.client("device")
    for _ in range(70):
        device.send(publish("slow/a", b"1", 0))
    assert device.transport.paused
    while slow.waiting:
        slow.finish()
    assert not device.transport.paused


def test_publisher_may_be_gone_when_its_message_comes_out(broker: Broker, slow: SlowPipeline) -> None:
    device, hears = broker.client("device"), broker.client("hears")
    hears.subscribe(("#", 0))
    device.send(publish("slow/a", b"1", 1, 1))
    device.drop()
    slow.finish()
    assert payloads(hears) == [b"1!"]


def test_withdrawn_message_does_not_come_out(broker: Broker, slow: SlowPipeline) -> None:
    """Its publisher was told that it is refused, for the disk took nothing."""
    device, hears = broker.client("device"), broker.client("hears")
    hears.subscribe(("#", 0))
    device.send(publish("slow/a", b"1", 1, 1))
    device.connection.refuse_waiting()
    broker.engine.flush()
    (ack,) = device.take_kind(wire.PUBACK)
    assert ack.reason == 0x97
    slow.finish()
    assert payloads(hears) == []
    assert device.take() == []


def test_retained_message_is_kept_when_it_comes_out(broker: Broker, slow: SlowPipeline) -> None:
    device = broker.client("device")
    device.send(publish("slow/a", b"1", 1, 1, retain=True))
    assert len(broker.engine.retained) == 0
    slow.finish()
    late = broker.client("late")
    late.subscribe(("slow/#", 0))
    assert payloads(late) == [b"1!"]


def test_store_rules_hold_up_the_acknowledgement_only() -> None:
    slow = SlowPipeline(Stage.STORE)
    broker = Broker(pipeline=slow)
    device, hears = broker.client("device"), broker.client("hears")
    hears.subscribe(("#", 0))
    device.send(publish("slow/a", b"1", 1, 1))
    assert payloads(hears) == [b"1"]
    assert device.take() == []
    slow.finish()
    assert payloads(hears) == []
    assert [answer.packet_id for answer in device.take_kind(wire.PUBACK)] == [1]


def test_emitted_without_an_occasion(broker: Broker) -> None:
    hears = broker.client("hears")
    hears.subscribe(("#", 0))
    assert broker.engine.ruling is not None
    broker.engine.ruling.publish_emitted(Stage.INGRESS, [Message("slow/w", b"window")], broker.now)
    assert payloads(hears) == [b"window"], "not through the ingress rules again"


def test_rules_see_who_published() -> None:
    seen: list[tuple[str, str]] = []

    class Seeing(SlowPipeline):
        def run(self, stage: Stage, batch: Sequence[Message], now: float, then: Later) -> Processed:
            seen.extend((message.publisher, message.user) for message in batch)
            return Processed(list(batch), [])

    broker = Broker(pipeline=Seeing())
    for name, user in (("named", "ann"), ("nobody", None)):
        more = {} if user is None else {"username": user, "password": b"x"}
        device = broker.client(name, will=("slow/will", b"w", 0, False), **more)
        device.send(publish("slow/a", b"1", 1, 1))
        device.send(publish("slow/a", b"2"))
        device.drop()
        broker.advance(1)
    assert seen == [("named", "ann")] * 3 + [("nobody", "")] * 3
