"""Hostile modules on a node that runs: what others wait for its answers, beside a module that does no harm."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.nodes import NodeProcess, receive
from tests.plugins import modules
from tests.plugins.test_hostile import HOSTILE
from tests.protocol import wire

SAMPLES = 400


class Raw:
    """A client of few words."""

    def __init__(self, node: NodeProcess, name: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", node.mqtt_port), 20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.spoken.add(4)
        self.ask(wire.connect(name, 4), 4)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, data: bytes, size: int) -> bytes:
        """Send, and read an answer of so many bytes."""
        self._socket.sendall(data)
        return receive(self._socket, size)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    sources = {"harmless": modules.module(modules.PASSES)}
    sources |= {f"hostile{number}": code for number, (code, _) in enumerate(HOSTILE.values())}
    entries = []
    for name, code in sources.items():
        (tmp_path / f"{name}.wasm").write_bytes(code)
        entries.append({"name": name, "topics": [f"{name}/#"], "module": str(tmp_path / f"{name}.wasm")})
    made = NodeProcess(tmp_path, "node", "alone", mesh={"enabled": False}, plugins={"ingress": entries})
    made.start()
    yield made
    made.stop()


def round_trips(node: NodeProcess, topics: list[str]) -> list[float]:
    """How long messages without rules take, sorted, while others are published for these topics."""
    stop = threading.Event()

    def publish(topic: str) -> None:
        client = Raw(node, topic.replace("/", "-"))
        while not stop.wait(0.02):
            client.send(wire.publish(topic, os.urandom(20)))
        client.close()

    threads = [threading.Thread(target=publish, args=(topic,)) for topic in topics]
    for thread in threads:
        thread.start()
    device = Raw(node, "device")
    device.ask(wire.subscribe(1, [("free", 0)]), 5)
    took = []
    try:
        for number in range(SAMPLES):
            packet = wire.publish("free", b"%06d" % number)
            started = time.perf_counter()
            assert device.ask(packet, len(packet)) == packet
            took.append(time.perf_counter() - started)
            time.sleep(0.003)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        device.close()
    return sorted(took)


def test_topics_without_rules_hardly_wait(node: NodeProcess) -> None:
    """p99 at most doubles; the rest is room for a machine that does other things meanwhile, in either measurement."""
    hostile = [f"hostile{number}/t" for number in range(len(HOSTILE))]
    calm = round_trips(node, [f"harmless/{number}" for number in range(len(HOSTILE))])
    disturbed = round_trips(node, hostile)
    for part, room in ((0.5, 0.002), (0.9, 0.02), (0.99, 0.15)):
        before, after = (found[int(SAMPLES * part)] for found in (calm, disturbed))
        print(f"p{part * 100:.0f}: {before * 1e3:.2f} -> {after * 1e3:.2f} ms")
        assert after < 2 * before + room
