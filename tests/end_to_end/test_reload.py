"""A node that is told by SIGHUP to read its configuration again; devices notice nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import yaml

from broker.access.users import make_user, write_users
from tests.end_to_end.nodes import Client, NodeProcess, geomq, wait_for
from tests.plugins.test_renewal import says, write
from tests.ports import free_port

MESSAGES = 2000


class Two:
    """Two nodes that do not know of each other."""

    def __init__(self, folder: Path) -> None:
        namespace = f"reload-{uuid.uuid4().hex[:8]}"
        self.near = NodeProcess(folder, "near", namespace)
        self.far = NodeProcess(folder, "far", namespace)
        self.near.start()
        self.far.start()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    nodes = Two(tmp_path)
    yield nodes
    nodes.near.stop()
    nodes.far.stop()


def rewrite(node: NodeProcess, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the node's file."""
    change(node.config)
    (node.folder / "node.yaml").write_text(yaml.safe_dump(node.config))


def reread(node: NodeProcess, says: str, times: int = 1) -> None:
    """Send SIGHUP and wait for a line of the log."""
    os.kill(node.pid, signal.SIGHUP)
    wait_for(lambda: node.log.read_text().count(says) >= times, f"{node.name} logs {says!r}")


def reload(node: NodeProcess, *options: str) -> subprocess.CompletedProcess[str]:
    """`geomq reload`."""
    return geomq("reload", "--config", node.folder / "node.yaml", *options, timeout=60)


def connect(near: NodeProcess, far: NodeProcess) -> None:
    """Have the one connect to the other, by its configuration."""
    rewrite(near, lambda config: config["mesh"].update(connect=[f"tcp/127.0.0.1:{far.mesh_port}"]))
    reread(near, "changed: mesh.connect")


def await_crossing(publisher: Client, subscriber: Client, topic: str) -> None:
    """Publish probes at QoS 0 until one has crossed."""

    def crossed() -> bool:
        publisher.publish(topic, b"probe")
        return b"probe" in subscriber.payloads()

    wait_for(crossed, "a message crosses")


def test_endpoint_comes_goes_and_comes_again_and_nothing_is_lost(two: Two) -> None:
    subscriber = Client(two.far, "subscriber")
    subscriber.subscribe("t", 1)
    publisher = Client(two.near, "publisher")
    connect(two.near, two.far)
    await_crossing(publisher, subscriber, "t")

    sent = [b"%d" % number for number in range(MESSAGES)]
    mids = [publisher.publish("t", payload, 1) for payload in sent[: MESSAGES // 2]]
    rewrite(two.near, lambda config: config["mesh"].update(connect=[]))
    reread(two.near, "changed: mesh.connect", 2)
    wait_for(lambda: "node far of region far is gone" in two.near.log.read_text(), "the link is cut")
    mids += [publisher.publish("t", payload, 1) for payload in sent[MESSAGES // 2 :]]
    wait_for(lambda: publisher.acknowledged.issuperset(mids), "everything is acknowledged")
    assert sent[-1] not in subscriber.payloads()

    connect(two.near, two.far)
    wait_for(lambda: set(sent) <= set(subscriber.payloads()), "everything has crossed")
    numbers = [int(payload) for _, payload in subscriber.received if payload != b"probe"]
    assert list(dict.fromkeys(numbers)) == list(range(MESSAGES))
    assert publisher.disconnected == subscriber.disconnected == []


def test_mesh_listens_elsewhere_and_in_another_region(two: Two) -> None:
    subscriber = Client(two.far, "subscriber")
    subscriber.subscribe("t", 1)
    publisher = Client(two.near, "publisher")
    two.far.mesh_port = free_port()

    def move(config: dict[str, Any]) -> None:
        config["mesh"]["listen"] = [f"tcp/127.0.0.1:{two.far.mesh_port}"]
        config["node"]["region"] = "elsewhere"

    rewrite(two.far, move)
    reread(two.far, "changed: node.region, mesh.listen")
    connect(two.near, two.far)
    await_crossing(publisher, subscriber, "t")
    assert "node far of region elsewhere is there" in two.near.log.read_text()
    assert publisher.disconnected == subscriber.disconnected == []


def test_bad_file_changes_nothing(two: Two) -> None:
    subscriber = Client(two.far, "subscriber")
    subscriber.subscribe("t", 1)
    publisher = Client(two.near, "publisher")
    connect(two.near, two.far)
    await_crossing(publisher, subscriber, "t")
    file = two.near.folder / "node.yaml"
    good = file.read_text()

    file.write_text("mesh: {mode: hub}\n")
    reread(two.near, "the configuration stays as it was")
    assert f"{file}:1: mesh.mode: 'hub'" in two.near.log.read_text()

    taken = two.far.mqtt_port
    rewrite(two.near, lambda config: config["mesh"].update(listen=[f"tcp/127.0.0.1:{taken}"]))
    told = reload(two.near)
    assert (told.returncode, told.stdout) == (1, "")
    mistake = f"the mesh cannot listen on tcp/127.0.0.1:{taken}: the port is taken"
    assert told.stderr.splitlines() == [mistake, "geomq: the configuration of node near stays as it was"]
    assert f"the configuration stays as it was: {mistake}" in two.near.log.read_text()
    file.write_text(good)
    reread(two.near, "changed: nothing")
    subscriber.received.clear()
    await_crossing(publisher, subscriber, "t")
    assert publisher.disconnected == subscriber.disconnected == []


def test_rules_stay_where_the_mesh_cannot_be_changed(two: Two) -> None:
    subscriber = Client(two.far, "subscriber")
    subscriber.subscribe("t", 1)
    publisher = Client(two.near, "publisher")
    steps = {"format": "text", "steps": [{"action": "redact", "with": "***"}]}
    mask = {"name": "mask", "topics": ["t"], "module": "rules", "config": steps}
    rewrite(two.near, lambda config: config.update(plugins={"egress": [mask]}))
    connect(two.near, two.far)

    def crossed() -> bool:
        publisher.publish("t", b"secret")
        return bool(subscriber.received)

    wait_for(crossed, "a message crosses")
    taken = two.far.mqtt_port

    def unmask(config: dict[str, Any]) -> None:
        config["mesh"]["listen"] = [f"tcp/127.0.0.1:{taken}"]
        config["plugins"] = {}

    rewrite(two.near, unmask)
    reread(two.near, "the configuration stays as it was: the mesh cannot listen")
    subscriber.received.clear()
    wait_for(crossed, "a message crosses again")
    assert set(subscriber.payloads()) == {b"***"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path, "one", "reload", mesh={"enabled": False})
    node.start()
    yield node
    node.stop()


def test_lock_outs_begin_by_new_terms(node: NodeProcess) -> None:
    users = node.folder / "users"
    write_users(users, {"joe": make_user("secret")})
    node.stop()
    node.config.update(access={"users": str(users)}, limits={"ban_after": 0})
    node.start()

    def login(password: str) -> int:
        reasons: list[int] = []
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        client.username_pw_set("joe", password)
        client.on_connect = lambda _c, _d, _f, reason, _p: reasons.append(reason.value)
        client.connect("127.0.0.1", node.mqtt_port)
        client.loop_start()
        wait_for(lambda: reasons, "CONNACK")
        client.disconnect()
        client.loop_stop()
        return reasons[0]

    assert [login("wrong"), login("wrong"), login("secret")] == [0x86, 0x86, 0]
    rewrite(node, lambda config: config["limits"].update(ban_after=1, disk_reserve="1MiB"))
    reread(node, "changed: limits.ban_after, limits.disk_reserve")
    assert [login("wrong"), login("secret")] == [0x86, 0x8A]


def test_limits_hold_for_those_that_come_and_the_rest_is_named(node: NodeProcess) -> None:
    early = Client(node, "early", paho.MQTTv5)

    def change(config: dict[str, Any]) -> None:
        config["mqtt"]["max_connections"] = 1
        config["node"]["name"] = "two"
        config["listeners"][0]["bind"] = f"127.0.0.1:{free_port()}"

    rewrite(node, change)
    told = reload(node)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == (
        f"node one has read {node.folder}/node.yaml again\n"
        "changed: mqtt.max_connections\n"
        "only a restart changes node.name, listeners\n"
    )
    assert "changed: mqtt.max_connections" in node.log.read_text()
    assert "only a restart changes node.name, listeners" in node.log.read_text()
    late = Client(node, "late", paho.MQTTv5)
    wait_for(lambda: late.disconnected, "there is no room for another client")
    early.subscribe("t")
    assert early.disconnected == []
    assert node.stop() == 0
    told = reload(node)
    assert told.returncode == 1
    assert told.stderr.startswith("geomq: no node runs that has the folder")


def test_mistake_that_only_the_node_sees_is_told_with_its_line(node: NodeProcess) -> None:
    """What the node finds in its file counts: here with a variable that the command has and the node has not."""
    file = node.folder / "node.yaml"
    file.write_text(f"node: {{name: one, data: {node.folder}/data}}\nmqtt:\n  max_connections: many\n")
    environment = {"GEOMQ_MQTT__MAX_CONNECTIONS": "5"}
    told = geomq("reload", "--config", file, environment=environment, timeout=60)
    assert told.returncode == 1
    mistake, end = told.stderr.splitlines()
    assert mistake.startswith(f"{file}:3: mqtt.max_connections: 'many'")
    assert end == "geomq: the configuration of node one stays as it was"


def test_rule_that_does_not_start_is_told_each_time(node: NodeProcess) -> None:
    module = node.folder / "rule.wasm"
    module.write_bytes(b"broken")
    rule = {"name": "mine", "topics": ["t"], "module": str(module)}
    rewrite(node, lambda config: config.update(plugins={"ingress": [rule]}))
    for changed in ("plugins.ingress", "nothing"):
        told = reload(node)
        assert (told.returncode, told.stdout.splitlines()[1]) == (3, f"changed: {changed}")
        assert told.stderr.startswith("geomq: rule mine is not at work as it should be: not a wasm module")
    write(module, says(b"x"))
    rule["topics"] = ["u"]
    rewrite(node, lambda config: config.update(plugins={"ingress": [rule]}))
    told = reload(node)
    assert (told.returncode, told.stderr) == (0, "")
    write(module, b"broken again")
    wait_for(lambda: "rule mine stays as it was" in node.log.read_text(), "the node has tried")
    told = reload(node)
    assert told.returncode == 3, "the one before is at work still"
    assert "rule mine is not at work as it should be: not a wasm module" in told.stderr


def test_path_that_is_nearly_a_word_is_asked_about_in_the_log(node: NodeProcess) -> None:
    steps = [{"action": "sample", "one_in": 2, "by": ["cleint"]}]
    rule = {"name": "calm", "topics": ["t"], "module": "rules", "config": {"steps": steps}}
    rewrite(node, lambda config: config.update(plugins={"ingress": [rule]}))
    assert reload(node).returncode == 0
    words = (
        "plugins.ingress[0].config.steps[0].by[0]: 'cleint' is a path of the payload; did you mean 'client'?"
    )
    assert node.log.read_text().count(words) == 1
    assert node.stop() == 0
    node.start()
    wait_for(lambda: node.log.read_text().count(words) == 2, "a start asks, too")


def test_node_that_cannot_be_asked_is_told_by_signal(node: NodeProcess) -> None:
    os.kill(node.pid, signal.SIGSTOP)
    told = reload(node, "--timeout", "0.3")
    os.kill(node.pid, signal.SIGCONT)
    late = "geomq: the node has not said within 0.3 s what came of it: its log will tell\n"
    assert (told.returncode, told.stdout, told.stderr) == (3, "", late)
    (node.folder / "data" / "node.sock").unlink()
    rewrite(node, lambda config: config["mqtt"].update(max_connections=7))
    told = reload(node)
    assert told.returncode == 3
    assert told.stderr == (
        f"geomq: the node was told by SIGHUP, for its folder {node.folder}/data has nobody to ask "
        "(No such file or directory): its log will tell\n"
    )
    wait_for(lambda: "changed: mqtt.max_connections" in node.log.read_text(), "the node has read it")
