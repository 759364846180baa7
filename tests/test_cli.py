"""The command `geomq`, as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end import nodes
from tests.end_to_end.nodes import NodeProcess
from tests.ports import free_port


def geomq(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """With this environment only."""
    return nodes.geomq(*arguments, environment=environment)


def test_version() -> None:
    assert geomq("version").stdout.strip().count(".") == 2


def test_config_check_and_schema(tmp_path: Path) -> None:
    assert "node eu, region eu" in geomq("config", "check", "config/eu.yaml").stdout
    bad = tmp_path / "bad.yaml"
    bad.write_text("mesh: {mode: hub}")
    result = geomq("config", "check", str(bad))
    assert result.returncode == 1
    assert f"{bad}:1: mesh.mode: 'hub': allowed: 'router', 'peer', 'client'" in result.stderr
    assert "Traceback" not in result.stderr
    assert json.loads(geomq("config", "schema").stdout)["properties"]["mesh"]


def test_taken_port_is_a_clear_message() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        bind = f"127.0.0.1:{sock.getsockname()[1]}"
        result = geomq("run", GEOMQ_LISTENERS=f"[{{bind: '{bind}'}}]")
    assert result.returncode == 1
    assert f"geomq: cannot listen on {bind}: another program has this port" in result.stderr
    assert "Traceback" not in result.stderr


def test_bad_configuration_does_not_start() -> None:
    result = geomq("run", GEOMQ_MESH__MODE="hub")
    assert result.returncode == 1
    assert result.stderr.startswith("GEOMQ_MESH__MODE: mesh.mode: 'hub'")


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            "access: {amqtt: {amqtt.plugins.authentication.FileAuthPlugin: {password_file: /gone}}}",
            "access.amqtt: amqtt.plugins.authentication.FileAuthPlugin: [Errno 2] No such file or directory: '/gone'",
        ),
        (
            "listeners: [{bind: '127.0.0.1:0'}, {name: b, bind: '127.0.0.1:0', access: {amqtt: "
            "{amqtt.contrib.jwt.UserAuthJwtPlugin: {secret_key: hunter2}}}}]",
            "listeners[1].access.amqtt: amqtt.contrib.jwt.UserAuthJwtPlugin: user_claim is required; allowed keys:",
        ),
        (
            "listeners: [{bind: '127.0.0.1:0'}, {name: b, bind: '127.0.0.1:0', access: {acl: gone}}]",
            "listeners[1].access.acl: ",
        ),
        (
            "listeners: [{name: front, type: tls, bind: '127.0.0.1:0', tls: {certificate: c.pem, key: k.pem}}]",
            "listener front: tls.certificate: ",
        ),
    ],
)
def test_mistakes_at_the_start_say_where(tmp_path: Path, sections: str, told: str) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(sections)
    result = geomq("run", "--config", str(file))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"geomq: {told}")
    assert "hunter2" not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    node = NodeProcess(tmp_path, "n", "cli", mesh={"enabled": False})
    node.start()
    assert node.stop(number) == 0
    assert "stops" in node.log.read_text()
    assert "Traceback" not in node.log.read_text()


def test_nobody_to_ask() -> None:
    result = geomq("status", "--connect", f"tcp/127.0.0.1:{free_port()}", "--timeout", "1")
    assert result.returncode == 1
    assert result.stderr.startswith("geomq: no node answers at tcp/127.0.0.1:")
