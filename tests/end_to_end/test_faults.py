"""What was acknowledged to its publisher reaches the other node, whatever happens to the node or the link."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.nodes import Client, NodeProcess, wait_for
from tests.mesh.relay import Relay

MESSAGES = 10_000
QUEUE = 4000
"""Bound of a client's queue at the subscribing node: what comes faster than the client takes it has to wait."""


class Pair:
    """A publishing node and a subscribing node, joined through a relay that can be cut."""

    def __init__(self, folder: Path) -> None:
        namespace = f"faults-{uuid.uuid4().hex[:8]}"
        self.near = NodeProcess(folder, "near", namespace)
        self.relay = Relay(self.near.mesh_port)
        self.relay.start()
        self.far = NodeProcess(
            folder,
            "far",
            namespace,
            mesh={"connect": [f"tcp/127.0.0.1:{self.relay.port}"]},
            mqtt={"sys_interval": "1s", "queue_max_messages": QUEUE},
        )
        self.near.start()
        self.far.start()

    def await_interest(self, subscriber: Client, topic: str) -> None:
        """Publish probes until one has crossed: from then on the interest is known."""
        probe = Client(self.near, "probe")

        def crossed() -> bool:
            probe.publish(topic, b"probe", 0)
            time.sleep(0.05)
            return any(payload == b"probe" for _, payload in subscriber.received)

        wait_for(crossed, "the interest reaches the publishing node")
        probe.close()

    def stop(self) -> None:
        self.near.stop()
        self.far.stop()
        self.relay.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.stop()


def publish_all(publisher: Client, topic: str, qos: int) -> dict[int, bytes]:
    """Publish numbered messages; packet identifier -> payload."""
    sent: dict[int, bytes] = {}
    for number in range(MESSAGES):
        payload = b"%d" % number
        sent[publisher.publish(topic, payload, qos)] = payload
    return sent


def acknowledged(publisher: Client, sent: dict[int, bytes]) -> set[bytes]:
    return {sent[mid] for mid in set(publisher.acknowledged) if mid in sent}


def assert_complete(subscriber: Client, owed: set[bytes], qos: int, sent: dict[int, bytes]) -> None:
    wait_for(
        lambda: owed <= set(subscriber.payloads()),
        f"{len(owed)} acknowledged messages arrive",
        60,
    )
    counts = subscriber.payloads()
    counts.pop(b"probe", None)
    assert set(counts) <= set(sent.values())
    if qos == 2:
        assert max(counts.values()) == 1, "a message at QoS 2 was doubled"
    numbers = [int(payload) for _, payload in subscriber.received if payload != b"probe"]
    first_times = list(dict.fromkeys(numbers))
    assert first_times == sorted(first_times), "the order of one publisher's topic was not kept"


@pytest.mark.parametrize("qos", [1, 2])
def test_publishing_node_killed(pair: Pair, qos: int) -> None:
    topic = f"kill/{qos}"
    subscriber = Client(pair.far, "subscriber")
    subscriber.subscribe(topic, qos)
    pair.await_interest(subscriber, topic)
    publisher = Client(pair.near, "publisher")
    sent = publish_all(publisher, topic, qos)
    wait_for(lambda: len(publisher.acknowledged) > MESSAGES // 5, "a fifth is acknowledged")
    pair.near.kill()
    publisher.close()
    owed = acknowledged(publisher, sent)
    assert owed
    pair.near.start()
    assert_complete(subscriber, owed, qos, sent)
    subscriber.close()


@pytest.mark.parametrize("qos", [1, 2])
def test_link_cut_until_the_other_node_is_gone(pair: Pair, qos: int) -> None:
    topic = f"cut/{qos}"
    subscriber = Client(pair.far, "subscriber")
    subscriber.subscribe(topic, qos)
    pair.await_interest(subscriber, topic)
    publisher = Client(pair.near, "publisher")
    half = len(subscriber.received)
    sent = publish_all(publisher, topic, qos)
    wait_for(lambda: len(subscriber.received) > half + 50, "the first have crossed")
    pair.relay.cut()
    wait_for(lambda: "node far of region far is gone" in pair.near.log.read_text(), "it is noticed")
    wait_for(lambda: pair.relay.refused > 1, "the other node has tried more than once")
    wait_for(lambda: len(acknowledged(publisher, sent)) == MESSAGES, "all are acknowledged meanwhile", 60)
    assert len(subscriber.received) < half + MESSAGES
    pair.relay.heal()
    assert_complete(subscriber, set(sent.values()), qos, sent)
    publisher.close()
    subscriber.close()
