"""What it costs that nothing acknowledged is lost: rates, bytes written, memory, and the time to start again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from broker.message import Message
from broker.ports import Credentials, SessionTerms
from broker.store.database import Database
from broker.store.group import Group
from broker.subscriptions import Held
from tests.bench.brokers import ROOMY, Broker, Outcome, geomq, mosquitto

Start = Callable[[Path], AbstractContextManager[Broker]]
PutLoad = Callable[[Path, Broker, list[str]], Outcome]

LOADS = (
    ("QoS 1, 10 x 10", "-k -p 10 -s 10 -q 1 -n 20000"),
    ("QoS 2, 10 x 10", "-k -p 10 -s 10 -q 2 -n 5000"),
    ("QoS 1, 1,000 messages/s", "-k -q 1 -n 3000 -r 1000"),
    ("QoS 1, 10 x 10, receivers away", "-o -p 10 -s 10 -q 1 -n 20000"),
)
MILLION = "-o -p 10 -m fanin -s 1 -q 1 -n 100000"

SESSIONS = 100_000
_EACH = 10
"""Messages that wait for each of them."""


def committing(folder: Path) -> AbstractContextManager[Broker]:
    return geomq(folder, **ROOMY)


def in_memory(folder: Path) -> AbstractContextManager[Broker]:
    return geomq(folder, durability="memory", **ROOMY)


def saving(folder: Path) -> AbstractContextManager[Broker]:
    return mosquitto(folder, persistence=True)


BROKERS: dict[str, Start] = {
    "GeoMQ, `commit`": committing,
    "GeoMQ, `memory`": in_memory,
    "Mosquitto, persistence": saving,
    "Mosquitto": mosquitto,
}


def measure_durability(program: Path, folder: Path, rounds: int, put_load: PutLoad) -> list[str]:
    """The section's lines."""
    lines = [
        "",
        "## Durability",
        "",
        "Persistent sessions. *commit* acknowledges what is on disk, or acknowledged by its receivers; Mosquitto with",
        "persistence saves once a second, and acknowledges at once. Rate, CPU microseconds, bytes written to disk, for",
        "each message; for 1,000 messages/s p50 / p99 instead of the rate. *Receivers away*: what goes into queues,",
        "counted by acknowledgements.",
        "",
        f"| | {' | '.join(BROKERS)} |",
        "| --- |" + " --- |" * len(BROKERS),
    ]
    for title, load in LOADS:
        found: dict[str, list[tuple[Outcome, float]]] = {name: [] for name in BROKERS}
        for _ in range(rounds):
            for name, start in BROKERS.items():
                with start(folder) as broker:
                    before = broker.written()
                    outcome = put_load(program, broker, load.split())
                    written = (broker.written() - before) / _count(load)
                    found[name].append((outcome, written))
        lines.append(f"| {title} | {' | '.join(_told(one, '-r' in load) for one in found.values())} |")
    lines += _million(program, folder, put_load)
    lines.append("")
    lines.append(_recovery(folder))
    return lines


def _count(load: str) -> int:
    words = load.split()
    publishers = int(words[words.index("-p") + 1]) if "-p" in words else 1
    return publishers * int(words[words.index("-n") + 1])


def _told(found: list[tuple[Outcome, float]], latency: bool) -> str:
    rate, cpu, p50, p99 = (
        statistics.median(values) for values in zip(*(one for one, _ in found), strict=True)
    )
    speed = f"{p50:.0f} / {p99:.0f} us" if latency else f"{rate:,.0f}/s"
    return f"{speed}, {cpu:.2f} us, {statistics.median(written for _, written in found):,.0f} B"


def _million(program: Path, folder: Path, put_load: PutLoad) -> list[str]:
    cells = []
    for start in BROKERS.values():
        with start(folder) as broker:
            before = broker.resident()
            put_load(program, broker, MILLION.split())
            cells.append(f"{(broker.resident() - before) / 1e6:,.0f} MB")
    return [f"| memory for 1,000,000 messages in one queue | {' | '.join(cells)} |"]


def _recovery(folder: Path) -> str:
    data = folder / "recovery"
    data.mkdir()
    _fill(data / "broker.db")
    size = (data / "broker.db").stat().st_size
    began = time.monotonic()
    with geomq(folder, data=data, **ROOMY) as broker:
        took = time.monotonic() - began
        resident = broker.resident()
    return (
        f"A node that starts with {SESSIONS:,} sessions and {SESSIONS * _EACH:,} queued messages "
        f"({size / 1e6:.0f} MB on disk), half of the clients connected when it was killed, listens after {took:.1f} s "
        f"with {resident / 1e6:.0f} MB of memory."
    )


def _fill(path: Path) -> None:
    database = Database(path)
    now = time.time()
    for first in range(1, SESSIONS + 1, 5000):
        group = Group()
        for key in range(first, first + 5000):
            client_id = f"device-{key:06}"
            shown = Credentials(client_id, None, None, "192.0.2.1", "tcp")
            terms = SessionTerms(client_id, 5, 7 * 86400, 1024, shown, "")
            group.sessions[key] = (terms, now if key % 2 else 0.0)
            group.subscriptions[(key, f"fleet/{key}/#")] = Held(f"fleet/{key}/#", 1)
            for number in range(_EACH):
                message = Message(f"fleet/{key}/command", bytes(64), 1)
                group.adds[(key, number)] = (message, 1, False, b"", number)
        database.write(group)
    database.close()
