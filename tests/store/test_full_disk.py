"""A disk that is really full for a while: the system lets the node's files grow no further."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from tests.end_to_end.nodes import Client, NodeProcess, wait_for


@pytest.fixture
def node(tmp_path: Path) -> NodeProcess:
    settings = {"queue_max_messages": 100_000, "queue_max_bytes": "1GB"}
    return NodeProcess(
        tmp_path, "node", f"full-{uuid.uuid4().hex[:8]}", mesh={"enabled": False}, mqtt=settings
    )


def let_files_grow_to(node: NodeProcess, size: int) -> None:
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_full_disk_loses_nothing_that_was_acknowledged(node: NodeProcess) -> None:
    node.start()
    sleeper = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    sleeper.subscribe("kept/#", 1)
    sleeper.close()
    awake = Client(node, "awake", paho.MQTTv5)
    awake.subscribe("live/#", 0)
    publisher = Client(node, "publisher", paho.MQTTv5)
    old = Client(node, "old", paho.MQTTv311)
    let_files_grow_to(node, 512 << 10)
    sent: dict[int, bytes] = {}
    for number in range(200):
        payload = b"%04d" % number + bytes(10_000)
        sent[publisher.publish("kept/new", payload, 1)] = payload
    wait_for(lambda: "it is tried again each second" in node.log.read_text(), "the disk is full")
    wait_for(lambda: 0x97 in publisher.reasons.values(), "who waited already is told")
    fresh = Client(node, "fresh", paho.MQTTv5)
    refused = fresh.publish("kept/new", b"refused", 1)
    wait_for(lambda: fresh.reasons.get(refused) == 0x97, "the client is told")
    waits = old.publish("kept/old", b"waits", 1)
    for _ in range(5):
        fresh.publish("live/now", b"qos 0", 0)
    wait_for(lambda: len(awake.received) == 5, "QoS 0 flows on")
    through = fresh.publish("live/now", b"qos 1", 1)
    wait_for(lambda: fresh.reasons.get(through) in (0, 0x10), "and so does what needs no disk")
    assert waits not in old.acknowledged
    let_files_grow_to(node, resource.RLIM_INFINITY)
    wait_for(lambda: waits in old.acknowledged, "it goes on by itself")
    wait_for(lambda: "can be written again" in node.log.read_text(), "and says so")
    after = publisher.publish("kept/new", b"after", 1)
    wait_for(lambda: publisher.reasons.get(after) == 0, "as if nothing had been")
    taken = {payload for mid, payload in sent.items() if publisher.reasons.get(mid) == 0}
    node.kill()
    node.start()
    sleeper = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    wait_for(lambda: ("kept/new", b"after") in sleeper.received, "the last one")
    found = {payload for _, payload in sleeper.received}
    assert taken | {b"waits", b"after"} <= found
    refused_payloads = {payload for mid, payload in sent.items() if publisher.reasons.get(mid) == 0x97}
    assert not refused_payloads & found, "what was refused is not kept"
    for client in (sleeper, awake, publisher, fresh, old):
        client.close()
    assert node.stop() == 0


def test_publishers_who_wait_for_the_outbox_are_told(tmp_path: Path) -> None:
    namespace = f"full-{uuid.uuid4().hex[:8]}"
    near = NodeProcess(tmp_path, "near", namespace)
    far = NodeProcess(tmp_path, "far", namespace, mesh={"connect": [f"tcp/127.0.0.1:{near.mesh_port}"]})
    near.start()
    far.start()
    sleeper = Client(far, "sleeper", paho.MQTTv311, clean_session=False)
    sleeper.subscribe("kept/#", 1)
    awake = Client(near, "awake", paho.MQTTv5)
    awake.subscribe("live/#", 0)
    publisher = Client(near, "publisher", paho.MQTTv5)
    old = Client(near, "old", paho.MQTTv311)
    wait_for(lambda: publisher.publish("kept/probe", b"", 0) and sleeper.received, "the interest is known")
    sleeper.close()
    far.kill()
    let_files_grow_to(near, 512 << 10)
    sent: dict[int, bytes] = {}
    for number in range(200):
        payload = b"%04d" % number + bytes(10_000)
        sent[publisher.publish("kept/new", payload, 1)] = payload
    wait_for(lambda: "cannot be written, trying again" in near.log.read_text(), "the disk is full")
    wait_for(lambda: 0x97 in publisher.reasons.values(), "who waited already is told")
    wait_for(lambda: set(publisher.reasons) >= set(sent), "all are answered")
    waits = old.publish("kept/old", b"waits", 1)
    awake.publish("live/now", b"qos 0", 0)
    wait_for(lambda: awake.received, "QoS 0 flows on")
    assert waits not in old.acknowledged
    let_files_grow_to(near, resource.RLIM_INFINITY)
    wait_for(lambda: waits in old.acknowledged, "it goes on by itself")
    taken = {payload for mid, payload in sent.items() if publisher.reasons.get(mid) == 0}
    far.start()
    sleeper = Client(far, "sleeper", paho.MQTTv311, clean_session=False)
    wait_for(lambda: ("kept/old", b"waits") in sleeper.received, "the last one")
    assert taken <= {payload for _, payload in sleeper.received}
    for client in (sleeper, awake, publisher, old):
        client.close()
    assert far.stop() == 0
    assert near.stop() == 0


class SmallDisk:
    """A file system of 40 MB, and something else that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filling = folder / "filling"
        self.nodes: list[NodeProcess] = []

    def fill(self, left: int) -> None:
        """Leave so many bytes, or less."""
        found = os.statvfs(self.folder)
        with contextlib.suppress(OSError), self._filling.open("ab", buffering=0) as file:
            for _ in range((found.f_bavail * found.f_frsize - left) // 4096):
                file.write(bytes(4096))

    def clear(self) -> None:
        self._filling.unlink()

    def node(self, mesh: bool = False, **sections: Any) -> NodeProcess:
        """A node with its data here, and its log elsewhere."""
        name = f"disk-{uuid.uuid4().hex[:8]}"
        node = NodeProcess(self.folder.parent, "node", name, mesh={"enabled": mesh}, **sections)
        node.config["node"]["data"] = str(self.folder / "data")
        self.nodes.append(node)
        return node


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of its own may not be mounted here")
    disk = SmallDisk(folder)
    try:
        yield disk
    finally:
        for node in disk.nodes:
            node.stop()
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_publishers_are_told_before_the_disk_is_full(disk: SmallDisk) -> None:
    """A twentieth is held back, in which what is under way finds room: nobody hangs."""
    node = disk.node()
    node.start()
    sleeper = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    sleeper.subscribe("kept/#", 1)
    sleeper.close()
    lone = Client(node, "lone", paho.MQTTv5)
    first = lone.publish("kept/1", b"first", 1)
    wait_for(lambda: lone.reasons.get(first) == 0, "there is room")
    disk.fill(left=1 << 20)
    wait_for(lambda: "is nearly full" in node.log.read_text(), "the node notices")
    refused = lone.publish("kept/2", b"refused", 1)
    wait_for(lambda: lone.reasons.get(refused) == 0x97, "the client is told at once")
    retained = lone.publish("state", b"retained", 1, retain=True)
    wait_for(lambda: lone.reasons.get(retained) == 0x97, "retained messages have to be kept, too")
    unkept = lone.publish("nobody/listens", b"", 1)
    wait_for(lambda: lone.reasons.get(unkept) in (0, 0x10), "what needs no room goes through")
    disk.clear()
    wait_for(lambda: "has room again" in node.log.read_text(), "and notices again")
    last = lone.publish("kept/3", b"last", 1)
    wait_for(lambda: lone.reasons.get(last) == 0, "as if nothing had been")
    sleeper = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    wait_for(lambda: len(sleeper.received) >= 2, "what was acknowledged")
    assert sleeper.received == [("kept/1", b"first"), ("kept/3", b"last")]
    for client in (sleeper, lone):
        client.close()
    assert node.stop() == 0


STORING = {"store": [{"name": "all", "topics": ["#"]}]}


@pytest.mark.parametrize(
    "parts",
    [{}, {"mesh": True}, {"plugins": STORING}, {"mesh": True, "durability": "memory", "plugins": STORING}],
    ids=["sessions", "outbox", "history", "history only"],
)
def test_node_waits_for_room_to_start(disk: SmallDisk, parts: dict[str, Any]) -> None:
    node = disk.node(**parts)
    if "durability" in parts:
        disk.fill(left=0)
        node.start(wait=False)
        wait_for(lambda: "waits for room before it lets clients in" in node.log.read_text(), "it says so")
        disk.clear()
        node.wait_until_it_accepts()
        assert node.stop() == 0
        return
    node.start()
    sleeper = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    sleeper.subscribe("kept/#", 1)
    sleeper.close()
    publisher = Client(node, "publisher")
    sent = publisher.publish("kept/1", b"kept", 1)
    wait_for(lambda: sent in publisher.acknowledged, "acknowledged")
    assert node.stop() == 0
    disk.fill(left=0)
    node.start(wait=False)
    wait_for(lambda: "waits for room before it lets clients in" in node.log.read_text(), "it says so")
    disk.clear()
    node.wait_until_it_accepts()
    sleeper = Client(node, "sleeper", paho.MQTTv311, clean_session=False)
    wait_for(lambda: sleeper.received == [("kept/1", b"kept")], "nothing is lost")
    sleeper.close()
    assert node.stop() == 0
    # Not before: a node that stops removes its log, and leaves room.
    disk.fill(left=0)
    node.start(wait=False)
    wait_for(lambda: node.log.read_text().count("waits for room") == 2, "it waits again")
    assert node.stop() == 0, "and can be told to stop meanwhile"
