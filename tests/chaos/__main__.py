"""`make chaos`: many rounds against GeoMQ and Mosquitto, and docs/durability.md's table of what each kept."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from tests.chaos.brokers import GeoMq, Mosquitto, Victim
from tests.chaos.powercut import PowerCut
from tests.chaos.rounds import Account, play

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "durability.md"
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"

_SERIES = 10
"""Rounds with one data folder; then the account, and a new one."""


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 1 where GeoMQ broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="how often each broker is killed")
    parser.add_argument("--power-cuts", type=int, default=30, help="how often each broker loses its power")
    parser.add_argument("--seed", type=int, default=1, help="the first of the schedules")
    parser.add_argument("--only-geomq", action="store_true", help="nothing to compare with, and no table")
    arguments = parser.parse_args(words)
    # All brokers go through the same: as many rounds, from the same seeds.
    brokers = ("GeoMQ",) if arguments.only_geomq else ("GeoMQ", "Mosquitto")
    found: dict[str, Account] = {}
    for broker in brokers:
        found[f"{broker}, killed"] = run(broker, arguments.rounds, arguments.seed)
        found[f"{broker}, power cut"] = run(broker, arguments.power_cuts, arguments.seed, power_cuts=True)
    if not arguments.only_geomq:
        write(table(found), BEGIN, END)
    print(table(found))
    return not all(account.is_clean for name, account in found.items() if name.startswith("GeoMQ"))


def run(broker: str, rounds: int, seed: int, power_cuts: bool = False) -> Account:
    """All series of one kind, added up."""
    total = Account()
    for series in range(0, rounds, _SERIES):
        with tempfile.TemporaryDirectory(prefix="geomq-chaos-") as folder:
            account = asyncio.run(
                _series(broker, Path(folder), min(_SERIES, rounds - series), seed + series, power_cuts)
            )
        print(f"{broker}{', power cut' if power_cuts else ''}, seed {seed + series}: {account}", flush=True)
        for field in fields(Account):
            setattr(total, field.name, getattr(total, field.name) + getattr(account, field.name))
    return total


async def _series(broker: str, folder: Path, rounds: int, seed: int, power_cuts: bool) -> Account:
    power = None
    if power_cuts:
        (folder / "scratch").mkdir()
        (folder / "data").mkdir()
        power = PowerCut(folder / "data", folder / "scratch", whole=broker == "Mosquitto")
    kind: type[Victim] = GeoMq if broker == "GeoMQ" else Mosquitto
    return await play(kind(folder, power.environment if power else None), rounds, seed, power)


def table(found: dict[str, Account]) -> str:
    """The accounts side by side."""
    version = datetime.datetime.now(datetime.UTC).date().isoformat()
    rows = {
        "rounds": "rounds",
        "messages acknowledged to publishers": "acknowledged",
        "owed to subscribers for it": "deliveries",
        "lost": "lost",
        "QoS 2 doubled": "doubled",
        "out of order": "disordered",
        "retained message missing or older than acknowledged": "retained_wrong",
        "wills promised": "wills_promised",
        "wills lost": "wills_lost",
        "wills that came again": "wills_repeated",
        "sessions lost": "sessions_lost",
        "never acknowledged": "unfinished",
        "QoS 2 never brought to its end": "unreleased",
    }
    lines = [
        f"Written by `make chaos` on {version}.",
        "",
        "| | " + " | ".join(found) + " |",
        "| --- |" + " --- |" * len(found),
    ]
    for name, field in rows.items():
        figures = " | ".join(f"{getattr(account, field):,}" for account in found.values())
        lines.append(f"| {name} | {figures} |")
    return "\n".join(lines)


def write(text: str, begin: str, end: str) -> None:
    """Put a table into the document, between its marks."""
    document = DOCUMENT.read_text()
    before, rest = document.split(begin, 1)
    _, after = rest.split(end, 1)
    DOCUMENT.write_text(f"{before}{begin}\n{text}\n{end}{after}")


if __name__ == "__main__":
    raise SystemExit(main())
