"""`geomq mesh`: all nodes at a glance, and what became of the messages between them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.cli.asking import ConfigOption, ConnectOption, NamespaceOption, TimeoutOption, ask_status
from broker.cli.common import fail
from broker.cli.mesh_figures import accounts, of_node, overview

app = typer.Typer(help="The nodes of the mesh, and what waits between them.", no_args_is_help=True)

NodeOption = Annotated[str | None, typer.Option(help="Only what concerns this node.", metavar="NAME")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document.")]
_WORDS = frozenset(("node", "region", "from", "to", "for", ""))
"""Columns without figures."""
_WIDTH = 200
"""Characters of a line where the output is no terminal: enough that nothing is cut."""


@app.command()
def status(
    connect: ConnectOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = 5.0,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show nodes, regions and links: versions, clocks, round trips, rates, backlogs."""
    mesh = overview(ask_status(config, connect, namespace, timeout))
    if node is not None:
        _check(node, [each["name"] for each in mesh["nodes"]])
        mesh = of_node(mesh, node)
    if as_json:
        print(json.dumps(mesh, indent=2))
        return
    _show(
        _table(
            "Regions",
            ("region", "nodes", "there", "gateway", "from others"),
            map(_region_row, mesh["regions"]),
        ),
        _table(
            "Nodes",
            ("node", "region", "", "version", "protocol", "up", "clients", "unwanted", "outbox", "alarms"),
            map(_node_row, mesh["nodes"]),
        ),
        _table(
            "Links",
            ("from", "to", "", "round trip", "clock", "sent/s", "received/s", "backlog", "oldest"),
            map(_link_row, mesh["links"]),
        ),
    )


@app.command()
def ledger(
    connect: ConnectOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = 5.0,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what became of every message above QoS 0 that a node took for another one."""
    statuses = ask_status(config, connect, namespace, timeout)
    found = accounts(statuses)
    if node is not None:
        _check(node, {*statuses, *(each["destination"] for each in found)})
        found = [each for each in found if node in (each["node"], each["destination"])]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    columns = ("node", "for", "accepted", "acknowledged", "queued", "expired", "dropped", "")
    _show(_table("Accepted = acknowledged + queued + expired + dropped", columns, map(_account_row, found)))


def _check(node: str, names: Iterable[str]) -> None:
    if node not in names:
        fail(f"no node of the mesh is called {node!r}; there are {', '.join(sorted(names))}")


def _show(*tables: Table) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    for table in tables:
        console.print(table)


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for name in columns:
        table.add_column(name, justify="left" if name in _WORDS else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table


def _region_row(region: dict[str, Any]) -> Iterable[str]:
    return (
        *(region["region"], str(region["nodes"]), str(region["there"]), region["gateway"] or "-"),
        f"{region['received']:,} messages, {region['received_bytes'] / 1e6:,.1f} MB",
    )


def _node_row(node: dict[str, Any]) -> Iterable[str | Text]:
    outbox = node["outbox"]
    alarms = outbox["alarms"] if outbox else {}
    raised = [name for name in ("filled", "dropping") if alarms.get(name)]
    raised += [f"late: {name}" for name in alarms.get("late", ())]
    return (
        node["name"],
        node["region"],
        Text("refused", style="yellow") if node["refused"] else _presence(node["there"]),
        node["version"] or "-",
        _optional(node["protocol"]),
        _seconds(node["uptime"]),
        _optional(node["clients"]),
        _optional(node["unwanted"]),
        f"{outbox['bytes'] / max(outbox['capacity'], 1):.0%}" if outbox else "-",
        Text(", ".join(raised), style="yellow"),
    )


def _link_row(link: dict[str, Any]) -> Iterable[str | Text]:
    rates, clock, trip = link["rates"], link["clock_difference"], link["round_trip_ms"]
    return (
        link["node"],
        link["peer"],
        _presence(link["alive"]),
        "-" if trip is None else f"{trip:.1f} ms",
        "-" if clock is None else f"{clock:+.3f} s",
        _rate(rates, "sent"),
        _rate(rates, "received"),
        f"{link['backlog']:,}",
        _seconds(link["backlog_age"]) if link["backlog"] else "-",
    )


def _account_row(account: dict[str, Any]) -> Iterable[str | Text]:
    dropped = [f"{count:,} {reason}" for reason, count in account["dropped"].items() if count]
    figures = (f"{account[key]:,}" for key in ("accepted", "acknowledged", "queued", "expired"))
    mark = Text("forgotten", style="yellow") if account["forgotten"] else Text("")
    if not account["balanced"]:
        mark = Text("does not balance", style="bold red")
    return account["node"], account["destination"], *figures, ", ".join(dropped) or "0", mark


def _presence(there: bool) -> Text:
    return Text("there", style="green") if there else Text("away", style="red")


def _optional(value: object) -> str:
    return "-" if value is None else str(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _rate(rates: dict[str, float], direction: str) -> str:
    if f"bytes_{direction}" not in rates:
        return "-"
    return f"{rates[f'messages_{direction}']:,.0f} ({rates[f'bytes_{direction}'] / 1024:,.1f} KiB)"
