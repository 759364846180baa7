"""The commands of `geomq`, but for those of users and access lists."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from broker import __version__
from broker.cli import acl, mesh, plugin, reloading, store, traffic, users
from broker.cli.asking import (
    ConfigOption,
    ConnectOption,
    NamespaceOption,
    TimeoutOption,
    ask,
    ask_local,
    ask_status,
    way_in,
)
from broker.cli.common import SOMETHING_MISSING, fail, load_config, named_file, read_config, tell_doubts
from broker.config import ConfigError, read
from broker.config.schema import schema

app = typer.Typer(
    help="GeoMQ: a geo-distributed MQTT broker.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Check a configuration; print what may stand in one.", no_args_is_help=True)
history_app = typer.Typer(help="Ask the histories of all nodes.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(history_app, name="history")
app.add_typer(users.app, name="user")
app.add_typer(acl.app, name="acl")
app.add_typer(store.app, name="store")
app.add_typer(mesh.app, name="mesh")
app.add_typer(plugin.app, name="plugin")
app.command()(reloading.reload)
app.command()(traffic.record)
app.command()(traffic.replay)


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def run(config: ConfigOption = None) -> None:
    """Run a node: MQTT on 127.0.0.1:1883 unless the configuration says otherwise."""
    from broker.app import StartError
    from broker.process import run as run_app

    settings = load_config(config)
    logging.basicConfig(
        level=settings.log.level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if settings.mesh.enabled:
        from edge_mesh.zenoh_log import follow_zenoh_log

        follow_zenoh_log()
    try:
        run_app(settings, lambda: read_config(config), named_file(config))
    except StartError as error:
        fail(str(error))


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def demo(
    nodes: Annotated[int, typer.Option(help="Three regions, or one broker.", min=1, max=3)] = 3,
    config: Annotated[
        Path | None,
        typer.Option(
            help="The folder with eu.yaml, us.yaml and asia.yaml, or single.yaml. Default: the repository's.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(help="Seconds between two views where the output is no terminal.", min=0.1)
    ] = 5.0,
) -> None:
    """Show three regions at work on this machine, with simulated devices."""
    from broker.demo.main import CONFIG, run_demo

    raise SystemExit(run_demo(nodes, config or CONFIG, every))


@config_app.command("check")
def config_check(file: Path) -> None:
    """Tell every mistake in FILE and in the files that it names, or what it makes of a node."""
    from broker.cli.config_files import file_mistakes

    try:
        reading = read(file, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    settings = reading.config
    problems = list(reading.problems)
    if settings is not None:
        problems += [reading.problem(key, text) for key, text in file_mistakes(settings)]
    if problems or settings is None:
        print(*problems, sep="\n", file=sys.stderr)
        raise SystemExit(1)
    tell_doubts(reading)
    addresses = ", ".join(listener.bind for listener in settings.listeners)
    mesh = f"mesh {settings.mesh.namespace!r}" if settings.mesh.enabled else "no mesh"
    print(f"{file}: node {settings.node.name}, region {settings.node.region}, MQTT on {addresses}, {mesh}")


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the configuration."""
    print(json.dumps(schema(), indent=2))


@config_app.command("reference")
def config_reference() -> None:
    """Print every key of the configuration with its meaning, as Markdown."""
    from broker.config.reference import reference

    print(reference(), end="")


@history_app.command("query")
def history_query(
    topic: Annotated[str, typer.Argument(help="A topic or topic filter.")],
    last: Annotated[int, typer.Option(help="At most this many messages, the newest.", min=1)] = 10,
    since: Annotated[str | None, typer.Option(help="ISO time, or an age such as 10m.")] = None,
    until: Annotated[str | None, typer.Option(help="ISO time, or an age such as 10m.")] = None,
    connect: ConnectOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print stored messages from every node of the mesh, the oldest first, as its egress rules let them out.

    Exit code 1 where no node answers, 3 where something is missing: a rule failed, or an answer is not complete.
    """
    from edge_mesh.client import query_history

    endpoints, mesh_name, tls = way_in(config, connect, namespace)
    now = time.time()
    question = query_history(
        endpoints,
        mesh_name,
        topic,
        last=last,
        since=_moment(since, now),
        until=_moment(until, now),
        timeout=timeout,
        tls=tls,
    )
    answer = ask(question)
    for entry in answer.entries:
        _print_entry(entry.node, entry.time, entry.message.topic, entry.message.payload, as_json)
    for name in answer.incomplete:
        print(f"geomq: the answer of {name} is not complete", file=sys.stderr)
    for error in answer.errors:
        print(f"geomq: {error}", file=sys.stderr)
    if not answer.answered and not answer.incomplete:
        fail(f"no node of the mesh {mesh_name!r} has a history, or none answered")
    if answer.incomplete or answer.errors:
        raise SystemExit(SOMETHING_MISSING)


@app.command()
def status(
    connect: ConnectOption = None,
    namespace: NamespaceOption = None,
    config: ConfigOption = None,
    timeout: TimeoutOption = 5.0,
) -> None:
    """Print what the node says about itself, as JSON; every node of the mesh where it is in one."""
    if connect is None and namespace is None and not load_config(config).mesh.enabled:
        nodes = ask_local(load_config(config).node.data, timeout)
    else:
        nodes = ask_status(config, connect, namespace, timeout)
    print(json.dumps(nodes, indent=2))


def _moment(text: str | None, now: float) -> float | None:
    """Wall-clock seconds of an ISO time (local unless it says otherwise) or of an age."""
    from broker.config.units import parse_duration

    if text is None:
        return None
    try:
        return now - float(parse_duration(text))
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        fail(f"{text!r} is neither a time such as 2026-01-31T12:00:00 nor an age such as 10m")


def _print_entry(node: str, when: float, topic: str, payload: bytes, as_json: bool) -> None:
    moment = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
    text = payload.decode("utf-8", "backslashreplace")
    if as_json:
        print(json.dumps({"node": node, "time": moment, "topic": topic, "payload": text}))
    else:
        print(f"{moment}  {node}  {topic}  {text}")
