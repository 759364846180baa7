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
from tests.faults.links import Link
from tests.ports import free_port

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
    """``kind`` is GeoMQ or Mosquitto; ``mesh`` are settings of the near node's mesh.

    With ``by_way`` the link leads to a third broker, of the far one's region, by way of which the two are joined.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        link: Link,
        mesh: dict[str, Any],
        setting_clock: bool,
        by_way: bool,
    ) -> None:
        self.is_geomq = kind == "GeoMQ"
        self.link = link
        self.clock = Clock(folder)
        environment = self.clock.environment if setting_clock else {}
        make = MeshNode if self.is_geomq else BridgedMosquitto
        self.near: Victim = make(folder / "near", environment)
        self.far: Victim = make(folder / "far", {}, link.far_prefix)
        self.far.host = link.far_host
        self.middle: Victim | None = make(folder / "middle", {}) if by_way else None
        self.disk = Disk(self.near)
        self._mesh = mesh

    async def start(self, small_disk: bool) -> None:
        """The brokers and the link."""
        if small_disk:
            self.disk.mount()
        if self.is_geomq:
            self._join_nodes()
        else:
            self._join_bridges()
        for broker in self.brokers:
            await broker.start()

    @property
    def brokers(self) -> list[Victim]:
        """From the far one to the near one."""
        return [self.far, *([self.middle] if self.middle else []), self.near]

    def _join_nodes(self) -> None:
        link, port = self.link, free_port()
        common = {"enabled": True, "namespace": f"faults-{uuid.uuid4().hex[:8]}"}
        door = {"listen": [f"tcp/{link.far_bind}:{port}"], "connect": []}
        link.start(port)
        _configure("near", self.near, common | _calls(link.host, link.port) | self._mesh)
        if self.middle is None:
            _configure("far", self.far, common | door)
        else:
            _configure("middle", self.middle, common | door)
            _configure("far", self.far, common | _calls("127.0.0.1", port))

    def _join_bridges(self) -> None:
        link, near, middle = self.link, self.near, self.middle
        assert isinstance(near, BridgedMosquitto)
        link.start((middle or self.far).port)
        near.bridge = _BRIDGE.format(host=link.host, port=link.port)
        if isinstance(middle, BridgedMosquitto):
            middle.bridge = _BRIDGE.format(host="127.0.0.1", port=self.far.port)

    async def stop(self) -> None:
        """Everything, whatever state it is in."""
        for broker in self.brokers:
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


def _calls(host: str, port: int) -> dict[str, Any]:
    return {"listen": [], "connect": [f"tcp/{host}:{port}"]}


def _configure(name: str, node: Victim, mesh: dict[str, Any]) -> None:
    assert isinstance(node, MeshNode)
    region = "near" if name == "near" else "far"
    node.sections = {"node": {"name": name, "region": region, "data": str(node.data)}, "mesh": mesh}
