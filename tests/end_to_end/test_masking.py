"""No byte of a masked field is on the wire between nodes, nor at a subscriber there: whatever the rule does."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from plugins.host.engine import wat2wasm
from tests.end_to_end.nodes import Client, NodeProcess, wait_for
from tests.mesh.relay import Relay

SECRET = "Magdalena-Quittenbaum"
TELEMETRY = json.dumps(
    {"vehicle": "eu-1", "driver": {"name": SECRET, "phone": SECRET[::-1]}, "speed": 61.5}
).encode()
TOPIC = "fleet/eu-1/telemetry"

MASK = {
    "module": "rules",
    "config": {
        "steps": [
            {"path": "driver.name", "action": "hash", "key": "00112233445566778899aabbccddeeff"},
            {"path": "driver.phone", "action": "redact"},
            {"action": "properties", "keep": []},
        ]
    },
}
EMITS = {"module": "rules", "config": {"steps": [{"action": "emit", "topic": f"{TOPIC}/copy"}]}}
"""As the message is: the rule behind it is the one that masks."""

_HEADER = """
  (memory (export "memory") 2)
  (global (export "geomq_abi") i32 (i32.const 1))
  (func (export "geomq_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "geomq_init") (param i32 i32) (result i32) (i32.const 0))
"""
TRAPS = f'(module {_HEADER} (func (export "geomq_process") (param i32 i32) (result i64) unreachable))'
LOOPS = (
    f'(module {_HEADER} (func (export "geomq_process") (param i32 i32) (result i64)'
    " (loop $again (br $again)) (i64.const 0)))"
)


class Site:
    """A node with an egress rule, and another one behind a relay that keeps every byte."""

    def __init__(self, folder: Path, rule: dict[str, Any]) -> None:
        namespace = f"mask-{uuid.uuid4().hex[:8]}"
        entries = [
            {"name": name, "topics": ["fleet/#"], **one} for name, one in (("emits", EMITS), ("mask", rule))
        ]
        self.near = NodeProcess(
            folder,
            "near",
            namespace,
            mesh={"compression": False},
            plugins={"egress": entries, "store": [{"name": "raw", "topics": ["fleet/#"]}]},
        )
        self.relay = Relay(self.near.mesh_port)
        self.relay.start()
        self.far = NodeProcess(
            folder,
            "far",
            namespace,
            mesh={"connect": [f"tcp/127.0.0.1:{self.relay.port}"], "compression": False},
        )
        self.near.start()
        self.far.start()

    def stop(self) -> None:
        self.near.stop()
        self.far.stop()
        self.relay.stop()


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    rule = request.param
    if "wat" in rule:
        module = tmp_path / "rule.wasm"
        module.write_bytes(wat2wasm(rule["wat"]))
        rule = {"module": str(module)}
    site = Site(tmp_path, rule)
    yield site
    site.stop()


def exchange(site: Site) -> Client:
    """Publish telemetry in every way that could cross; the remote subscriber, once a marker has crossed."""
    remote = Client(site.far, "remote")
    remote.subscribe("fleet/#", 2)
    remote.subscribe("marker/#", 1)
    local = Client(site.near, "local")
    local.subscribe("fleet/#", 2)
    device = Client(site.near, "device", paho.MQTTv5)
    beside = Properties(PacketTypes.PUBLISH)
    beside.UserProperty = [("driver", SECRET)]
    beside.CorrelationData = SECRET.encode()
    beside.ResponseTopic = f"reply/{SECRET}"

    def crossed() -> bool:
        device.publish("marker/ready", b"ready", 0)
        time.sleep(0.05)
        return any(topic == "marker/ready" for topic, _ in remote.received)

    wait_for(crossed, "the interest reaches the publishing node")
    for qos in (0, 1, 2):
        for _ in range(20):
            device.publish(TOPIC, TELEMETRY, qos, properties=beside)
        device.publish(f"{TOPIC}/retained", TELEMETRY, qos, retain=True, properties=beside)
    wait_for(lambda: len(device.acknowledged) >= 63, "every message is acknowledged")
    wait_for(
        lambda: len([t for t, _ in local.received if t == TOPIC]) == 60, "the local subscriber hears all"
    )
    assert local.payloads()[TELEMETRY] == 63, "local subscribers hear the raw message"
    device.publish("marker/done", b"done", 1)
    wait_for(lambda: any(topic == "marker/done" for topic, _ in remote.received), "the last marker crosses")
    late = Client(site.far, "late")
    late.subscribe("fleet/#", 1)
    device.close()
    local.close()
    late.close()
    assert SECRET.encode() not in b"".join(payload for _, payload in late.received)
    return remote


def assert_nothing_leaked(site: Site, remote: Client) -> None:
    wire = bytes(site.relay.recorded)
    assert b"marker/done" in wire, "the relay sees what crosses"
    heard = b"".join(payload for _, payload in remote.received)
    for secret in (SECRET.encode(), SECRET[::-1].encode()):
        assert secret not in wire
        assert secret not in heard


@pytest.mark.parametrize("site", [MASK], indirect=True)
def test_masked_fields_stay(site: Site) -> None:
    remote = exchange(site)
    wait_for(lambda: len([t for t, _ in remote.received if t == TOPIC]) == 60, "the masked messages arrive")
    first = json.loads(next(payload for topic, payload in remote.received if topic == TOPIC))
    assert first["driver"]["phone"] == "***"
    assert first["speed"] == 61.5
    copies = [payload for topic, payload in remote.received if topic == f"{TOPIC}/copy"]
    assert json.loads(copies[0]) == first
    assert_nothing_leaked(site, remote)
    remote.close()


@pytest.mark.parametrize(
    "site",
    [{"wat": TRAPS}, {"wat": LOOPS}, {"module": "/nowhere/at-all.wasm"}],
    ids=["trap", "endless loop", "missing file"],
    indirect=True,
)
def test_fails_closed(site: Site) -> None:
    remote = exchange(site)
    assert not [topic for topic, _ in remote.received if topic.startswith("fleet/")]
    assert_nothing_leaked(site, remote)
    remote.close()
