"""`make faults`: every fault against two nodes and against two bridged Mosquittos; writes docs/faults.md's table."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import tempfile
import traceback
from pathlib import Path

from tests.faults.links import no_cables
from tests.faults.matrix import FAULTS, broken, obstacle, play
from tests.faults.stage import Account, Fault

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
_COLUMNS = ("acknowledged", "delivered", "lost", "QoS 2 doubled", "out of order", "converged after", "ledger")

Found = dict[tuple[str, str], Account]
"""(fault, broker) -> its account."""


def main() -> int:
    """The exit code: 1 where GeoMQ broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="only the faults whose names have this in them; no table")
    parser.add_argument("--only-geomq", action="store_true", help="nothing to compare with, and no table")
    parser.add_argument("--at-once", type=int, default=3, help="how many pairs of brokers run at one time")
    arguments = parser.parse_args()
    faults = [fault for fault in FAULTS if arguments.only in fault.name]
    kinds = ["GeoMQ"] if arguments.only_geomq else ["GeoMQ", "Mosquitto"]
    found, failed = asyncio.run(_run(faults, kinds, arguments.at_once))
    text = table(faults, found)
    print(text)
    if not (arguments.only or arguments.only_geomq):
        before, rest = DOCUMENT.read_text().split(BEGIN, 1)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")
    kept = [(fault, found.get((fault.name, "GeoMQ"))) for fault in faults]
    broke = any(account is not None and broken(fault, account) for fault, account in kept)
    return bool(broke or failed)


async def _run(faults: list[Fault], kinds: list[str], at_once: int) -> tuple[Found, list[Fault]]:
    """The accounts, and the faults that could not be played to their end."""
    found: Found = {}
    failed: list[Fault] = []
    places = asyncio.Semaphore(at_once)

    async def one(fault: Fault, kind: str) -> None:
        async with places:
            with tempfile.TemporaryDirectory(prefix="geomq-faults-") as folder:
                try:
                    account = await play(kind, fault, Path(folder))
                except Exception:
                    # The other rows are worth having all the same.
                    traceback.print_exc()
                    failed.append(fault)
                    return
        found[fault.name, kind] = account
        verdict = ", ".join(broken(fault, account)) if kind == "GeoMQ" else ""
        print(f"{fault.name}, {kind}: {verdict or 'done'}", flush=True)

    async with asyncio.TaskGroup() as group:
        for fault in faults:
            if reason := obstacle(fault):
                print(f"{fault.name}: not on this machine: {reason}", flush=True)
                continue
            for kind in kinds:
                if kind == "GeoMQ" or not fault.only_geomq:
                    group.create_task(one(fault, kind))
    return found, failed


def table(faults: list[Fault], found: Found) -> str:
    """A line a fault and broker."""
    lines = [
        f"Written by `make faults` on {datetime.datetime.now(datetime.UTC).date()}; links that are cut are "
        f"{'TCP relays' if no_cables() else 'cables between network namespaces, but for those of a relay (R)'}.",
        "",
        "| fault | broker | " + " | ".join(_COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * (len(_COLUMNS) - 1) + " --- |",
    ]
    for fault in faults:
        name = fault.name + (" (R)" if fault.relay and not no_cables() else "")
        if reason := obstacle(fault):
            lines.append(f"| {name} | | not on this machine: {reason} |" + " |" * (len(_COLUMNS) - 1))
        for kind in ("GeoMQ", "Mosquitto"):
            account = found.get((fault.name, kind))
            if account is not None:
                lines.append(f"| {name} | {kind} | " + " | ".join(_cells(fault, account)) + " |")
    return "\n".join(lines)


def _cells(fault: Fault, account: Account) -> list[str]:
    figures = (
        *(account.acknowledged, account.delivered, account.lost),
        *(account.doubled, account.disordered),
    )
    never = "given up" if fault.gives_up else "never"
    converged = never if account.converged is None else f"{account.converged:.1f} s"
    return [*(f"{figure:,}" for figure in figures), converged, _ledger(account)]


def _ledger(account: Account) -> str:
    if not account.ledger:
        return "none"
    dropped = "".join(f", {count:,} {why}" for why, count in account.ledger["dropped"].items() if count)
    return ("balances" if account.balanced else "does not balance") + dropped


if __name__ == "__main__":
    raise SystemExit(main())
