"""What a node has on disk: written when chance says so, with nothing but what was written before a crash."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from broker.message import Message
from edge_mesh.outbox import Outbox
from edge_mesh.outbox_store import Entry

Later = Callable[[float, Callable[[], None]], None]


class StepOutbox(Outbox):
    """The outbox without its thread. It audits its own accounts after each group that it has written.

    ``delays()`` is how long the disk takes, in seconds; ``later`` calls back, unless the node has died;
    ``written(wall)`` is told when the file was last written to.
    """

    def __init__(
        self,
        path: Path | None,
        retention: float,
        capacity: int,
        *,
        wall: Callable[[], float],
        steady: Callable[[], float],
        delays: Callable[[], float],
        later: Later,
        written: Callable[[float], None],
    ) -> None:
        super().__init__(path, retention, capacity, wall=wall, steady=steady)
        self._delays = delays
        self._later = later
        self._written = written
        self._writing = False
        self._taken: Counter[str] = Counter()
        self._at_start = {name: ledger.accepted for name, ledger in self._ledgers.items()}
        commands: Any = _Commands(self._begin_soon)
        self._commands = commands
        written(wall())

    def start(self, loop: Any) -> None:
        """Callbacks come at once: the world calls them as a part of the node."""
        direct: Any = _Direct()
        self._loop = direct

    async def close(self) -> None:
        """Write what is left, then close the file."""
        self._write_group()
        self._store.close()

    def crash(self) -> frozenset[int]:
        """What was not committed is gone; the numbers of the crossings that are not."""
        crossed = self._store._db.execute("SELECT value FROM meta WHERE name LIKE 'crossed %'").fetchall()
        self._store._db.close()
        return frozenset(number for (number,) in crossed)

    def _begin_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._later(self._delays(), self._write_group)

    def _write_group(self) -> None:
        self._writing = False
        group: list[Any] = []
        try:
            while True:
                group.append(self._commands.get_nowait())
        except queue.Empty:
            pass
        self._write(group)
        self._written(self._wall())

    def _write(self, group: list[Any]) -> bool:
        # What waits for the commit is called after the audit: it may ask for more.
        direct: Any = self._loop
        direct.hold()
        result = super()._write(group)
        self.audit()
        direct.release()
        return result

    def _add(self, entries: Sequence[Entry], now: float, size: int) -> None:
        for entry in entries:
            self._taken.update(name for name, _ in entry.targets)
        super()._add(entries, now, size)

    def audit(self) -> None:
        """AssertionError unless every account balances, and says what is in the file."""
        waiting: Mapping[str, int] = dict(
            self._store._db.execute(
                "SELECT name, COUNT(*) FROM pointer JOIN peer ON peer.id = destination GROUP BY name"
            )
        )
        for name in {*self._ledgers, *self._taken}:
            ledger = self.ledger(name)
            assert ledger.balanced, f"the account for {name} does not balance: {ledger}"
            assert ledger.queued == waiting.get(name, 0), f"{waiting.get(name, 0)} wait for {name}: {ledger}"
            taken = self._at_start.get(name, 0) + self._taken[name]
            assert ledger.accepted == taken, f"{taken} were taken for {name}: {ledger}"


class _Commands(queue.SimpleQueue):  # type: ignore[type-arg]
    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item)
        self._wake()


class _Direct:
    """Calls that would come from a thread."""

    def __init__(self) -> None:
        self._held: list[Callable[[], None]] | None = None

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for call in held:
            call()

    def call_soon_threadsafe(self, call: Callable[..., None], *arguments: Any) -> None:
        assert self._held is not None
        self._held.append(lambda: call(*arguments))


class Store:
    """What the sessions of a node have: each message with the mark up to which its sender was heard."""

    def __init__(self) -> None:
        self.marks: dict[str, tuple[int, int]] = {}
        self.heard: dict[str, list[int]] = {}
        """Origin -> numbers of the publications above QoS 0, in order."""
        self.retained: dict[str, Message] = {}

    def copy(self) -> Store:
        found = Store()
        found.marks = dict(self.marks)
        found.heard = {origin: list(numbers) for origin, numbers in self.heard.items()}
        found.retained = dict(self.retained)
        return found
