"""`geomq demo`: regions as processes on this machine, simulated vehicles, a live view."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from broker.config import ConfigError, NodeConfig, load
from broker.demo.clients import drive, listen
from broker.demo.nodes import NodeFailed, NodeRunner
from broker.demo.state import State
from broker.demo.telemetry import FLEETS, Vehicle
from broker.demo.view import draw

CONFIG = Path(__file__).resolve().parents[2] / "config"
_VEHICLES = 4
_REFRESH_SECONDS = 0.25
_END_SECONDS = 1.0


def run_demo(nodes: int, folder: Path, report_seconds: float) -> int:
    """Run the demonstration until Ctrl-C, with the configurations in a folder; the exit code.

    Where the output is no terminal the view is printed each ``report_seconds``.
    """
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    console = Console()
    if not folder.is_dir():
        console.print(
            f"The demonstration is part of GeoMQ's repository: {folder} is missing.", highlight=False
        )
        return 1
    try:
        if nodes == 1:
            _run_single(console, folder / "single.yaml")
        else:
            asyncio.run(_run(nodes, console, folder, report_seconds))
    except (NodeFailed, ConfigError) as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        return 1
    return 0


def _run_single(console: Console, path: Path) -> None:
    """One broker, as its file has it."""
    from broker.app import StartError
    from broker.process import run

    def read() -> NodeConfig:
        return load(path, os.environ)

    config = read()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    port = config.listeners[0].port
    console.print(
        f"A single broker. Try: mosquitto_sub -p {port} -t '#' -v   Ctrl-C ends it.", highlight=False
    )
    try:
        run(config, read, path)
    except StartError as error:
        raise NodeFailed(str(error)) from None


async def _run(count: int, console: Console, folder: Path, report_seconds: float) -> None:
    runners = [NodeRunner(folder / f"{fleet.region}.yaml") for fleet in FLEETS[:count]]
    state = State([runner.describe() for runner in runners], time.time())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    nodes = [loop.create_task(runner.run(state)) for runner in runners]
    clients = [loop.create_task(work) for work in _clients(runners, state)]
    stopping = loop.create_task(stop.wait())
    showing = loop.create_task(_show(state, console, report_seconds))
    try:
        done, _ = await asyncio.wait(
            [stopping, showing, *nodes, *clients], return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        await _end([showing, stopping, *clients])
        await _end(nodes)
    for task in done:
        if task is not stopping and not task.cancelled() and task.exception() is not None:
            await task
    console.print(draw(state, time.time()))
    console.print("All nodes and devices are stopped.", highlight=False)


def _clients(runners: list[NodeRunner], state: State) -> list[Coroutine[Any, Any, None]]:
    work: list[Coroutine[Any, Any, None]] = []
    for runner, fleet in zip(runners, FLEETS, strict=False):
        work.append(listen(runner.name, runner.port, state))
        work += [drive(Vehicle(fleet, number), runner.port, state) for number in range(1, _VEHICLES + 1)]
    return work


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: once may not be enough for those that wait for amqtt's client."""
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_END_SECONDS)


async def _show(state: State, console: Console, report_seconds: float) -> None:
    """Draw the view again and again: over itself on a terminal, below itself elsewhere."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(report_seconds)
            console.print(draw(state, time.time()))
    with (
        contextlib.suppress(asyncio.CancelledError),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(draw(state, time.time()), refresh=True)
            await asyncio.sleep(_REFRESH_SECONDS)
