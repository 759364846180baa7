"""`geomq status` of a single broker: no mesh, no credentials, a socket that its own user may open."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from broker.observe.node_socket import Answer, NoAnswer, NodeSocket, ask_node
from tests.end_to_end.nodes import Client, NodeProcess, geomq


def status(config: Path | None, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--config", str(config)] if config is not None else []
    return geomq("status", *arguments, environment=environment)


def answering(answer: dict[str, Any]) -> Answer:
    async def tell() -> dict[str, Any]:
        return answer

    return tell


def single(folder: Path, **sections: Any) -> NodeProcess:
    return NodeProcess(folder, "alone", "unused", mesh={"enabled": False}, **sections)


@pytest.mark.parametrize("durability", ["commit", "memory"])
def test_single_broker(tmp_path: Path, durability: str) -> None:
    node = single(tmp_path, durability=durability, access={"anonymous": "loopback"})
    node.start()
    client = Client(node, "c")
    answer = status(node.folder / "node.yaml")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)["alone"]
    assert (found["clients"], found["mesh"]) == (1, None)
    assert found["counters"]["connections_accepted"] == 1
    sock = node.folder / "data" / "node.sock"
    assert stat.S_IMODE(sock.stat().st_mode) == 0o600
    # What devices said is nobody else's concern, in the queues neither.
    assert [path for path in (node.folder / "data").iterdir() if path.stat().st_mode & 0o077] == []
    client.close()
    node.kill()
    answer = status(node.folder / "node.yaml")
    assert answer.returncode == 1
    assert answer.stderr == (
        f"geomq: no node runs that has the folder {node.folder}/data: "
        "name the node's file with --config, or any node of a mesh with --connect\n"
    )
    node.start()
    assert status(node.folder / "node.yaml").returncode == 0, "what a killed node leaves is in nobody's way"
    assert node.stop() == 0
    assert not sock.exists()


def test_node_without_a_folder_serves_all_the_same(tmp_path: Path) -> None:
    node = single(tmp_path, durability="memory")
    (node.folder / "data").write_text("no folder\n")
    node.start()
    Client(node, "c").close()
    assert "`geomq status` and `geomq reload` cannot reach this node: node.data: " in node.log.read_text()
    assert status(node.folder / "node.yaml").returncode == 1
    assert node.stop() == 0


async def test_folder_with_a_long_name_and_a_late_answer(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    large = {"node": "n", "text": "x" * 5_000_000}
    local = NodeSocket(folder, {"status": answering(large)})
    await local.open()
    assert await asyncio.to_thread(ask_node, folder, "status", 10.0) == large
    local.close()
    with pytest.raises(OSError, match="No such file"):
        ask_node(folder, "status", 1.0)


async def test_questions_without_an_answer(tmp_path: Path) -> None:
    never = asyncio.Event()

    async def late() -> dict[str, Any]:
        await never.wait()
        return {}

    local = NodeSocket(tmp_path, {"late": late, "soon": answering({"n": 1})})
    await local.open()
    for unknown in ("weather", ""):
        with pytest.raises(NoAnswer):
            await asyncio.to_thread(ask_node, tmp_path, unknown, 10.0)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(ask_node, tmp_path, "late", 0.2)
    assert await asyncio.to_thread(ask_node, tmp_path, "soon", 10.0) == {"n": 1}, "others need not wait"
    never.set()
    local.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's place")
async def test_others_may_not_ask() -> None:
    script = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); "
        "print(socket.socket(socket.AF_UNIX).connect_ex(sys.argv[1]))"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        local = NodeSocket(folder, {"status": answering({"node": "n"})})
        await local.open()
        done = subprocess.run(
            [sys.executable, "-c", script, str(folder / "node.sock")],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        local.close()
    assert done.stdout.strip() == str(errno.EACCES), done.stderr
