"""A broker over a real database, whose commits come when a test says so, and which can crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from broker.store.database import Database
from broker.store.gathering import GatheringStore
from tests.engine.harness import WALL, Broker


class StepStore(GatheringStore):
    """A store without a thread: nothing is written but by :meth:`step`."""

    def __init__(self, database: Database, broker: DurableBroker) -> None:
        super().__init__(database.next_session())
        self.database = database
        self._broker = broker
        self._wants_release = False
        self.rows = 0
        """Deliveries that were written."""

    def _write_within(self, seconds: float) -> None:
        """Only :meth:`step` writes."""

    def release_soon(self) -> None:
        self._wants_release = True

    def wall(self) -> float:
        return WALL + self._broker.jumped + self._broker.now - 100.0

    def release(self) -> None:
        """What the event loop would do before anything else: tell those who need not wait any more."""
        if self._wants_release:
            self._wants_release = False
            self._release()
            self._broker.engine.flush()

    def begin(self) -> None:
        """A group leaves for the disk, and is written; nobody has been told."""
        group = self._next_group()
        if group is not None:
            self.database.write(group)
            self.rows += len(group.adds)

    def finish(self) -> None:
        """Those who wait for the group that was written are told."""
        group = self._at_disk
        if group is not None:
            loaded = [(request.done, self.database.load(request, self.wall())) for request in group.loads]
            self._written(group)
            for done, stored in loaded:
                done(stored)
            self._broker.engine.flush()

    def step(self) -> bool:
        """Write one group and tell; whether there was one."""
        busy = bool(self.group or self._young or self._at_disk is not None or self._wants_release)
        self.finish()
        self.begin()
        self.finish()
        self.release()
        return busy


class DurableBroker(Broker):
    """An engine over a database, recovered from it."""

    def __init__(self, database: Database, now: float = 100.0, jumped: float = 0.0, **limits: Any) -> None:
        super().__init__(**limits)
        self.now = now
        self.jumped = jumped
        self.limits = limits
        self.engine.wall_offset = WALL + jumped - 100.0
        self.engine.roster.now = now
        self.store = StepStore(database, self)
        self.engine.store = self.store
        wall = self.store.wall()
        database.settle(wall)
        self.engine.restore(database.retained(), wall)
        for session in database.sessions():
            self.engine.restore_session(session, self.store, now)
        for client_id, will in database.wills():
            self.engine.roster.restore_will(client_id, will, now)

    def settle(self) -> None:
        """Write until nothing is left to be written."""
        while self.store.step():
            pass

    def crashed(self, after: float = 0.0) -> DurableBroker:
        """The process dies with all that was not written; its successor, so many seconds later."""
        return DurableBroker(self.store.database, self.now + after, self.jumped, **self.limits)


def database() -> Database:
    """A database in memory: SQLite's own, without the file."""
    return Database(Path(":memory:"))
