"""A publisher's node that dies at the worst moment: its QoS 2 messages reach other nodes exactly once.

The worst moments are held still by locks on the node's databases: one of them takes nothing, then the node is killed.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.nodes import Client, NodeProcess, receive, wait_for
from tests.protocol import wire

TOPIC = "once/a"


class Device:
    """A publisher over a bare socket, whose session the node keeps."""

    def __init__(self, node: NodeProcess) -> None:
        self._socket = socket.create_connection(("127.0.0.1", node.mqtt_port), timeout=10)
        # A session without a subscription might be told to be none that is worth being kept.
        self.say(wire.connect("device", clean=False) + wire.subscribe(1, [("device/orders", 0)]))
        self.hears(wire.CONNACK)
        self.hears(wire.SUBACK)

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hears(self, kind: int) -> None:
        """Wait for a packet, and take it to be of this kind."""
        head = receive(self._socket, 2)
        assert head[0] >> 4 == kind
        receive(self._socket, head[1])

    def publish(self, payload: bytes, packet_id: int, dup: bool = False) -> None:
        self.say(wire.publish(TOPIC, payload, 2, packet_id, dup=dup))

    def finish(self, packet_id: int) -> None:
        self.hears(wire.PUBREC)
        self.say(wire.ack(wire.PUBREL, packet_id))
        self.hears(wire.PUBCOMP)

    def close(self) -> None:
        self._socket.close()


class Pair:
    """A publisher's node and one with a subscriber, whose session is kept, too."""

    def __init__(self, folder: Path) -> None:
        namespace = f"once-{uuid.uuid4().hex[:8]}"
        self.near = NodeProcess(folder, "near", namespace)
        connect = {"connect": [f"tcp/127.0.0.1:{self.near.mesh_port}"]}
        self.far = NodeProcess(folder, "far", namespace, mesh=connect)
        self.near.start()
        self.far.start()
        self.subscriber = self.subscribe()
        probe = Client(self.near, "probe")

        def crossed() -> bool:
            probe.publish(TOPIC, b"probe")
            return bool(self.subscriber.received)

        wait_for(crossed, "the interest is known")
        probe.close()

    def subscribe(self) -> Client:
        self.subscriber = Client(self.far, "subscriber", clean_session=False)
        self.subscriber.subscribe(TOPIC, 2)
        return self.subscriber

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """One of the near node's databases takes nothing."""
        with contextlib.closing(sqlite3.connect(self._path(name), isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            self.near.kill()

    def count(self, name: str, table: str) -> int:
        with contextlib.closing(sqlite3.connect(self._path(name))) as connection:
            (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            return int(count)

    def _path(self, name: str) -> Path:
        return self.near.folder / "data" / name

    def came(self) -> list[bytes]:
        return [payload for _, payload in self.subscriber.received if payload != b"probe"]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    pair.near.stop()
    pair.far.stop()


def assert_exactly_once(pair: Pair) -> None:
    """The device comes back, repeats what was not acknowledged, and goes on."""
    pair.near.start()
    device = Device(pair.near)
    device.publish(b"first", 7, dup=True)
    device.finish(7)
    device.publish(b"second", 8)
    device.finish(8)
    wait_for(lambda: b"second" in pair.came(), "what was acknowledged arrives", 60)
    assert pair.came() == [b"first", b"second"]
    device.close()
    pair.subscriber.close()


@pytest.mark.spec("MQTT-4.3.3-10")
@pytest.mark.parametrize("link", ["whole", "cut"])
def test_killed_before_the_outbox_had_it(pair: Pair, link: str) -> None:
    if link == "cut":
        pair.subscriber.close()
        pair.far.kill()
        wait_for(
            lambda: "node far of region far is gone" in pair.near.log.read_text(), "the far node is missed"
        )
    device = Device(pair.near)
    with pair.locked("outbox.db"):
        device.publish(b"first", 7)
        wait_for(lambda: pair.count("broker.db", "incoming"), "the store has it")
    device.close()
    if link == "cut":
        pair.far.start()
        pair.subscribe()
    assert_exactly_once(pair)


@pytest.mark.spec("MQTT-4.3.3-10")
def test_killed_before_the_store_had_it(pair: Pair) -> None:
    device = Device(pair.near)
    with pair.locked("broker.db"):
        device.publish(b"first", 7)
        device.say(wire.publish(TOPIC, b"probe"))
        known = len(pair.subscriber.received)
        wait_for(lambda: len(pair.subscriber.received) > known, "what was sent after it arrives")
    device.close()
    assert_exactly_once(pair)


@pytest.mark.spec("MQTT-4.3.3-10")
def test_killed_when_others_had_it(pair: Pair) -> None:
    device = Device(pair.near)
    device.publish(b"first", 7)
    wait_for(lambda: b"first" in pair.came(), "it arrives")
    pair.near.kill()
    device.close()
    assert_exactly_once(pair)
