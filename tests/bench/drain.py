"""A node that was away comes back: how fast it gets what waits, and what others notice of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_mesh.client import query_status
from tests.bench.brokers import Broker, Outcome, geomq_line

PutLoad = Callable[[Path, Broker, list[str]], Outcome]

BACKLOG = 400_000
_AWAY, _MIDDLE = 0, 1
_LIVE = "-q 1 -n {} -r 1000 -T live"
_POLL = 0.05


def measure_drain(program: Path, folder: Path, put_load: PutLoad) -> list[str]:
    """The section's lines."""
    # A line of three: the first is away, the second has what waits and the live publisher, the third is near it.
    with geomq_line(folder, 2) as line:
        away = Broker(line.publish_port, line.subscribe_port, line.processes)
        middle_port = line.ports[_MIDDLE]
        put_load(program, away, ["-o", "-p", "10", "-s", "10", "-q", "1", "-n", "1", "-T", "drain"])
        quiet = _live(program, line, middle_port, put_load, 3000)
        line.stop(_AWAY)
        here = Broker(middle_port, middle_port, line.processes[1:])
        put_load(program, here, f"-p 10 -s 10 -q 1 -n {BACKLOG // 10} -T drain".split())
        watch = _Watch(line)
        waiting = watch.backlog()
        line.start_again(_AWAY)
        watch.start()
        busy = _live(program, line, middle_port, put_load, 8000)
        took = watch.finish()
    rate = waiting / took
    verdict = "met" if rate >= 50_000 else "missed"
    calm = "met" if busy.p99 <= 3 * quiet.p99 else "missed"
    return [
        "",
        "| a node comes back to 64 B messages at QoS 1 that wait for it | | budget |",
        "| --- | --- | --- |",
        f"| {waiting:,} messages, from the first to the last acknowledgement | {rate:,.0f}/s | "
        f"at least 50,000/s: {verdict} |",
        f"| live to another node, QoS 1, 1,000 messages/s, without | {quiet.p50:.0f} / {quiet.p99:.0f} us | |",
        f"| the same, meanwhile | {busy.p50:.0f} / {busy.p99:.0f} us | p99 at most 3 x: {calm} |",
    ]


def _live(program: Path, line: Broker, middle: int, put_load: PutLoad, count: int) -> Outcome:
    broker = Broker(middle, line.publish_port, line.processes)
    return put_load(program, broker, _LIVE.format(count).split())


class _Watch:
    """Asks, again and again, how much waits for the node that is away."""

    def __init__(self, line: Broker) -> None:
        self._line = line
        self._first = self._last = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def backlog(self) -> int:
        status = asyncio.run(query_status([self._line.mesh], self._line.namespace, timeout=2))
        return max((peer["backlog"] for peer in status["n1"]["peers"] if peer["name"] == "n0"), default=0)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> float:
        """Seconds from the first acknowledgement to the last."""
        self._thread.join(120)
        return self._last - self._first

    def _run(self) -> None:
        most = self.backlog()
        self._first = time.monotonic()
        while True:
            left = self.backlog()
            now = time.monotonic()
            if left >= most:
                self._first = now
            if not left:
                self._last = now
                return
            time.sleep(_POLL)
