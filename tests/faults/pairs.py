"""Two brokers and the link between them: the publishers are at the near one, the subscribers at the far one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

import yaml

from tests.chaos.brokers import GeoMq, Mosquitto, Victim
from tests.end_to_end.nodes import free_port
from tests.faults.links import Link

FAKETIME = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "faketime" / "libfaketime.so.1"
"""Debian's package libfaketime."""
_BRIDGE = """
connection bridge
address {host}:{port}
topic # out 2
bridge_protocol_version mqttv311
cleansession false
notifications false
restart_timeout 1
keepalive_interval 5
"""
_DISK_MIB = 16
_BLOCK = bytes(4096)


class MeshNode(GeoMq):
    """GeoMQ with a mesh, in a network namespace where ``prefix`` says so."""

    def __init__(self, folder: Path, environment: dict[str, str], prefix: tuple[str, ...] = ()) -> None:
        folder.mkdir()
        super().__init__(folder, environment)
        self.prefix = prefix
        self.sections: dict[str, Any] = {}

    def _command(self) -> list[str]:
        command = super()._command()
        path = Path(command[-1])
        settings = yaml.safe_load(path.read_text())
        settings["listeners"] = [{"type": "tcp", "bind": f"0.0.0.0:{self.port}", "anonymous": True}]
        settings["mqtt"]["sys_interval"] = "1s"
        path.write_text(yaml.safe_dump(settings | self.sections))
        return [*self.prefix, *command]


class BridgedMosquitto(Mosquitto):
    """Mosquitto, with a bridge where ``bridge`` has lines of one."""

    def __init__(self, folder: Path, environment: dict[str, str], prefix: tuple[str, ...] = ()) -> None:
        folder.mkdir()
        super().__init__(folder, environment)
        self.prefix = prefix
        self.bridge = ""

    def _command(self) -> list[str]:
        command = super()._command()
        path = Path(command[-1])
        text = path.read_text().replace(" 127.0.0.1\n", " 0.0.0.0\n")
        path.write_text(text + self.bridge)
        return [*self.prefix, *command]


class Clock:
    """The near broker's, which can be set."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.environment: dict[str, str] = {}
        if FAKETIME.exists():
            self.environment = {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(self._file),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self.set(0)

    def set(self, seconds: int) -> None:
        """So far ahead of the world's, from the next second on."""
        self._file.write_text(f"+{seconds}\n")


class Disk:
    """The near broker's, which can be full: a small file system, or where that is not permitted a limit."""

    def __init__(self, broker: Victim) -> None:
        self._broker = broker
        self._filler = broker.data / "filler"
        self._mounted = False

    def mount(self) -> None:
        """Before the broker starts."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(self._broker.data)]
        self._mounted = os.geteuid() == 0 and subprocess.run(command, check=False).returncode == 0

    def unmount(self) -> None:
        """After the broker has ended."""
        if self._mounted:
            subprocess.run(["umount", str(self._broker.data)], check=True)

    def fill(self) -> None:
        """No room is left."""
        if not self._mounted:
            largest = max(file.stat().st_size for file in self._broker.data.iterdir() if file.is_file())
            self._limit(largest)
            return
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as filler:
            while filler.write(_BLOCK):
                pass

    def free(self) -> None:
        """There is room again."""
        if self._mounted:
            self._filler.unlink()
        else:
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        resource.prlimit(self._broker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Pair:
    """``kind`` is GeoMQ or Mosquitto; ``mesh`` are settings of the near node's mesh."""

    def __init__(
        self, kind: str, folder: Path, link: Link, mesh: dict[str, Any], setting_clock: bool
    ) -> None:
        self.is_geomq = kind == "GeoMQ"
        self.link = link
        self.clock = Clock(folder)
        environment = self.clock.environment if setting_clock else {}
        make = MeshNode if self.is_geomq else BridgedMosquitto
        self.near: Victim = make(folder / "near", environment)
        self.far: Victim = make(folder / "far", {}, link.far_prefix)
        self.far.host = link.far_host
        self.disk = Disk(self.near)
        self._mesh = mesh

    async def start(self, small_disk: bool) -> None:
        """Both brokers and the link."""
        near, far, link = self.near, self.far, self.link
        if small_disk:
            self.disk.mount()
        if isinstance(near, MeshNode) and isinstance(far, MeshNode):
            mesh_port = free_port()
            link.start(mesh_port)
            common = {"enabled": True, "namespace": f"faults-{uuid.uuid4().hex[:8]}"}
            listen = [f"tcp/{link.far_bind}:{mesh_port}"]
            far.sections = {"node": _node("far", far), "mesh": common | {"listen": listen}}
            near.sections = {
                "node": _node("near", near),
                "mesh": common | {"listen": [], "connect": [f"tcp/{link.host}:{link.port}"]} | self._mesh,
            }
        elif isinstance(near, BridgedMosquitto):
            link.start(far.port)
            near.bridge = _BRIDGE.format(host=link.host, port=link.port)
        await far.start()
        await near.start()

    async def stop(self) -> None:
        """Everything, whatever state it is in."""
        for broker in (self.near, self.far):
            if broker.pid:
                self.wake(broker)
                await asyncio.to_thread(broker.stop)
        self.link.stop()
        self.disk.unmount()

    def near_says(self, text: str) -> bool:
        """Whether the near broker's log has this; Mosquitto's is not asked."""
        return not self.is_geomq or text in self.near.log.read_text()

    def freeze(self, broker: Victim) -> None:
        """SIGSTOP."""
        os.kill(broker.pid, signal.SIGSTOP)

    def wake(self, broker: Victim) -> None:
        """SIGCONT, also to one that runs or has ended."""
        if broker.is_running:
            os.kill(broker.pid, signal.SIGCONT)


def _node(name: str, broker: Victim) -> dict[str, str]:
    return {"name": name, "region": name, "data": str(broker.data)}
