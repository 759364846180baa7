"""A node as a process: until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.app import Node
from broker.config import NodeConfig, dotted, doubts
from broker.config.model import MeshSection
from broker.reload import Outcome, Reloader

logger = logging.getLogger("geomq")


async def run_node(config: NodeConfig, read: Callable[[], NodeConfig], file: Path | None) -> None:
    """Run a node until SIGTERM or SIGINT, or until cancelled; on SIGHUP ``read`` its configuration again, a ``file``.

    StartError where it cannot start.
    """
    node = Node(config)

    async def take(new: NodeConfig) -> Outcome:
        outcome = await node.reconfigure(new)
        if any(key.startswith("plugins.") for key in outcome.changed):
            _tell_doubts(new)
        return outcome

    reloader = Reloader(read, take)

    async def reload() -> dict[str, Any]:
        outcome = await reloader.outcome()
        where = None if file is None else str(file.resolve())
        return {"node": node.config.node.name, "file": where, **outcome.as_dict()}

    node.answers["reload"] = reload
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reloader.ask)
    if not await _started(node, stopping):
        return
    _collect_rarely()
    name, region = config.node.name, config.node.region
    for place in node.places:
        logger.info("node %s in region %s serves MQTT on %s", name, region, place)
    _tell_doubts(config)
    if config.mesh.enabled:
        _tell_mesh(config.mesh)
    reloading = loop.create_task(reloader.run())
    try:
        await stopping.wait()
    finally:
        logger.info("node %s stops", name)
        reloading.cancel()
        await asyncio.gather(reloading, return_exceptions=True)
        await node.stop()


def _tell_doubts(config: NodeConfig) -> None:
    for key, text in doubts(config):
        logger.warning("%s: %s", dotted(key), text.removeprefix("warning: "))


def _tell_mesh(mesh: MeshSection) -> None:
    places = ", ".join(mesh.listen) or "nothing"
    alone = ", which only this machine reaches, and looks for none itself" if mesh.is_alone else ""
    logger.info("the mesh %r listens on %s for other nodes%s", mesh.namespace, places, alone)


async def _started(node: Node, stopping: asyncio.Event) -> bool:
    """Start a node; False where it was told to stop before it had."""
    start = asyncio.ensure_future(node.start())
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        if not start.done():
            start.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await start
    return not start.cancelled()


def _collect_rarely() -> None:
    """Have the garbage collector look at what is new, not at all sessions and messages again and again.

    A full collection of 100,000 objects takes tens of milliseconds, in which nobody is served. Nearly all that
    the broker lets go of is freed at once, by its reference count.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)


def run(config: NodeConfig, read: Callable[[], NodeConfig], file: Path | None) -> None:
    """Run a node on its own event loop until it is told to stop. StartError where it cannot start."""
    import uvloop

    # Queues, history and outbox hold what devices said: no other user of the machine may read them.
    os.umask(0o077)
    uvloop.run(run_node(config, read, file))
