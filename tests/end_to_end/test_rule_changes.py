"""Rules of a node that runs, as a real process: other ones under traffic, dead letters, state, no wasm at all."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.nodes import Client, NodeProcess, geomq, wait_for
from tests.plugins import modules
from tests.plugins.test_renewal import says, write
from tests.plugins.test_rule_state import COUNTS, RESULT


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    nodes: list[NodeProcess] = []

    def start(**sections: Any) -> NodeProcess:
        sections.setdefault("mesh", {"enabled": False})
        node = NodeProcess(tmp_path, f"node{len(nodes)}", f"rules-{uuid.uuid4().hex[:8]}", **sections)
        nodes.append(node)
        node.start()
        return node

    yield start
    for node in nodes:
        node.stop()


def reread(node: NodeProcess, plugins: dict[str, Any], says: str) -> None:
    """Give the node other rules by SIGHUP, and wait until the log says so."""
    node.config["plugins"] = plugins
    (node.folder / "node.yaml").write_text(yaml.safe_dump(node.config))
    before = node.log.read_text().count(says)
    os.kill(node.pid, signal.SIGHUP)
    wait_for(lambda: node.log.read_text().count(says) > before, f"the log says {says!r}")


def rule(path: Path, name: str = "rule", **more: Any) -> dict[str, Any]:
    return {"name": name, "topics": ["t/#"], "module": str(path), **more}


class Numbers:
    """A device that publishes numbers at QoS 1, and a subscriber that hears them."""

    def __init__(self, node: NodeProcess) -> None:
        self.hears = Client(node, "hears")
        self.hears.subscribe("t/#", 1)
        self.device = Client(node, "device")
        self.sent = 0

    def send(self, count: int) -> None:
        for _ in range(count):
            self.device.publish(f"t/{self.sent % 3}", b"-%06d" % self.sent, 1)
            self.sent += 1
            if not self.sent % 20:
                time.sleep(0.002)

    def arrived(self) -> bytes:
        """The marks, once all has come, on each topic once and in order."""
        wait_for(lambda: len(self.device.acknowledged) == self.sent, "all is acknowledged")
        wait_for(lambda: len(self.hears.received) >= self.sent, "all has come")
        for topic in range(3):
            numbers = [int(payload[1:]) for name, payload in self.hears.received if name == f"t/{topic}"]
            assert numbers == list(range(topic, self.sent, 3))
        return b"".join(payload[:1] for _, payload in self.hears.received)

    def close(self) -> None:
        self.hears.close()
        self.device.close()


def test_rules_change_under_traffic(make: Callable[..., NodeProcess], tmp_path: Path) -> None:
    """From none to one, another module by its file, another entry by SIGHUP, and none again."""
    path, other = tmp_path / "x.wasm", tmp_path / "y.wasm"
    path.write_bytes(says(b"x"))
    other.write_bytes(says(b"y"))
    node = make()
    numbers = Numbers(node)
    numbers.send(300)
    reread(node, {"ingress": [rule(path)]}, "changed: plugins.ingress")
    numbers.send(300)
    write(path, says(b"z"))
    wait_for(lambda: "['rule'] loaded again" in node.log.read_text(), "the new module is loaded")
    numbers.send(300)
    write(other, b"broken")
    reread(node, {"ingress": [rule(other)]}, "rule rule stays as it was")
    numbers.send(300)
    write(other, says(b"y"))
    wait_for(lambda: node.log.read_text().count("['rule'] loaded again") == 2, "the mended one is loaded")
    numbers.send(300)
    reread(node, {}, "changed: plugins.ingress")
    numbers.send(300)
    marks = numbers.arrived()
    kinds = [mark for number, mark in enumerate(marks) if not number or marks[number - 1] != mark]
    assert bytes(kinds) == b"-xzy-"
    numbers.close()


def test_dead_letters_are_heard_here_and_nowhere_else(
    make: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    path = tmp_path / "poison.wasm"
    path.write_bytes(modules.module(modules.TRAPS_ON_BANG))
    entry = rule(path, dead_letter={"topic": "dead/letters", "file": str(tmp_path / "dead.jsonl")})
    near = make(mesh={"enabled": True}, plugins={"egress": [entry]})
    far = make(
        mesh={
            "enabled": True,
            "namespace": near.config["mesh"]["namespace"],
            "connect": [f"tcp/127.0.0.1:{near.mesh_port}"],
        }
    )
    here, there, device = Client(near, "here"), Client(far, "there"), Client(near, "device")
    here.subscribe("dead/#", 1)
    there.subscribe("#", 1)

    def crossed() -> bool:
        device.publish("t/1", b"ready", 1)
        time.sleep(0.05)
        return bool(there.received)

    wait_for(crossed, "the nodes have met")
    device.publish("t/1", b"!secret", 1)
    device.publish("t/1", b"done", 1)
    wait_for(lambda: b"done" in there.payloads(), "what is sound crosses")
    wait_for(lambda: here.received, "the letter comes")
    ((topic, letter),) = here.received
    assert topic == "dead/letters"
    told = json.loads(letter)
    assert (told["rule"], told["topic"], told["payload"], told["client"]) == (
        "rule",
        "t/1",
        "!secret",
        "device",
    )
    assert not [topic for topic, payload in there.received if b"secret" in payload]
    assert json.loads((tmp_path / "dead.jsonl").read_text()) == told
    for client in (here, there, device):
        client.close()


def test_first_egress_rule_of_a_node_that_runs(make: Callable[..., NodeProcess], tmp_path: Path) -> None:
    path = tmp_path / "drops.wasm"
    path.write_bytes(modules.module(modules.DROPS_ALL))
    near = make(mesh={"enabled": True})
    far = make(
        mesh={
            "enabled": True,
            "namespace": near.config["mesh"]["namespace"],
            "connect": [f"tcp/127.0.0.1:{near.mesh_port}"],
        }
    )
    there, device = Client(far, "there"), Client(near, "device")
    there.subscribe("#", 1)

    def crosses(topic: str) -> bool:
        device.publish(topic, b"x", 1)
        time.sleep(0.05)
        return any(name == topic for name, _ in there.received)

    wait_for(lambda: crosses("t/before"), "the nodes have met")
    reread(near, {"egress": [rule(path)]}, "changed: plugins.egress")
    for number in range(20):
        device.publish(f"t/{number}", b"secret", number % 2)
    wait_for(lambda: crosses("free"), "the others cross")
    assert not [payload for _, payload in there.received if payload == b"secret"]
    reread(near, {}, "changed: plugins.egress")
    wait_for(lambda: crosses("t/after"), "and these again")
    there.close()
    device.close()


def test_first_store_rule_and_the_bounds_of_the_history_need_no_restart(
    make: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    """From no rules to one that stores, another bound, none again, and back: what was kept is still there."""
    node = make(mesh={"enabled": True}, limits={"disk_reserve": 0})
    device = Client(node, "device")
    store = [{"name": "raw", "topics": ["t/#"]}]

    def publish(*payloads: bytes) -> None:
        for payload in payloads:
            device.publish("t/1", payload, 1)
        wait_for(lambda: not device._paho._out_messages, "it is acknowledged")

    def kept() -> list[str] | None:
        """The payloads that the history tells; None where it says that there is none."""
        config = node.folder / "node.yaml"
        done = geomq("history", "query", "t/#", "--last", 1000, "--json", "--config", config, timeout=60)
        if done.returncode:
            assert "has a history, or none answered" in done.stderr, done.stderr
            return None
        return [json.loads(line)["payload"] for line in done.stdout.splitlines()]

    publish(b"too early")
    assert kept() is None
    reread(node, {"store": store}, "changed: plugins.store")
    publish(b"1", b"2")
    assert kept() == ["1", "2"]
    publish(*(b"%d" % number + bytes(1000) for number in range(100)))
    reread(node, {"store": store, "history": {"max_bytes": "20KiB"}}, "changed: plugins.history")
    wait_for(lambda: len(kept() or "x" * 100) < 20, "the oldest are gone")
    reread(node, {}, "changed: plugins.store")
    publish(b"not kept")
    assert kept() is None
    reread(node, {"ingress": [{**store[0], "module": "rules", "config": {"steps": []}}]}, "plugins.ingress")
    assert kept() is None
    reread(node, {"store": store}, "changed: plugins.ingress, plugins.store")
    publish(b"last")
    assert (kept() or [])[-1] == "last"
    assert "not kept" not in (kept() or ["not kept"])
    assert "restart" not in node.log.read_text()
    # One that cannot be opened leaves all as it was, in words.
    reread(node, {}, "changed: plugins.store")
    database = node.folder / "data" / "history.db"
    for file in database.parent.glob("history.db*"):
        file.unlink()
    database.mkdir()
    reread(node, {"store": store}, "the configuration stays as it was: the history")
    database.rmdir()
    reread(node, {"store": store}, "changed: plugins.store")
    publish(b"new")
    assert kept() == ["new"]
    device.close()


NO_LIBRARY = 'raise ImportError("no library for this processor")\n'


def test_without_wasm_the_node_starts_says_so_and_required_rules_fail_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `import wasmtime` does where there is no library, in both stages and with `on_error: pass`."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "wasmtime.py").write_text(NO_LIBRARY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    built_in = {"module": "rules", "config": {"steps": []}}
    node = NodeProcess(
        tmp_path,
        "node",
        "alone",
        mesh={"enabled": False},
        plugins={
            "ingress": [
                {"name": "required", "topics": ["closed/#"], **built_in},
                {"name": "optional", "topics": ["open/#"], "on_error": "pass", **built_in},
            ]
        },
    )
    node.start()
    hears, device = Client(node, "hears"), Client(node, "device")
    hears.subscribe("#", 1)
    for topic in ("closed/1", "open/1", "free"):
        device.publish(topic, b"x", 1)
    wait_for(lambda: len(device.acknowledged) == 3, "all is acknowledged")
    wait_for(lambda: len(hears.received) == 2, "what may pass has passed")
    assert {topic for topic, _ in hears.received} == {"open/1", "free"}
    assert "wasm cannot run on this machine: no library for this processor" in node.log.read_text()
    hears.close()
    device.close()
    node.stop()


def test_state_outlives_a_crash_of_the_node(make: Callable[..., NodeProcess], tmp_path: Path) -> None:
    get = '(import "geomq" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))'
    path = tmp_path / "counts.wasm"
    path.write_bytes(modules.module(COUNTS, get + modules.HEADER + modules.data(8192, RESULT)))
    node = make(plugins={"ingress": [rule(path)]})

    def remembered() -> bytes:
        with sqlite3.connect(f"file:{node.folder}/data/rules.db?mode=ro", uri=True) as db:
            row = db.execute("SELECT value FROM state WHERE entry = 'rule' AND key = x'6b'").fetchone()
        return bytes(row[0]) if row else b""

    for expected in (b"\3", b"\6"):
        device = Client(node, "device")
        for _ in range(3):
            device.publish("t/1", b"1", 1)
            wait_for(lambda d=device: not d._paho._out_messages, "it is acknowledged")  # type: ignore[misc]
        wait_for(lambda e=expected: remembered() == e, "it is on disk")  # type: ignore[misc]
        device.drop()
        node.kill()
        node.start()
    assert (node.folder / "data" / "compiled").stat().st_mode & 0o777 == 0o700
    assert len(list((node.folder / "data" / "compiled").iterdir())) == 1


def test_figures_of_rules_are_shown(make: Callable[..., NodeProcess], tmp_path: Path) -> None:
    path = tmp_path / "passes.wasm"
    path.write_bytes(modules.module(modules.PASSES))
    node = make(mesh={"enabled": True}, plugins={"ingress": [rule(path)]})
    device = Client(node, "device")
    device.publish("t/1", b"1", 1)
    wait_for(lambda: device.acknowledged, "it is acknowledged")

    def status() -> dict[str, Any]:
        done = geomq("status", "--config", node.folder / "node.yaml", timeout=60)
        return dict(json.loads(done.stdout)["node0"]) if done.returncode == 0 else {}

    (figures,) = wait_for(status, "status answers")["plugins"]
    assert (figures["messages"], figures["passed"], figures["traps"]) == (1, 1, 0)
    assert figures["fuel"] > 0
    assert {"microseconds", "state_keys", "state_bytes", "breaker"} <= figures.keys()
    device.close()
