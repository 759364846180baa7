"""The engine as other nodes reach it through the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from broker.engine import Engine
from broker.message import Message, Run
from broker.ports import Stage


class RulesFace:
    """The engine as rules see it (:class:`plugins.stages.Surroundings`)."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop

    def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
        """A rule said something without a message's occasion."""
        if self._engine.ruling is not None:
            self._engine.ruling.publish_emitted(stage, messages, self._loop.time())

    def dead(self, messages: Sequence[Message]) -> None:
        """Rules could not work on messages: tell those of this node who want to know."""
        # Soon, not in the middle of a batch that is being published.
        self._loop.call_soon(lambda: self._engine.deliver_here(messages, self._loop.time()))

    def rules_changed(self) -> None:
        """Other topics have rules than before."""
        self._engine.subscriptions.invalidate_all()


class EngineFace:
    """The engine as the mesh sees it (:class:`broker.ports.LocalNode`): with the event loop's clock bound."""

    def __init__(
        self, engine: Engine, loop: asyncio.AbstractEventLoop, marks: dict[str, tuple[int, int]]
    ) -> None:
        self._engine = engine
        self._marks = marks
        self._time = loop.time

    def remote_interest(self, node: str, added: Iterable[str], removed: Iterable[str]) -> None:
        """Another node's interest changed."""
        self._engine.remote_interest(node, added, removed)

    def remote_gone(self, node: str) -> None:
        """Forget all interest of a node."""
        self._engine.remote_gone(node)

    def deliver_from_mesh(self, batch: Sequence[Message | Run]) -> None:
        """Deliver to local sessions."""
        self._engine.deliver_from_mesh(batch, self._time())

    @property
    def crowded(self) -> bool:
        """Whether what can wait should."""
        return self._engine.crowd.is_waited_for(self._time())

    def marks(self) -> dict[str, tuple[int, int]]:
        """How far earlier processes have heard other nodes."""
        return self._marks

    def heard(self, sender: str, epoch: int, sequence: int) -> None:
        """Keep a mark with what was delivered."""
        if self._engine.store is not None:
            self._engine.store.mark(sender, epoch, sequence)

    def commit(self, on_safe: Callable[[], None]) -> None:
        """Tell when all that was handed over is safe."""
        if self._engine.store is not None:
            self._engine.store.commit(on_safe)
        else:
            on_safe()

    def retained_from_mesh(self, batch: Sequence[Message]) -> None:
        """Store other nodes' retained messages."""
        self._engine.retained_from_mesh(batch, self._time())

    def local_filters(self) -> Iterable[str]:
        """The distinct local topic filters."""
        return self._engine.local_filters()

    def retained_messages(self) -> Iterable[Message]:
        """What may be told to other nodes."""
        return self._engine.retained_messages()

    def retained_of(self, topics: Iterable[str]) -> Iterable[Message]:
        """Those of these topics."""
        known = map(self._engine.retained.known, topics)
        return (message for message in known if message is not None)
