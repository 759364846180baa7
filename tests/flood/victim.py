"""A node under attack, and the well-behaved client whose messages are timed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path

import psutil

from broker.access.users import make_user, write_users
from tests.end_to_end.nodes import ROOT, NodeProcess
from tests.protocol import wire

LIMITS = {
    "max_connections_per_address": 2000,
    "max_half_open": 300,
    "retained_max_bytes": "4MiB",
    "slow_consumer_timeout": "2s",
    "ban_after": 0,
}


class Victim:
    """A node with limits such as a small gateway has."""

    def __init__(self, folder: Path) -> None:
        users = folder / "users"
        write_users(users, {"joe": make_user("secret")})
        self.node = NodeProcess(folder, "victim", "flood", mesh={"enabled": False})
        self.node.config["limits"] = LIMITS
        self.node.config["mqtt"] = {
            "connect_timeout": "5s",
            "retained_max_messages": 20_000,
            "max_packet_size": "1MiB",
            "queue_max_bytes": "4MiB",
        }
        self.node.config["access"] = {"users": str(users)}
        self.node.start()

    @property
    def resident(self) -> int:
        """Bytes of memory that the node holds."""
        return int(psutil.Process(self.node.pid).memory_info().rss)

    def attack(self, name: str, seconds: float) -> subprocess.Popen[bytes]:
        """Begin an attack in a process of its own."""
        command = [sys.executable, "-m", "tests.flood.attacks", name, str(self.node.mqtt_port), str(seconds)]
        return subprocess.Popen(command, cwd=ROOT)


class Device:
    """Publishes to itself at QoS 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> Device:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(wire.connect("device", 4, keep_alive=30) + wire.subscribe(1, [("device/x", 1)]))
        await asyncio.wait_for(reader.readexactly(4 + 5), 10)
        return cls(reader, writer)

    async def latencies(self, seconds: float, pause: float = 0.01) -> list[float]:
        """Seconds from publishing to hearing, message by message, each ``pause`` seconds after the one before.

        Fails where one does not come.
        """
        found: list[float] = []
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            number = number % 60_000 + 1
            packet = wire.publish("device/x", b"payload", 1, number)
            began = time.perf_counter()
            self._writer.write(packet)
            # The message and the PUBACK of our own.
            data = await asyncio.wait_for(self._reader.readexactly(len(packet) + 4), 10)
            found.append(time.perf_counter() - began)
            message = next(answer for answer in wire.answers(data, 4) if answer.kind == wire.PUBLISH)
            self._writer.write(wire.ack(wire.PUBACK, message.packet_id))
            await asyncio.sleep(pause)
        return found

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
