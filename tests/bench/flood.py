"""How a well-behaved client is served while others attack: a line of the table for each attack."""

from __future__ import annotations

import asyncio
import statistics
from pathlib import Path

from tests.flood.attacks import ATTACKS
from tests.flood.victim import Device, Victim

SECONDS = 6.0

HEAD = [
    "",
    "A client that publishes to itself at QoS 1, 100 times a second, while others attack for six seconds from a",
    "process of their own (`tests/flood/attacks.py`); the node has the limits of `tests/flood/victim.py`. Node,",
    "attacker and client share the machine's cores.",
    "",
    "| attack | p50 | p99 | resident memory after |",
    "| --- | --- | --- | --- |",
]


def measure_flood(folder: Path) -> list[str]:
    """The table."""
    victim = Victim(folder)
    try:
        lines = [asyncio.run(_line(victim, "none"))]
        lines += [asyncio.run(_line(victim, name)) for name in ATTACKS]
    finally:
        victim.node.stop()
    return [*HEAD, *lines]


async def _line(victim: Victim, name: str) -> str:
    device = await Device.connect(victim.node.mqtt_port)
    attack = victim.attack(name, SECONDS) if name in ATTACKS else None
    try:
        found = await device.latencies(SECONDS)
    finally:
        await device.close()
        if attack is not None:
            await asyncio.to_thread(attack.wait)
    p50, p99 = statistics.median(found), statistics.quantiles(found, n=100)[98]
    title = (ATTACKS[name].__doc__ or "").rstrip(".") if name in ATTACKS else "none"
    return f"| {title} | {p50 * 1000:.2f} ms | {p99 * 1000:.2f} ms | {victim.resident / 1e6:.0f} MB |"
