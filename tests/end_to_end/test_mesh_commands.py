"""`geomq mesh` against nodes that run, one of which goes away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from tests.end_to_end.nodes import Client, NodeProcess, geomq, wait_for
from tests.ports import free_port


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    namespace = f"mesh-{uuid.uuid4().hex[:8]}"
    near = NodeProcess(tmp_path, "near", namespace)
    near.start()
    far = NodeProcess(tmp_path, "far", namespace, mesh={"connect": [f"tcp/127.0.0.1:{near.mesh_port}"]})
    far.start()
    yield near, far
    near.stop()
    far.stop()


def geomq_mesh(node: NodeProcess, *arguments: str, seconds: float = 3) -> subprocess.CompletedProcess[str]:
    config = str(node.folder / "node.yaml")
    return geomq("mesh", *arguments, "--config", config, "--timeout", seconds)


def asked(node: NodeProcess, what: str) -> Any:
    return json.loads(geomq_mesh(node, what, "--json").stdout)


def link(node: NodeProcess, from_node: str) -> dict[str, Any]:
    return next(link for link in asked(node, "status")["links"] if link["node"] == from_node)


def test_status_and_ledger(two: tuple[NodeProcess, NodeProcess]) -> None:
    near, far = two
    wait_for(lambda: link(near, "near")["clock_difference"] is not None, "the clocks are compared")
    assert f"listens on tcp/127.0.0.1:{near.mesh_port} for other nodes" in near.log.read_text()
    status = asked(near, "status")
    assert [(node["name"], node["there"], node["protocol"]) for node in status["nodes"]] == [
        ("far", True, 1),
        ("near", True, 1),
    ]
    assert len({node["version"] for node in status["nodes"]}) == 1
    far_region = status["regions"][0]
    assert (far_region["region"], far_region["nodes"], far_region["there"]) == ("far", 1, 1)
    assert far_region["gateway"] == "far"
    near_to_far = link(near, "near")
    assert near_to_far["alive"]
    assert abs(near_to_far["clock_difference"]) <= near_to_far["round_trip_ms"] / 1000 + 0.001

    subscriber = Client(far, "subscriber", clean_session=False)
    subscriber.subscribe("t", 1)
    publisher = Client(near, "publisher")

    def crossed() -> bool:
        publisher.publish("t", b"warm", 1)
        return bool(subscriber.received)

    wait_for(crossed, "a message crosses")
    # Each node measures when its own second is over.
    for node, rate in (("near", "bytes_sent"), ("far", "messages_received")):
        wait_for(lambda n=node, r=rate: link(near, n)["rates"][r] > 0, "the rate shows")  # type: ignore[misc]

    assert far.stop() == 0
    wait_for(lambda: "node far of region far is gone" in near.log.read_text(), "the node is gone")
    mids = [publisher.publish("t", b"waits", 1) for _ in range(7)]
    wait_for(lambda: publisher.acknowledged.issuperset(mids), "all are in the outbox")
    wait_for(lambda: asked(near, "ledger")[0]["queued"] == 7, "they are in the ledger")
    (account,) = asked(near, "ledger")
    assert (account["node"], account["destination"], account["balanced"]) == ("near", "far", True)
    assert account["accepted"] == account["acknowledged"] + 7
    shown = geomq_mesh(near, "status")
    assert shown.returncode == 0
    assert any(line.split()[:3] == ["far", "far", "away"] for line in shown.stdout.splitlines())
    assert "does not balance" not in geomq_mesh(near, "ledger").stdout
    shown = geomq_mesh(near, "status", "--node", "near").stdout
    assert not any(line.split()[:1] == ["far"] for line in shown.splitlines())
    wrong = geomq_mesh(near, "ledger", "--node", "nar")
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "geomq: no node of the mesh is called 'nar'; there are far, near\n",
    )
    watcher = Client(near, "watcher")
    watcher.subscribe("$SYS/broker/geomq/#")
    figures = {
        "$SYS/broker/geomq/mesh/far/queued": b"7",
        "$SYS/broker/geomq/mesh/far/alive": b"0",
    }
    wait_for(lambda: figures.items() <= dict(watcher.received).items(), "the same is told under $SYS")
    for client in (subscriber, publisher, watcher):
        client.close()


def test_nobody_to_ask(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path, "none", "nobody", mesh={"listen": [f"tcp/127.0.0.1:{free_port()}"]})
    (node.folder / "node.yaml").write_text(json.dumps(node.config))
    for command in ("status", "ledger"):
        result = geomq_mesh(node, command, seconds=0.5)
        assert result.returncode == 1
        assert result.stderr.startswith("geomq: no node answers at tcp/127.0.0.1:")
        assert result.stderr.endswith(": connection refused\n")
    node.config["mesh"] = {"enabled": False}
    (node.folder / "node.yaml").write_text(json.dumps(node.config))
    result = geomq_mesh(node, "status")
    assert result.returncode == 1
    assert "node.yaml: the node is in no mesh (mesh.enabled is false)" in result.stderr


def test_publishers_are_told_that_the_outbox_is_full(two: tuple[NodeProcess, NodeProcess]) -> None:
    near, far = two
    subscriber = Client(far, "subscriber", clean_session=False)
    subscriber.subscribe("t", 1)
    told = Client(near, "told", paho.MQTTv5)
    untold = Client(near, "untold")

    def crossed() -> bool:
        told.publish("t", b"warm")
        return bool(subscriber.received)

    wait_for(crossed, "a message crosses")
    far.stop()
    wait_for(lambda: "node far of region far is gone" in near.log.read_text(), "the node is gone")
    near.config["mesh"].update(outbox_full="refuse", outbox_bytes=200_000)
    (near.folder / "node.yaml").write_text(json.dumps(near.config))
    os.kill(near.pid, signal.SIGHUP)
    wait_for(lambda: "changed: mesh.outbox_bytes" in near.log.read_text(), "the file is read")

    mids: list[int] = []
    # Many of them come in one chunk.
    mids.extend(told.publish("t", bytes(1000), 1) for _ in range(250))
    wait_for(lambda: told.acknowledged.issuperset(mids), "everything is answered")
    refused = [mid for mid in mids if told.reasons[mid] == 0x97]
    accepted = [mid for mid in mids if told.reasons[mid] == 0]
    assert mids == accepted + refused
    assert len(accepted) >= 170
    assert refused
    # Twice as much as there would be room for.
    held = [untold.publish("t", bytes(1000) + b"%d" % number, 1 + number % 2) for number in range(400)]
    other = told.publish("nobody", b"free", 1)
    wait_for(lambda: told.reasons.get(other) == 0x10, "others are not concerned")
    assert not untold.acknowledged.intersection(held)
    assert asked(near, "ledger")[0]["queued"] == len(accepted), "it is not even taken"

    far.start()
    back = Client(far, "subscriber", clean_session=False)
    wait_for(lambda: len(back.received) >= len(accepted) + len(held), "everything has crossed")
    wait_for(lambda: untold.acknowledged.issuperset(held), "there is room again")
    assert len(back.received) == len(accepted) + len(held)
    assert asked(near, "ledger")[0]["dropped"]["overflow"] == 0
    for client in (subscriber, told, untold, back):
        client.close()
