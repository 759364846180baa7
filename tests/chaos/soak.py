"""`make soak`: persistent sessions come and go for ten minutes; memory and files must not grow."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.chaos.__main__ import DOCUMENT, write
from tests.chaos.brokers import GeoMq
from tests.chaos.devices import Device, Publisher
from tests.protocol import wire
from tests.protocol.wire import Answer

BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"
_VISITORS = 60
_STAYERS = 100
_EXPIRY = 15
_QUEUE = 2000
_GROWTH = 1.1
"""How much more the last third may need than the second: noise, no trend."""
_EVERY = 5.0


class Visitor(Device):
    """A client with a persistent session, which it may or may not come back to."""

    def __init__(self, client_id: str, version: int, port: int) -> None:
        super().__init__(client_id, version, port)
        self.heard = 0

    def _connect_packet(self) -> bytes:
        properties = wire.props((0x11, _EXPIRY)) if self.version == 5 else b""
        return wire.connect(self.client_id, self.version, clean=False, properties=properties)

    def begin(self, session_present: bool) -> None:
        """Subscribe to what some publish, a few other topics, and what is retained."""
        extra = [(f"x/{random.randrange(1000)}/+", 1)]
        self.send(wire.subscribe(1, [("c/p0/1", 1), ("c/p1/2", 2), *extra], self.version))

    def hear(self, answer: Answer) -> None:
        """Acknowledge everything."""
        if answer.kind == wire.SUBACK:
            self.online.set()
        elif answer.kind == wire.PUBREL:
            self.send(wire.ack(wire.PUBCOMP, answer.packet_id))
        elif answer.kind == wire.PUBLISH and answer.qos:
            self.heard += 1
            self.send(wire.ack(wire.PUBACK if answer.qos == 1 else wire.PUBREC, answer.packet_id))


class Sample(NamedTuple):
    """What the node takes at one moment."""

    seconds: float
    resident: int
    files: int


async def soak(folder: Path, seconds: float) -> tuple[list[Sample], int, int]:
    """Samples, sessions that were opened, messages that were acknowledged."""
    victim = GeoMq(folder)
    victim.queue_max_messages = _QUEUE
    await victim.start()
    assert victim.pid
    process = psutil.Process(victim.pid)
    chance = random.Random(1)
    publishers = [Publisher(f"p{number}", 4 + number % 2, victim.port) for number in range(2)]
    for publisher in publishers:
        publisher.window = 2
        publisher.come()
    stayers = [Visitor(f"stays-{number}", 4, victim.port) for number in range(_STAYERS)]
    here: list[Visitor] = []
    samples: list[Sample] = []
    sessions = _STAYERS
    began = last = time.monotonic()
    while time.monotonic() - began < seconds:
        for visitor in [one for one in here if chance.random() < 0.3]:
            here.remove(visitor)
            await visitor.leave(politely=chance.random() < 0.5)
        while len(here) < _VISITORS:
            known = [one for one in stayers if one not in here]
            if chance.random() < 0.5:
                visitor = chance.choice(known)
            else:
                sessions += 1
                visitor = Visitor(f"v-{sessions}", 5, victim.port)
            visitor.come()
            here.append(visitor)
        await asyncio.sleep(0.5)
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            files = sum(file.stat().st_size for file in victim.data.iterdir())
            samples.append(Sample(last - began, process.memory_info().rss, files))
            print("{:6.0f} s {:6.1f} MB {:7.1f} MB on disk".format(*_told(samples[-1])), flush=True)
    for device in (*here, *publishers):
        await device.leave(politely=True)
    acknowledged = sum(len(numbers) for one in publishers for numbers in one.acknowledged.values())
    victim.stop()
    return samples, sessions, acknowledged


def _told(sample: Sample) -> tuple[float, float, float]:
    return sample.seconds, sample.resident / 1e6, sample.files / 1e6


def main() -> int:
    """The exit code: 1 where memory or files grow."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="geomq-soak-") as name:
        samples, sessions, acknowledged = asyncio.run(soak(Path(name), arguments.seconds))
    third = len(samples) // 3
    lines = [
        f"Written by `make soak` on {datetime.datetime.now(datetime.UTC).date()}: {arguments.seconds:.0f} s, "
        f"{sessions:,} sessions, {acknowledged:,} messages acknowledged to publishers.",
        "",
        "| | first third | second third | last third |",
        "| --- | --- | --- | --- |",
    ]
    steady = True
    for title, values in (
        ("resident memory, median", [sample.resident for sample in samples]),
        ("files, median", [sample.files for sample in samples]),
    ):
        parts = [statistics.median(values[start : start + third]) for start in (0, third, 2 * third)]
        steady = steady and parts[2] <= parts[1] * _GROWTH
        lines.append(f"| {title} | " + " | ".join(f"{part / 1e6:.1f} MB" for part in parts) + " |")
    text = "\n".join(lines)
    print(text)
    write(text, BEGIN, END)
    print(f"{DOCUMENT}: {'steady' if steady else 'it grows'}")
    return not steady


if __name__ == "__main__":
    raise SystemExit(main())
