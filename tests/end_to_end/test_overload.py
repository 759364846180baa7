"""A node that is short of memory: new clients are refused, those that are here stay, and publish slowly."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import yaml

from tests.end_to_end.nodes import Client, NodeProcess, wait_for


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path, "one", "overload", mesh={"enabled": False})
    node.start()
    yield node
    node.stop()


def reread(node: NodeProcess, limits: dict[str, Any], says: str) -> None:
    node.config["limits"] = limits
    (node.folder / "node.yaml").write_text(yaml.safe_dump(node.config))
    os.kill(node.pid, signal.SIGHUP)
    wait_for(lambda: says in node.log.read_text(), f"the log says {says!r}")


def code(node: NodeProcess) -> int:
    """The code that a new client gets."""
    reasons: list[int] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, reconnect_on_failure=False)
    client.on_connect = lambda _c, _d, _f, reason, _p: reasons.append(reason.value)
    client.connect("127.0.0.1", node.mqtt_port)
    client.loop_start()
    wait_for(lambda: reasons, "CONNACK")
    client.disconnect()
    client.loop_stop()
    return reasons[0]


def test_node_short_of_memory(node: NodeProcess) -> None:
    subscriber = Client(node, "subscriber")
    subscriber.subscribe("t", 1)
    publisher = Client(node, "publisher")
    assert code(node) == 0
    reread(node, {"overload_memory": "1MiB"}, ": overloaded (memory ")
    assert code(node) == 0x89
    sent = [b"%d" % number for number in range(30)]
    mids = [publisher.publish("t", payload, 1) for payload in sent]
    wait_for(lambda: subscriber.received, "a message arrives")
    reread(node, {}, "no longer overloaded (memory ")
    wait_for(lambda: publisher.acknowledged.issuperset(mids), "everything is acknowledged")
    wait_for(lambda: [payload for _, payload in subscriber.received] == sent, "everything arrives")
    assert publisher.disconnected == subscriber.disconnected == []
    assert code(node) == 0
    text = node.log.read_text()
    assert "1 clients were refused" in text
    assert text.count("limited: client") == text.count("overload: CONNECT is answered by 0x89") == 1
