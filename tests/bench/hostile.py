"""What others wait for a node while a hostile module has messages to work on: a line of the table for each module."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.end_to_end.nodes import ROOT, NodeProcess
from tests.flood.victim import Device
from tests.plugins import modules
from tests.plugins.test_hostile import HOSTILE, UNRULY

ROUNDS = 3
SECONDS = 1.2
"""Of each row in each round."""
PAUSE = 0.003
RATE = 200
MOST = 2.0
"""What issue and design allow: p99 beside a hostile module, in those of an untroubled node."""

ALONE, HARMLESS = "none", "one that passes all"
MODULES = {
    HARMLESS: modules.module(modules.PASSES),
    **{name: code for name, (code, _) in HOSTILE.items()},
    **UNRULY,
}
ROWS = (ALONE, *MODULES)

HEAD = [
    "",
    "A client that publishes to itself at QoS 1, some 250 times a second, while another one, a process of its own,",
    f"publishes {RATE} messages a second on a topic whose ingress rule is a hostile module (see",
    "`tests/plugins/test_hostile.py`). Node and clients come before all else on the machine, where that is allowed.",
    "The ratio is to the p99 with nothing beside it. Medians of three rounds, each with a node of its own that has all",
    "of the modules, so that it begins before any of them is left alone for its failures. Memory: the most of it.",
    "",
    f"| module | p50 | p99 | ratio | at most {MOST:g} x | resident memory after |",
    "| --- | --- | --- | --- | --- | --- |",
]


class Round(NamedTuple):
    """What was measured beside one module, in seconds, and the node's bytes afterwards."""

    p50: float
    p99: float
    resident: int


def measure_hostile(folder: Path) -> list[str]:
    """The table."""
    found: dict[str, list[Round]] = defaultdict(list)
    with _undisturbed():
        for number in range(ROUNDS):
            node = _node(folder, f"hostile-{number}")
            try:
                for name in ROWS:
                    found[name].append(asyncio.run(_round(node, name)))
            finally:
                node.stop()
    rows = {name: _together(found[name]) for name in ROWS}
    return [*HEAD, *(_line(name, row, row.p99 / rows[ALONE].p99) for name, row in rows.items())]


def _together(rounds: list[Round]) -> Round:
    p50, p99, _ = (statistics.median(values) for values in zip(*rounds, strict=True))
    return Round(p50, p99, max(one.resident for one in rounds))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Run, and have processes run, before all else: a p99 is soon that of another process's turn."""
    usual = os.sched_getscheduler(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, usual, os.sched_param(0))


def _node(folder: Path, name: str) -> NodeProcess:
    entries = []
    for title, code in MODULES.items():
        path = folder / f"{_slug(title)}.wasm"
        path.write_bytes(code)
        entries.append({"name": _slug(title), "topics": [f"{_slug(title)}/#"], "module": str(path)})
    node = NodeProcess(folder, name, "hostile", mesh={"enabled": False}, plugins={"ingress": entries})
    node.start()
    return node


async def _round(node: NodeProcess, name: str) -> Round:
    device = await Device.connect(node.mqtt_port)
    other = await asyncio.to_thread(_publisher, node, name) if name != ALONE else None
    try:
        took = await device.latencies(SECONDS, PAUSE)
    finally:
        await device.close()
        if other is not None:
            other.kill()
            other.communicate()
    resident = int(psutil.Process(node.pid).memory_info().rss)
    return Round(statistics.median(took), statistics.quantiles(took, n=100)[98], resident)


def _publisher(node: NodeProcess, name: str) -> subprocess.Popen[bytes]:
    """A process that publishes for the module by now."""
    options = [f"{_slug(name)}/t", str(node.mqtt_port), str(RATE), "60"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.flood.steady", *options], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begin\n"
    return process


def _slug(title: str) -> str:
    return title.replace(" ", "-")


def _line(name: str, row: Round, ratio: float) -> str:
    verdict = "" if name == ALONE else "met" if ratio <= MOST else "missed"
    times = f"{row.p50 * 1000:.2f} ms | {row.p99 * 1000:.2f} ms"
    return f"| {name} | {times} | {ratio:.2f} x | {verdict} | {row.resident / 1e6:.0f} MB |"
