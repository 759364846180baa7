"""The demonstration on a terminal: what :class:`broker.demo.state.State` knows, drawn by rich."""

from __future__ import annotations

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from broker.demo.state import NodeState, Pair, State

_EVENTS_SHOWN = 4


def draw(state: State, now: float) -> RenderableType:
    """Everything, as of ``now`` (wall-clock seconds)."""
    return Group(
        _head(state, now),
        _nodes(state),
        Columns([_latencies(state, now), _stored(state)], padding=(0, 4)),
        _messages(state.shown),
        _events(state, now),
        _hints(state),
    )


def _head(state: State, now: float) -> RenderableType:
    seconds = int(now - state.started)
    published = sum(state.published.values())
    noise = sum(state.noise.values())
    leaks = Text(f"{state.leaks}", style="bold red" if state.leaks else "bold green")
    return Text.assemble(
        ("GeoMQ ", "bold cyan"),
        f"{len(state.nodes)} regions on this machine, simulated vehicles, {seconds // 60}:{seconds % 60:02d}   ",
        f"published {published} (noise {noise}), heard at home {state.heard_local}, abroad {state.heard_abroad}, ",
        "personal values seen abroad: ",
        leaks,
    )


def _nodes(state: State) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, title="Nodes and links", title_justify="left", pad_edge=False)
    for name in ("node", "MQTT", "state", "clients", "in/s", "out/s", "to mesh/s", "from mesh/s", "links"):
        table.add_column(name, no_wrap=True)
    for node in state.nodes.values():
        table.add_row(
            Text(node.name, style="bold"),
            node.address,
            _phase(node),
            str(node.status.get("clients", "")),
            *(
                _rate(node, counter)
                for counter in (
                    "publish_received",
                    "publish_delivered",
                    "publish_to_mesh",
                    "publish_from_mesh",
                )
            ),
            _links(node, state),
        )
    return table


def _phase(node: NodeState) -> Text:
    if node.phase == "up" and node.status:
        return Text("up", style="green")
    return Text(
        "starting" if node.phase == "up" else node.phase, style="red" if node.phase == "down" else "yellow"
    )


def _rate(node: NodeState, counter: str) -> str:
    rate = node.rate(counter)
    return "" if rate is None else f"{rate:.1f}"


def _links(node: NodeState, state: State) -> Text:
    text = Text()
    for other in state.nodes:
        peer = node.peer(other)
        if other == node.name or not node.status:
            continue
        if peer is None or not peer.get("alive"):
            waiting = f" ({peer['backlog']} wait)" if peer and peer.get("backlog") else ""
            text.append(f"✗ {other}{waiting}  ", style="red")
        else:
            round_trip = peer.get("round_trip_ms")
            delay = f" {round_trip:.1f} ms" if isinstance(round_trip, (int, float)) else ""
            text.append(f"✓ {other}{delay}  ", style="green")
    return text


def _latencies(state: State, now: float) -> RenderableType:
    table = Table(
        box=box.SIMPLE_HEAD,
        title="Device to subscriber, ms (p50 / p99)",
        title_justify="left",
        pad_edge=False,
    )
    table.add_column("published in")
    for name in state.nodes:
        table.add_column(f"in {name}", justify="right")
    for origin in state.nodes:
        cells = []
        for at in state.nodes:
            latency = state.latency(origin, at, now)
            cells.append(f"{latency.p50 * 1000:.1f} / {latency.p99 * 1000:.1f}" if latency else "-")
        table.add_row(Text(origin, style="bold"), *cells)
    return table


def _messages(pair: Pair | None) -> RenderableType:
    if pair is None:
        return Panel(
            "waiting for the first message that crosses", title="One message, heard twice", title_align="left"
        )
    raw, masked = pair
    table = Table(box=None, pad_edge=False)
    table.add_column(raw.topic, style="dim")
    table.add_column(f"heard in {raw.at} (raw)")
    table.add_column(f"heard in {masked.at} (masked at the boundary)")
    for key in {**raw.fields, **masked.fields}:
        before, after = raw.fields.get(key, "-"), masked.fields.get(key, "-")
        table.add_row(key, before, Text(after, style="bold magenta" if before != after else ""))
    return Panel(table, title="One message, heard twice", title_align="left")


def _stored(state: State) -> RenderableType:
    table = Table(
        box=box.SIMPLE_HEAD,
        title="What the rules did; what is stored where",
        title_justify="left",
    )
    for name in (
        "node",
        "noise dropped",
        "masked",
        "rule failures",
        "stored",
        "bytes",
    ):
        table.add_column(name, justify="left" if name == "node" else "right")
    for node in state.nodes.values():
        figures = (
            node.rules("ingress", "dropped"),
            node.rules("egress", "replaced"),
            _failures(node),
            node.history("messages"),
            node.history("bytes"),
        )
        table.add_row(Text(node.name, style="bold"), *("" if n is None else f"{n:,}" for n in figures))
    return table


def _failures(node: NodeState) -> int | None:
    figures = [node.rules(stage, "failed") for stage in ("ingress", "egress", "store")]
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def _events(state: State, now: float) -> RenderableType:
    text = Text()
    for event in list(state.events)[-_EVENTS_SHOWN:]:
        text.append(f"{now - event.at:4.0f} s ago  {event.text}\n", style="yellow")
    return text


def _hints(state: State) -> RenderableType:
    nodes = list(state.nodes.values())
    last = nodes[-1]
    port = last.address.rpartition(":")[2]
    return Text.assemble(
        ("Try in another terminal:  ", "dim"),
        f"mosquitto_sub -p {port} -t 'fleet/#' -v",
        ("   or   ", "dim"),
        f".venv/bin/geomq history query 'fleet/#' --config {nodes[0].config}",
        ("   or   ", "dim"),
        f"kill -9 {nodes[0].pid}",
        (f"  (node {nodes[0].name})    Ctrl-C ends all of it.", "dim"),
    )
