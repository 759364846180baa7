"""The demonstration's nodes: real `geomq run` processes, started again when they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

from broker.config import NodeConfig, load
from broker.demo.state import NodeState, State

_RESTART_SECONDS = 3.0
_STOP_SECONDS = 10.0
_EARLY_SECONDS = 15.0
"""A node that ends by itself sooner than this after its very first start has something in its way: on a small or busy
machine it takes seconds to find out."""


class NodeFailed(Exception):
    """A node could not start; the text is what it said."""


class NodeRunner:
    """One node's process, its log beside its data."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: NodeConfig = load(path, {})
        self.name = self.config.node.name
        self.port = self.config.listeners[0].port
        self.log = self.config.node.data / "node.log"
        self._process: asyncio.subprocess.Process | None = None

    def describe(self) -> NodeState:
        """The node as the view knows it before it speaks."""
        here = Path.cwd()
        path = self.path.relative_to(here) if self.path.is_relative_to(here) else self.path
        listen = ", ".join(self.config.mesh.listen)
        return NodeState(self.name, self.config.listeners[0].bind, listen, str(path))

    async def run(self, state: State) -> None:
        """Keep the node running until cancelled; NodeFailed where it cannot even start."""
        known = state.nodes[self.name]
        try:
            while True:
                started = time.monotonic()
                process = await self._start()
                known.pid, known.phase = process.pid, "up"
                code = await process.wait()
                known.phase = "down"
                known.forget()
                early = time.monotonic() - started < _EARLY_SECONDS
                if code > 0 and early and known.restarts == 0:
                    raise NodeFailed(f"node {self.name}: {self._last_words()}")
                how = f"was killed (signal {-code})" if code < 0 else f"ended with {code}"
                state.event(f"node {self.name} {how}; it comes back in {_RESTART_SECONDS:g} s", time.time())
                await asyncio.sleep(_RESTART_SECONDS)
                known.restarts += 1
                state.event(f"node {self.name} is started again", time.time())
        finally:
            await self._stop()

    async def _start(self) -> asyncio.subprocess.Process:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GEOMQ_")}
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "broker",
                "run",
                "--config",
                str(self.path),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demonstration, which then stops its nodes.
                start_new_session=True,
            )
        return self._process

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("geomq: ") if lines else "ended without a word"
