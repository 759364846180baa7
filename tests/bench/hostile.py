"""What others wait for a node while a hostile module has messages to work on: a line of the table for each module."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import psutil

from tests.end_to_end.nodes import ROOT, NodeProcess
from tests.flood.victim import Device
from tests.plugins import modules
from tests.plugins.test_hostile import HOSTILE, UNRULY

ROUNDS = 3
WARM_UP, SECONDS = 0.3, 1.5
"""Of each row in each round; what is timed in the first is left out."""
PAUSE = 0.004
"""Seconds between the client's messages."""
RATE = 200
"""Messages a second for the module."""
MOST = 2.0
"""What is asked for: the p99 beside a hostile module, in those without it."""

IDLE, NONE, AGAIN = "idle", "none", "idle again"
MODULES = {
    NONE: modules.module(modules.PASSES),
    **{name: code for name, (code, _) in HOSTILE.items()},
    **UNRULY,
}
ROWS = (IDLE, *MODULES, AGAIN)

HEAD = [
    "",
    "What hostile modules do to other topics. A client publishes to itself at QoS 1, some 200 times a second, on a",
    "topic without rules; the times are those from publishing to hearing. Meanwhile another process publishes",
    f"{RATE} messages a second at QoS 0 on a topic whose ingress rule is the module (`tests/plugins/test_hostile.py`).",
    f"*{IDLE}*: nobody else publishes. *{NONE}*: the same traffic, for a harmless module, which passes all. The ratios",
    f"are those of a row's p99 to that of these two; at most {MOST:g} x is asked for. Node and clients share the",
    f"machine's cores; *{AGAIN}* is for how much a p99 differs by itself. {ROUNDS} rounds of {SECONDS:g} s, all times",
    "together; each round has a node of its own with all of the modules, for one that keeps failing is left alone,",
    "soon and for long. Memory is the node's after the row, with what the rows above have left; at its most.",
    "",
    f"| hostile module | p50 | p99 | to {IDLE} | to {NONE} | resident memory |",
    "| --- | --- | --- | --- | --- | --- |",
]


def measure_hostile(folder: Path) -> list[str]:
    """The table."""
    times: dict[str, list[float]] = defaultdict(list)
    resident: dict[str, int] = defaultdict(int)
    for number in range(ROUNDS):
        node = _node(folder, f"hostile-{number}")
        try:
            for name in ROWS:
                times[name] += asyncio.run(_latencies(node, name))
                resident[name] = max(resident[name], psutil.Process(node.pid).memory_info().rss)
        finally:
            node.stop()
    p99 = {name: statistics.quantiles(times[name], n=100)[98] for name in ROWS}
    lines = []
    for name in ROWS:
        ratios = [_ratio(name, p99[name] / p99[other]) for other in (IDLE, NONE)]
        cells = [name, _ms(statistics.median(times[name])), _ms(p99[name]), *ratios]
        lines.append(f"| {' | '.join(cells)} | {resident[name] / 1e6:.0f} MB |")
    return [*HEAD, *lines]


def _node(folder: Path, name: str) -> NodeProcess:
    """A node that has each module as the rule of a topic."""
    entries = []
    for title, code in MODULES.items():
        path = folder / f"{_slug(title)}.wasm"
        path.write_bytes(code)
        entries.append({"name": _slug(title), "topics": [_topic(title)], "module": str(path)})
    node = NodeProcess(folder, name, "hostile", mesh={"enabled": False}, plugins={"ingress": entries})
    node.start()
    return node


async def _latencies(node: NodeProcess, name: str) -> list[float]:
    """Seconds, message by message, beside the traffic of a row."""
    device = await Device.connect(node.mqtt_port)
    other = await asyncio.to_thread(_publisher, node.mqtt_port, _topic(name)) if name in MODULES else None
    try:
        await device.latencies(WARM_UP, PAUSE)
        return await device.latencies(SECONDS, PAUSE)
    finally:
        await device.close()
        if other is not None:
            other.kill()
            other.communicate()


def _publisher(port: int, topic: str) -> subprocess.Popen[bytes]:
    """A process that publishes on the topic by now, for a minute unless it is ended."""
    command = [sys.executable, "-m", "tests.flood.steady", topic, str(port), str(RATE), "60"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begin\n"
    return process


def _slug(title: str) -> str:
    return title.replace(" ", "-")


def _topic(title: str) -> str:
    return f"hostile/{_slug(title)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _ratio(name: str, ratio: float) -> str:
    verdict = "" if name in (IDLE, NONE, AGAIN) else ": met" if ratio <= MOST else ": missed"
    return f"{ratio:.2f} x{verdict}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="geomq-hostile-") as place:
        print("\n".join(measure_hostile(Path(place))))
