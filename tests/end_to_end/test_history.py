"""The history of one node, asked from another: the data stays, the answer passes the egress rules."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.end_to_end.nodes import Client, NodeProcess, geomq, wait_for

MASK = {"steps": [{"path": "name", "action": "redact"}]}
NOISE = {"steps": [{"action": "drop", "when": {"path": "n", "below": 0}}]}


def ask(node: NodeProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`geomq history query` at a node's mesh endpoint."""
    connect, namespace = f"tcp/127.0.0.1:{node.mesh_port}", node.config["mesh"]["namespace"]
    where = ("--connect", connect, "--namespace", namespace)
    return geomq("history", "query", *arguments, "--json", "--timeout", 20, *where)


def query(node: NodeProcess, *arguments: str) -> list[dict[str, str]]:
    """The whole answer."""
    result = ask(node, *arguments)
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


def test_nobody_learns_by_asking_what_a_topic_has_become(tmp_path: Path) -> None:
    namespace = f"history-{uuid.uuid4().hex[:8]}"
    hashed = {"steps": [{"action": "topic", "hash": [1], "key": "00112233445566778899aabbccddeeff"}]}
    plugins = {
        "egress": [{"name": "names", "topics": ["cars/#"], "module": "rules", "config": hashed}],
        "store": [{"name": "raw", "topics": ["cars/#"]}],
    }
    keeper = NodeProcess(tmp_path, "keeper", namespace, plugins=plugins)
    keeper.start()
    device = Client(keeper, "device")
    device.publish("cars/WDB1/gps", b"{}", 1)
    (told,) = wait_for(lambda: query(keeper, "cars/+/gps"), "the history answers")
    assert "WDB1" not in told["topic"]
    for topic_filter in ("cars/WDB1/gps", "cars/WDB1/#", told["topic"]):
        assert query(keeper, topic_filter) == []
    device.close()
    assert keeper.stop() == 0


def test_questions_leave_what_rules_remember_as_it_is(tmp_path: Path) -> None:
    """And are not answered by it: each time the whole history is told, masked, and what is published goes on."""
    namespace = f"history-{uuid.uuid4().hex[:8]}"
    steps = [
        {"action": "unique", "within": "1h"},
        {"action": "limit", "messages": 4, "per": "1h", "by": []},
        *MASK["steps"],
    ]
    keeper = NodeProcess(
        tmp_path,
        "keeper",
        namespace,
        plugins={
            "egress": [{"name": "mask", "topics": ["t/#"], "module": "rules", "config": {"steps": steps}}],
            "store": [{"name": "raw", "topics": ["t/#"]}],
        },
    )
    other = NodeProcess(tmp_path, "other", namespace, mesh={"connect": [f"tcp/127.0.0.1:{keeper.mesh_port}"]})
    keeper.start()
    other.start()
    hears = Client(other, "hears")
    hears.subscribe("t/#", 1)
    device = Client(keeper, "device")

    def publish(number: int) -> None:
        device.publish("t/a", json.dumps({"name": "Ana", "n": number}).encode(), 1)

    def crossed() -> bool:
        publish(0)
        return bool(hears.received)

    def told() -> set[int]:
        found = [json.loads(entry["payload"]) for entry in query(other, "t/#", "--last", "1000")]
        assert {one["name"] for one in found} <= {"***"}
        return {one["n"] for one in found}

    wait_for(crossed, "the first one crosses")
    publish(1)
    wait_for(lambda: told() == {0, 1}, "both are told")
    for number in (1, 2, 3, 4, 5):
        publish(number)
        wait_for(lambda n=number: n in told(), "it is in the history")  # type: ignore[misc]
    assert told() == {0, 1, 2, 3, 4, 5}
    wait_for(lambda: len(hears.received) == 4, "as many have crossed as the limit lets through")
    assert [json.loads(payload)["n"] for _, payload in hears.received] == [0, 1, 2, 3]
    for one in (hears, device):
        one.close()
    assert other.stop() == 0
    assert keeper.stop() == 0


def test_what_rules_withhold_because_they_fail_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a node without wasm, and of one whose rule rejects a message; what a rule drops is not told of."""
    namespace = f"history-{uuid.uuid4().hex[:8]}"
    rules = {
        "egress": [
            {"name": "mask", "topics": ["t/#"], "module": "rules", "config": MASK},
            {"name": "noise", "topics": ["t/#"], "module": "rules", "config": NOISE},
        ],
        "store": [{"name": "raw", "topics": ["#"]}],
    }
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "wasmtime.py").write_text('raise ImportError("no library for this processor")')
    without = NodeProcess(tmp_path, "without", namespace, plugins=rules)
    keeper = NodeProcess(
        tmp_path,
        "keeper",
        namespace,
        mesh={"connect": [f"tcp/127.0.0.1:{without.mesh_port}"]},
        plugins=rules,
    )
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "broken"))
        without.start()
    keeper.start()
    for node in (without, keeper):
        device = Client(node, "device")
        for payload in (b'{"name": "Ana", "n": 1}', b'{"name": "Ana", "n": -1}', b"Ana, not JSON"):
            device.publish("t/a", payload, 1)
        device.publish("free", b"free", 1)
        wait_for(lambda d=device: len(d.acknowledged) == 4, "all is acknowledged")  # type: ignore[misc]
        device.close()
    wait_for(lambda: len(query(keeper, "free")) == 2, "both answer")
    for node in (without, keeper):
        answer = ask(node, "#")
        assert answer.returncode == 3, answer.stderr
        found = [json.loads(line) for line in answer.stdout.splitlines()]
        assert sorted((entry["node"], entry["payload"]) for entry in found) == [
            ("keeper", "free"),
            ("keeper", '{"name": "***", "n": 1}'),
            ("without", "free"),
        ]
        assert sorted(answer.stderr.splitlines()) == [
            "geomq: keeper: rule mask withholds 1 message: its module rejects them",
            "geomq: without: rule mask withholds 3 messages: wasm cannot run on this machine: "
            "no library for this processor",
        ]
    assert keeper.stop() == 0
    assert without.stop() == 0
