"""A node joins while the mask of another one does not start: what that keeps back is told, and comes with the mask."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import yaml

from tests.end_to_end.nodes import Client, NodeProcess, geomq, wait_for


def withheld(node: NodeProcess) -> int:
    """The figure in `geomq status`."""
    answer = geomq("status", "--config", node.folder / "node.yaml", timeout=60)
    assert answer.returncode == 0, answer.stderr
    found: int = json.loads(answer.stdout)[node.name]["mesh"]["retained_withheld"]
    return found


def test_retained_messages_come_with_the_mask(tmp_path: Path) -> None:
    namespace = f"withheld-{uuid.uuid4().hex[:8]}"
    entry: dict[str, Any] = {"name": "mask", "topics": ["s/#"], "module": str(tmp_path / "missing.wasm")}
    keeper = NodeProcess(tmp_path, "keeper", namespace, plugins={"egress": [entry]})
    late = NodeProcess(tmp_path, "late", namespace, mesh={"connect": [f"tcp/127.0.0.1:{keeper.mesh_port}"]})
    keeper.start()
    device = Client(keeper, "device")
    for number in range(3):
        device.publish(f"s/{number}", b'{"name": "Ana"}', 1, retain=True)
    wait_for(lambda: len(device.acknowledged) == 3, "all is acknowledged")
    late.start()
    told = "does not tell all of its retained messages: rule mask withholds 3 messages: "
    wait_for(lambda: f"node keeper {told}" in late.log.read_text(), "the node that joins has heard of it")
    assert withheld(keeper) == 3

    entry["module"] = "rules"
    entry["config"] = {"steps": [{"action": "redact", "path": "name"}]}
    (keeper.folder / "node.yaml").write_text(yaml.safe_dump(keeper.config))
    assert geomq("reload", "--config", str(keeper.folder / "node.yaml")).returncode == 0

    def heard() -> dict[str, bytes]:
        client = Client(late, "watcher")
        client.subscribe("s/#", 1)
        client.close()
        return dict(client.received)

    found = wait_for(lambda: len(heard()) == 3 and heard(), "they have come", 60)
    assert set(found.values()) == {b'{"name": "***"}'}
    assert withheld(keeper) == 0
    assert "other nodes are told all retained messages again" in keeper.log.read_text()
    device.close()
    assert late.stop() == 0
    assert keeper.stop() == 0
