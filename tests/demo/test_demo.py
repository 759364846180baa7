"""The demonstration, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.nodes import ROOT
from tests.ports import free_port

COMMAND = [sys.executable, "-m", "broker", "demo", "--every", "0.5"]
REGIONS = ("eu", "us", "asia")
ROW = re.compile(r" (eu|us|asia) +\d+ +[1-9][\d,]* +0 +[1-9][\d,]* +[1-9][\d,]* *$", re.MULTILINE)
"""Noise dropped, masked, failures, messages stored, bytes."""


class Demo:
    """The repository's three nodes, but for their ports and folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "config"
        self.folder.mkdir()
        texts = {region: (ROOT / "config" / f"{region}.yaml").read_text() for region in REGIONS}
        fixed = sorted({port for text in texts.values() for port in re.findall(r"127\.0\.0\.1:(\d+)", text)})
        own = {port: str(free_port()) for port in fixed}
        self.port = own["18831"]
        for region, text in texts.items():
            moved = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: own[port[0]], text)
            (self.folder / f"{region}.yaml").write_text(moved)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [*COMMAND, "--config", str(self.folder)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as demo:
            try:
                yield demo
            finally:
                # Its nodes would outlive it, were it killed.
                demo.terminate()


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GEOMQ_")}
    return {**kept, "COLUMNS": "140", **more}


@pytest.fixture
def regions(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The last view, without a terminal, once there is something of everything to show."""
    with Demo(tmp_path_factory.mktemp("demo")).running() as demo:
        read_until(demo, is_complete)
        demo.send_signal(signal.SIGINT)
        seen, errors = demo.communicate(timeout=20)
    assert demo.returncode == 0, seen + errors
    assert errors == ""
    return seen[seen.rindex("GeoMQ 3 regions") :]


def is_complete(view: str) -> bool:
    return len(re.findall(r"\d+\.\d / \d+\.\d", view)) == 9 and len(ROW.findall(view)) == 3


def test_nodes_and_links(shown: str) -> None:
    for node, others in (("eu", ("us", "asia")), ("us", ("eu", "asia")), ("asia", ("eu", "us"))):
        row = next(line for line in shown.splitlines() if re.match(rf" {node}  .*127\.0\.0\.1", line))
        assert " up " in row
        for other in others:
            assert f"✓ {other}" in row


def test_latencies_of_every_pair(shown: str) -> None:
    assert len(re.findall(r"\d+\.\d / \d+\.\d", shown)) == 9


def test_raw_beside_masked(shown: str) -> None:
    assert re.search(r"driver\.phone +\+[\d ]+ +\*\*\*", shown)
    assert re.search(r"driver\.name +\S.*? +[0-9a-f]{16}", shown)
    assert "personal values seen abroad: 0" in re.sub(r"\s+", " ", shown)


def test_rules_and_stores(shown: str) -> None:
    assert ROW.findall(shown) == list(REGIONS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_all_of_it(regions: Demo, number: signal.Signals) -> None:
    with regions.running() as demo:
        parent = psutil.Process(demo.pid)
        deadline = time.monotonic() + 20
        while len(parent.children()) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        nodes = parent.children()
        demo.send_signal(number)
        output, _ = demo.communicate(timeout=20)
    assert demo.returncode == 0
    assert len(nodes) == 3
    assert not any(node.is_running() for node in nodes)
    assert output.endswith("All nodes and devices are stopped.\n")


def test_single_broker(tmp_path: Path) -> None:
    port = free_port()
    single = environment(GEOMQ_LISTENERS__0__BIND=f"127.0.0.1:{port}", GEOMQ_NODE__DATA=str(tmp_path))
    with subprocess.Popen(
        [*COMMAND, "--nodes", "1"],
        cwd=ROOT,
        env=single,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert f"mosquitto_sub -p {port}" in demo.stdout.readline()
        assert "serves MQTT" in demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(20) == 0


@pytest.mark.parametrize(
    ("taken", "words"), [("port", "the port is taken"), ("folder", "belongs to another node that is running")]
)
def test_what_another_node_has_is_told(regions: Demo, tmp_path: Path, taken: str, words: str) -> None:
    own = {"GEOMQ_NODE__DATA": str(tmp_path / "own")} if taken == "port" else {}
    with subprocess.Popen(
        [sys.executable, "-m", "broker", "run", "--config", str(regions.folder / "eu.yaml")],
        cwd=ROOT,
        env=environment() | own,
        stderr=subprocess.PIPE,
    ) as node:
        try:
            assert node.stderr is not None
            while b"serves MQTT" not in node.stderr.readline():
                assert node.poll() is None
            with regions.running() as demo:
                said, _ = demo.communicate(timeout=30)
        finally:
            node.terminate()
            node.communicate(timeout=20)
    assert demo.returncode == 1
    assert "node eu: " in said
    assert words in " ".join(said.split())


def test_killed_node_comes_back(regions: Demo) -> None:
    with regions.running() as demo:
        view = read_until(demo, has(r"✓ us.*✓ asia"))
        os.kill(int(re.findall(r"kill -9\s+(\d+)", view)[0]), signal.SIGKILL)
        read_until(demo, has(r"node eu was killed \(signal 9\); it comes back in 3 s"))
        read_until(demo, has(r"node eu is started again"))
        read_until(demo, has(rf" eu +127\.0\.0\.1:{regions.port} +up .*✓ us.*✓ asia"))
        demo.send_signal(signal.SIGINT)
        seen, _ = demo.communicate(timeout=20)
    assert demo.returncode == 0
    assert "personal values seen abroad: 0" in re.sub(r"\s+", " ", seen)


def has(pattern: str) -> Callable[[str], bool]:
    return lambda view: bool(re.search(pattern, view))


def read_until(demo: subprocess.Popen[str], condition: Callable[[str], bool]) -> str:
    """The first view of which the condition is true. It has come when the next one begins."""
    assert demo.stdout is not None
    deadline = time.monotonic() + 40
    seen = view = ""
    for line in demo.stdout:
        seen += line
        if line.startswith("GeoMQ "):
            if condition(view):
                return view
            view = ""
        view += line
        if time.monotonic() > deadline:
            break
    raise AssertionError(f"what is waited for is not in:\n{seen}")
