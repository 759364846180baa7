"""The brokers that are killed: each keeps its data in a folder, and is started there again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests.end_to_end.nodes import ROOT
from tests.ports import free_port

_MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {data}/
autosave_interval 1
max_queued_messages 0
max_inflight_messages 0
{user}
"""


class Victim:
    """A broker that dies a sudden death, again and again."""

    host = "127.0.0.1"
    """Where its clients find it."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        self.port = free_port()
        self.log = folder / "log"
        self._folder = folder
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("GEOMQ_")}
        self._environment |= environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now, 0 for none."""
        return self._process.pid if self._process is not None else 0

    @property
    def is_running(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None and self._process.poll() is None

    def _command(self) -> list[str]:
        raise NotImplementedError

    async def start(self) -> None:
        """Start, and wait until it accepts connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        async with asyncio.timeout(60):
            while not self._accepts():
                assert self._process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.01)

    def _accepts(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((self.host, self.port)) == 0

    def kill(self) -> None:
        """SIGKILL: no farewell, no flush."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self) -> None:
        """SIGTERM, whatever it says."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)


class GeoMq(Victim):
    """GeoMQ with `durability: commit`."""

    queue_max_messages = 1_000_000

    def _command(self) -> list[str]:
        path = self._folder / "node.yaml"
        settings = {
            "node": {"name": "victim", "data": str(self.data)},
            "listeners": [{"type": "tcp", "bind": f"127.0.0.1:{self.port}"}],
            "mqtt": {"queue_max_messages": self.queue_max_messages, "queue_max_bytes": "1GB"},
            "limits": {"queue_total_bytes": 0},
            "mesh": {"enabled": False},
        }
        path.write_text(yaml.safe_dump(settings))
        return [sys.executable, "-m", "broker", "run", "--config", str(path)]


class Mosquitto(Victim):
    """Mosquitto with persistence, saving each second: as safe as it can be made."""

    def _command(self) -> list[str]:
        path = self._folder / "mosquitto.conf"
        user = "user root" if os.geteuid() == 0 else ""
        path.write_text(_MOSQUITTO.format(port=self.port, data=self.data, user=user))
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        return [program, "-c", str(path)]
