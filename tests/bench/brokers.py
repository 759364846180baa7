"""The brokers under load: processes of their own, on loopback ports of their own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from tests.net.certificates import LOCALHOST, Authority
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]

MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
"""
PERSISTENCE = """
persistence true
persistence_location {data}/
autosave_interval 1
user {user}
"""
MOSQUITTO_TLS = """
listener {tls} 127.0.0.1
certfile {certificate}
keyfile {key}
listener {ws}
protocol websockets
user {user}
"""
# Its WebSocket listeners take no address to bind to; its user has to be one that can read the key.

ROOMY: dict[str, Any] = {
    "mqtt": {"queue_max_messages": 2_000_000, "queue_max_bytes": "4GB"},
    "limits": {"queue_total_bytes": 0},
}

BRIDGE = """
connection bridge
address 127.0.0.1:{remote}
topic # out {qos}
bridge_protocol_version mqttv311
cleansession false
notifications false
"""


class Broker:
    """One or more processes, a port to publish to and a port to subscribe at."""

    def __init__(self, publish_port: int, subscribe_port: int, processes: list[psutil.Popen]) -> None:
        self.publish_port = publish_port
        self.subscribe_port = subscribe_port
        self.processes = processes
        self.ports: list[int] = []
        """One of each process, where they are a line."""
        self.mesh = self.namespace = ""
        """Where the mesh of a line can be asked, and as what."""

    def stop(self, number: int) -> None:
        """End one of the processes."""
        self.processes[number].terminate()
        self.processes[number].wait(15)

    def start_again(self, number: int) -> None:
        """Start one of the processes again; does not wait until it answers."""
        command = self.processes[number].args
        self.processes[number] = psutil.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def cpu(self) -> float:
        """Processor seconds of all processes so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    def written(self) -> int:
        """Bytes that the first process had written to disk so far."""
        return int(self.processes[0].io_counters().write_bytes)

    def resident(self) -> int:
        """Bytes of memory of the first process."""
        return int(self.processes[0].memory_info().rss)


class Outcome(NamedTuple):
    """One run of the load generator."""

    rate: float
    """Messages delivered a second."""
    cpu: float
    """Microseconds of the broker's processes for each of them."""
    p50: float
    p99: float


_START_SECONDS = 600.0
"""A broker that ends is noticed at once; one that reads back a million messages takes its time."""


def _await_port(port: int, process: psutil.Popen) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"a broker ended: {process.args}")
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"no broker answers on port {port} within {_START_SECONDS:.0f} s")


@contextmanager
def _running(commands: list[tuple[list[str], int]], publish: int, subscribe: int) -> Iterator[Broker]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GEOMQ_")}
    processes: list[psutil.Popen] = []
    try:
        for command, port in commands:
            process = psutil.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            processes.append(process)
            _await_port(port, process)
        yield Broker(publish, subscribe, processes)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(15)


def mosquitto_command() -> str:
    """Where the peer is; ends the run where it is not installed."""
    found = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    if not Path(found).exists():
        raise SystemExit("mosquitto is missing: apt-get install mosquitto (make bench does it as root)")
    return found


@contextmanager
def mosquitto(folder: Path, persistence: bool = False) -> Iterator[Broker]:
    port = free_port()
    path = folder / f"mosquitto-{port}.conf"
    text = MOSQUITTO.format(port=port)
    if persistence:
        data = folder / f"mosquitto-{port}"
        data.mkdir()
        text += PERSISTENCE.format(data=data, user=getpass.getuser())
    path.write_text(text)
    with _running([([mosquitto_command(), "-c", str(path)], port)], port, port) as broker:
        yield broker


@contextmanager
def mosquitto_bridge(folder: Path, qos: int, hops: int = 1) -> Iterator[Broker]:
    """A line of brokers, each bridged to the next one; published at one end, subscribed at the other."""
    ports = [free_port() for _ in range(hops + 1)]
    commands = []
    for position, port in reversed(list(enumerate(ports))):
        path = folder / f"bridged-{port}.conf"
        text = MOSQUITTO.format(port=port)
        if position < hops:
            text += BRIDGE.format(remote=ports[position + 1], qos=qos)
        path.write_text(text)
        commands.append(([mosquitto_command(), "-c", str(path)], port))
    with _running(commands, ports[0], ports[-1]) as broker:
        time.sleep(1.5)
        yield broker


class Doors(NamedTuple):
    """A broker's ports beside the plain one, and the certificate of the TLS one."""

    tls: int
    ws: int
    certificate: Path
    key: Path


def _doors(folder: Path) -> Doors:
    folder = folder / f"doors-{free_port()}"
    folder.mkdir()
    pair = Authority(folder).issue("server", *LOCALHOST)
    return Doors(free_port(), free_port(), pair.certificate, pair.key)


@contextmanager
def mosquitto_doors(folder: Path, door: str) -> Iterator[Broker]:
    """Mosquitto with TLS and WebSocket listeners; the broker's ports are those of the door."""
    port, doors = free_port(), _doors(folder)
    path = folder / f"mosquitto-{port}.conf"
    path.write_text(
        MOSQUITTO.format(port=port) + MOSQUITTO_TLS.format(user=getpass.getuser(), **doors._asdict())
    )
    door_port = getattr(doors, door)
    with _running([([mosquitto_command(), "-c", str(path)], door_port)], door_port, door_port) as broker:
        yield broker


@contextmanager
def geomq_doors(folder: Path, door: str) -> Iterator[Broker]:
    """GeoMQ with TLS and WebSocket listeners; the broker's ports are those of the door."""
    doors = _doors(folder)
    tls = {"certificate": str(doors.certificate), "key": str(doors.key)}
    config = {
        "node": {"name": "bench", "data": f"data-{doors.tls}"},
        "listeners": [
            {"type": "tls", "bind": f"127.0.0.1:{doors.tls}", "tls": tls},
            {"type": "ws", "bind": f"127.0.0.1:{doors.ws}"},
        ],
        "durability": "memory",
    }
    port = getattr(doors, door)
    with _running([(_geomq_command(folder, config), port)], port, port) as broker:
        yield broker


def _geomq_command(folder: Path, config: dict[str, Any]) -> list[str]:
    path = folder / f"{config['node']['name']}-{free_port()}.yaml"
    path.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "broker", "run", "--config", str(path)]


@contextmanager
def geomq(folder: Path, data: Path | None = None, **sections: Any) -> Iterator[Broker]:
    port = free_port()
    config = {
        "node": {"name": "bench", "data": str(data) if data is not None else f"data-{port}"},
        "listeners": [{"bind": f"127.0.0.1:{port}"}],
        **sections,
    }
    with _running([(_geomq_command(folder, config), port)], port, port) as broker:
        yield broker


@contextmanager
def geomq_line(folder: Path, hops: int = 1, durability: str = "commit", **mesh: Any) -> Iterator[Broker]:
    """A line of nodes, each connected to the one before; published at the last, subscribed at the first."""
    ports = [free_port() for _ in range(hops + 1)]
    mesh_ports = [free_port() for _ in ports]
    commands = []
    for position, port in enumerate(ports):
        endpoints = {"listen": [f"tcp/127.0.0.1:{mesh_ports[position]}"]}
        if position:
            endpoints["connect"] = [f"tcp/127.0.0.1:{mesh_ports[position - 1]}"]
        config = {
            "node": {"name": f"n{position}", "region": f"r{position}", "data": f"data-{port}"},
            "listeners": [{"bind": f"127.0.0.1:{port}"}],
            "durability": durability,
            "mesh": {"enabled": True, "namespace": f"bench-{ports[0]}", **endpoints, **mesh},
            **ROOMY,
        }
        commands.append((_geomq_command(folder, config), port))
    with _running(commands, ports[-1], ports[0]) as broker:
        broker.ports = ports
        broker.mesh = f"tcp/127.0.0.1:{mesh_ports[-1]}"
        broker.namespace = f"bench-{ports[0]}"
        time.sleep(1.5)
        yield broker
