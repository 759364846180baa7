"""A disk that is really full for a while: the system lets the node's files grow no further."""

from __future__ import annotations

import resource
import uuid
from pathlib import Path

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
