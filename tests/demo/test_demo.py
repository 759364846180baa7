"""The demonstration, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.nodes import ROOT
from tests.ports import free_port

COMMAND = [sys.executable, "-m", "broker", "demo"]


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GEOMQ_")}
    return {**kept, "COLUMNS": "140", **more}


@pytest.fixture(scope="module")
def shown() -> str:
    """What ten seconds of it show, without a terminal."""
    result = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment(GEOMQ_DEMO_SECONDS="10"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return result.stdout[result.stdout.rindex("GeoMQ 3 regions") :]


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
    """Noise dropped, masked, failures, messages stored, bytes."""
    rows = re.findall(r" (eu|us|asia) +\d+ +[1-9][\d,]* +0 +[1-9][\d,]* +[1-9][\d,]* *$", shown, re.MULTILINE)
    assert rows == ["eu", "us", "asia"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_all_of_it(number: signal.Signals) -> None:
    with subprocess.Popen(COMMAND, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as demo:
        parent = psutil.Process(demo.pid)
        deadline = time.monotonic() + 20
        while len(parent.children()) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        nodes = parent.children()
        demo.send_signal(number)
        try:
            output, _ = demo.communicate(timeout=20)
        finally:
            demo.kill()
    assert demo.returncode == 0
    assert len(nodes) == 3
    assert not any(node.is_running() for node in nodes)
    assert output.endswith("All nodes and devices are stopped.\n")


def test_single_broker() -> None:
    port = free_port()
    single = environment(GEOMQ_LISTENERS__0__BIND=f"127.0.0.1:{port}")
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


@pytest.mark.parametrize("taken", ["port", "folder"])
def test_what_another_node_has_is_told(taken: str, tmp_path: Path) -> None:
    own = {"GEOMQ_NODE__DATA": str(tmp_path)} if taken == "port" else {}
    with subprocess.Popen(
        [sys.executable, "-m", "broker", "run", "--config", "config/eu.yaml"],
        cwd=ROOT,
        env=environment() | own,
        stderr=subprocess.PIPE,
    ) as node:
        try:
            assert node.stderr is not None
            while b"serves MQTT" not in node.stderr.readline():
                assert node.poll() is None
            result = subprocess.run(
                COMMAND, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=30, check=False
            )
        finally:
            node.terminate()
            node.communicate(timeout=20)
    assert result.returncode == 1
    assert "node eu: " in result.stdout
    assert taken in result.stdout


def test_killed_node_comes_back() -> None:
    with subprocess.Popen(COMMAND, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as demo:
        try:
            read_until(demo, r"✓ us.*✓ asia")
            pid = int(re.findall(r"kill -9\s+(\d+)", read_until(demo, r"kill -9\s+\d+"))[-1])
            os.kill(pid, signal.SIGKILL)
            read_until(demo, r"node eu was killed \(signal 9\); it comes back in 3 s")
            read_until(demo, r"node eu is started again")
            read_until(demo, r" eu +127\.0\.0\.1:18831 +up .*✓ us.*✓ asia")
            demo.send_signal(signal.SIGINT)
            seen, _ = demo.communicate(timeout=20)
        finally:
            demo.kill()
    assert demo.returncode == 0
    assert "personal values seen abroad: 0" in re.sub(r"\s+", " ", seen)


def read_until(demo: subprocess.Popen[str], pattern: str) -> str:
    """What comes up to a line with the pattern; the view is printed every five seconds."""
    assert demo.stdout is not None
    deadline = time.monotonic() + 40
    seen = ""
    for line in demo.stdout:
        seen += line
        if re.search(pattern, seen[-400:]):
            return seen
        if time.monotonic() > deadline:
            break
    raise AssertionError(f"{pattern} is not in:\n{seen}")
