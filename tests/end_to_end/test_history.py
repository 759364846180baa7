"""The history of one node, asked from another: the data stays, the answer passes the egress rules."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

from tests.end_to_end.nodes import ROOT, Client, NodeProcess, wait_for

MASK = {"steps": [{"path": "name", "action": "redact"}]}
NOISE = {"steps": [{"action": "drop", "when": {"path": "n", "below": 0}}]}


def query(node: NodeProcess, *arguments: str) -> list[dict[str, str]]:
    """`geomq history query` at a node's mesh endpoint."""
    command = [sys.executable, "-m", "broker", "history", "query", *arguments, "--json"]
    command += [
        "--connect",
        f"tcp/127.0.0.1:{node.mesh_port}",
        "--namespace",
        node.config["mesh"]["namespace"],
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_history_is_asked_from_any_node(tmp_path: Path) -> None:
    namespace = f"history-{uuid.uuid4().hex[:8]}"
    keeper = NodeProcess(
        tmp_path,
        "keeper",
        namespace,
        plugins={
            "ingress": [{"name": "noise", "topics": ["t/#"], "module": "rules", "config": NOISE}],
            "egress": [{"name": "mask", "topics": ["t/#"], "module": "rules", "config": MASK}],
            "store": [{"name": "raw", "topics": ["t/#"]}],
        },
    )
    other = NodeProcess(tmp_path, "other", namespace, mesh={"connect": [f"tcp/127.0.0.1:{keeper.mesh_port}"]})
    keeper.start()
    other.start()
    device = Client(keeper, "device")
    for number in range(20):
        device.publish("t/a", json.dumps({"name": "Ana", "n": number}).encode(), 1)
    device.publish("t/a", json.dumps({"n": -1}).encode(), 1)
    device.publish("elsewhere", b"{}", 1)
    wait_for(lambda: len(device.acknowledged) == 22, "all are acknowledged")
    wait_for(
        lambda: len(query(other, "t/#", "--last", "5")) == 5, "the history answers through the other node"
    )
    for node in (keeper, other):
        found = query(node, "t/#", "--last", "10")
        assert [json.loads(entry["payload"]) for entry in found] == [
            {"name": "***", "n": n} for n in range(10, 20)
        ]
        assert {(entry["node"], entry["topic"]) for entry in found} == {("keeper", "t/a")}
    assert query(other, "elsewhere") == []
    assert query(other, "t/#", "--until", "1h") == []
    assert len(query(other, "t/#", "--since", "1h", "--last", "100")) == 20
    device.close()
    assert keeper.stop() == 0
    assert other.stop() == 0
