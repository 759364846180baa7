"""The store as the event loop sees it: changes are gathered into a group while the one before is at the disk.

No threads and no clock in here: when a group should go, and who takes it there, is a matter of the class that
derives from this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from broker.message import Delivery, Message
from broker.ports import SessionStore, SessionTerms, Stored, StoredWill
from broker.store.group import Group, Load
from broker.subscriptions import Held

AT_ONCE = 0.0
SOON = 0.002
"""Seconds for which live deliveries may be acknowledged before they are written: most then need not be."""
PROMPTLY = 0.05
"""Seconds until what nobody waits for, but a crash should not undo, is written."""
LEISURELY = 1.0
"""Seconds for which all else is gathered: flash memory wears out by commits, not by rows."""

_MANY = 50_000
"""Deliveries in one group beyond which publishers wait."""


class GatheringStore:
    """A :class:`broker.ports.Store` that gathers."""

    def __init__(self, next_session: int) -> None:
        self.group = Group()
        self.failing = False
        self.owes = False
        self._next_session = next_session
        self._at_disk: Group | None = None
        self._delay = inf

    # -- to be said by the class that derives ------------------------------------------------------------

    def _write_within(self, seconds: float) -> None:
        """Have :meth:`_next_group` called within a time; never before this returns."""
        raise NotImplementedError

    def release_soon(self) -> None:
        """Have :meth:`_release` called soon; never before this returns."""
        raise NotImplementedError

    def wall(self) -> float:
        """The time, in wall-clock seconds."""
        raise NotImplementedError

    # -- groups ------------------------------------------------------------------------------------------

    def due(self, delay: float) -> None:
        """The group should be at the disk within so many seconds."""
        if delay < self._delay:
            self._delay = delay
            if self._at_disk is None:
                self._write_within(delay)

    def _next_group(self) -> Group | None:
        """The group that goes to the disk now; None where the last one is still there, or there is nothing."""
        if self._at_disk is not None or not self.group:
            return None
        self._at_disk, self.group = self.group, Group()
        self._delay = inf
        return self._at_disk

    def _written(self, group: Group) -> None:
        """The group is on disk: tell those who wait, and see to the next."""
        self._at_disk = None
        for on_safe in group.waiting:
            on_safe()
        if self._delay < inf and self._at_disk is None:
            self._write_within(self._delay)

    def _release(self) -> None:
        """All deliveries of the group are over before any was written: nobody has to wait for it."""
        if self.group.needs_disk or not self.group.waiting:
            return
        waiting, self.group.waiting = self.group.waiting, []
        if self._at_disk is not None:
            # They may wait for the group before, as well.
            self._at_disk.waiting += waiting
            return
        for on_safe in waiting:
            on_safe()

    # -- broker.ports.Store ------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """See the port."""
        return len(self.group.adds) > _MANY

    def retain(self, message: Message) -> None:
        """A topic's newest message replaces those that have not been written yet."""
        self.group.retained[message.topic] = message
        self.due(LEISURELY)

    def commit(self, on_safe: Callable[[], None]) -> None:
        """See the port."""
        group = self.group
        group.waiting.append(on_safe)
        if group.retained:
            group.matters = True
        if group.matters:
            self.due(AT_ONCE)
        elif group.adds:
            self.due(SOON)
        else:
            self.release_soon()

    def session(self, key: int = 0) -> SessionStore:
        """See the port."""
        if not key:
            key = self._next_session
            self._next_session += 1
        return SessionPlace(self, key)

    def will(self, client_id: str, will: StoredWill | None) -> None:
        """See the port."""
        self.group.wills[client_id] = will
        self.due(PROMPTLY)

    def mark(self, sender: str, epoch: int, sequence: int) -> None:
        """See the port. What is heard again for want of a mark was acknowledged, or is in this group, too."""
        self.group.marks[sender] = (epoch, sequence)
        self.due(LEISURELY)


class SessionPlace:
    """A :class:`broker.ports.SessionStore`."""

    __slots__ = ("_key", "_store")

    def __init__(self, store: GatheringStore, key: int) -> None:
        self._store = store
        self._key = key

    def save(self, terms: SessionTerms, left_at: float) -> None:
        """See the port."""
        self._store.group.sessions[self._key] = (terms, left_at)
        self._store.due(PROMPTLY)

    def subscribe(self, name: str, held: Held) -> None:
        """See the port."""
        self._changed(self._store.group.subscriptions, name, held)

    def unsubscribe(self, name: str) -> None:
        """See the port."""
        self._changed(self._store.group.subscriptions, name, None)

    def _changed(self, part: dict[tuple[int, str], Held | None], name: str, held: Held | None) -> None:
        part[(self._key, name)] = held
        self._store.group.matters = True
        self._store.due(PROMPTLY)

    def add(self, delivery: Delivery, live: bool) -> None:
        """See the port."""
        store = self._store
        group = store.group
        group.adds[(self._key, delivery[4])] = delivery
        store.owes = True
        if not live:
            group.matters = True
            store.due(AT_ONCE)

    def done(self, delivery: Delivery) -> None:
        """A delivery that has not been written need not be any more."""
        store = self._store
        group = store.group
        name = (self._key, delivery[4])
        if group.adds.pop(name, None) is None:
            group.dones[name] = delivery[0]
            store.due(LEISURELY)
        elif not group.adds and group.waiting and not group.matters:
            store.release_soon()

    def sent(self, deliveries: Iterable[Delivery]) -> None:
        """See the port."""
        self._store.group.sent.update((self._key, delivery[4]) for delivery in deliveries)
        self._store.due(PROMPTLY)

    def released(self, packet_id: int, delivery: Delivery) -> None:
        """See the port."""
        self.done(delivery)
        self._store.group.releasing[(self._key, packet_id)] = delivery[4]
        self._store.group.matters = True

    def completed(self, packet_id: int) -> None:
        """See the port."""
        self._store.group.releasing[(self._key, packet_id)] = None
        self._store.due(LEISURELY)

    def received(self, packet_id: int) -> None:
        """See the port."""
        self._store.group.incoming[(self._key, packet_id)] = True
        self._store.group.matters = True
        self._store.owes = True

    def forgotten(self, packet_id: int) -> None:
        """See the port."""
        self._store.group.incoming[(self._key, packet_id)] = False
        self._store.group.matters = True

    def commit(self, on_safe: Callable[[float], None]) -> None:
        """See the port."""
        self._store.commit(lambda: on_safe(self._store.wall()))

    def load(self, first: int, count: int, done: Callable[[Stored], None]) -> None:
        """See the port."""
        self._store.group.loads.append(Load(self._key, first, count, done))
        self._store.due(AT_ONCE)

    def end(self) -> None:
        """See the port."""
        self._store.group.ended.add(self._key)
        self._store.due(PROMPTLY)
