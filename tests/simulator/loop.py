"""An event loop whose time passes only when nothing is left to do, and the clocks of the nodes that live in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Protocol


class Process(Protocol):
    """What a node's code asks for the time, and what ends with it."""

    tasks: list[asyncio.Task[Any]]

    def wall(self) -> float:
        """Seconds since 1970, as the node believes."""


PROCESS: ContextVar[Process] = ContextVar("PROCESS")
"""Of the node whose code runs; callbacks and tasks inherit it from where they were made."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Calls in the order of their times.

    No thread and no socket has a part in it: the same calls give the same run.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now

    def select(self, timeout: float | None) -> tuple[()]:
        """Where another loop would wait for its sockets."""
        assert timeout is not None, "nothing will ever happen again"
        self._now += timeout
        return ()

    def create_task(
        self, coro: Any, *, name: Any = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """The node whose task it is knows it."""
        task = super().create_task(coro, name=name, context=context)
        process = context.get(PROCESS) if context is not None else PROCESS.get(None)
        if process is not None:
            process.tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Threads would bring chance that no seed decides: what would be done by one is done at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody waits who would have to be woken."""


class NodeTime:
    """Stands for the module ``time`` in the code of the nodes."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def time(self) -> float:
        return PROCESS.get().wall()

    def time_ns(self) -> int:
        return int(PROCESS.get().wall() * 1e9)

    def monotonic(self) -> float:
        return self._loop.time()
