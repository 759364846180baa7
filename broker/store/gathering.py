"""The store as the event loop sees it: changes are gathered into a group while the one before is at the disk.

No threads and no clock in here: when a group should go, and who takes it there, is a matter of the class that
derives from this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from broker.message import Delivery, Message
from broker.ports import SessionStore, SessionTerms, Stored, StoredWill
from broker.store.group import CROSSINGS, Group, Load
from broker.subscriptions import Held

AT_ONCE = 0.0
SOON = 0.004
"""Seconds for which live deliveries may be acknowledged before they are written, at least: most then need not be."""
PROMPTLY = 0.05
"""Seconds until what nobody waits for, but a crash should not undo, is written."""
LEISURELY = 1.0
"""Seconds for which all else is gathered: flash memory wears out by commits, not by rows."""

_MANY = 50_000
"""Deliveries that wait for the disk beyond which publishers wait."""

_Name = tuple[int, int]


class _Ticket:
    """Somebody waits for so many deliveries: until each is on disk, or over."""

    __slots__ = ("left", "on_safe")

    def __init__(self, on_safe: Callable[[], None], left: int) -> None:
        self.on_safe = on_safe
        self.left = left


class GatheringStore:
    """A :class:`broker.ports.Store` that gathers.

    Live deliveries are young at first. What has not been acknowledged after a while joins the group, and is
    written; what is, never is.
    """

    def __init__(self, next_session: int) -> None:
        self.group = Group()
        self.failed = False
        """Whether the last group could not be written."""
        self.short = False
        """Whether the disk is nearly full, and should be spared."""
        self.owes = False
        self._young: dict[_Name, Delivery] = {}
        self._fresh: list[_Name] = []
        """The live deliveries that nobody has a ticket for yet."""
        self._tickets: dict[_Name, _Ticket] = {}
        self._resolved: list[Callable[[], None]] = []
        self._firm = False
        """Whether something else was handed over since the last commit was asked for."""
        self._next_session = next_session
        self._at_disk: Group | None = None
        self._delay = inf

    @property
    def failing(self) -> bool:
        """See the port."""
        return self.failed or self.short

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
        if self._at_disk is not None:
            return None
        young, self._young = self._young, {}
        if self._delay <= AT_ONCE:
            self.group.adds.update(young)
            young = {}
        leaving = self.group
        self.group = Group()
        self.group.adds = young
        self._delay = inf
        self._fresh = []
        self._firm = False
        if young:
            self.due(SOON)
        if not leaving:
            return None
        self._at_disk = leaving
        return leaving

    def _written(self, group: Group) -> None:
        """The group is on disk: tell those who wait, and see to the next."""
        self._at_disk = None
        waiting = group.waiting
        tickets = self._tickets
        for name in group.adds:
            ticket = tickets.pop(name, None)
            if ticket is not None:
                ticket.left -= 1
                if not ticket.left:
                    waiting.append(ticket.on_safe)
        for on_safe in waiting:
            on_safe()
        if self._delay < inf and self._at_disk is None:
            self._write_within(self._delay)

    def _drop_withdrawn(self, group: Group) -> None:
        """What was refused after all is not written; the group is not at the disk while this is called."""
        for name in [name for name, delivery in group.adds.items() if delivery[0].is_withdrawn]:
            del group.adds[name]
            self._over(name)

    def drop_refused(self) -> None:
        """Something else refused messages that may be here as well: they are not written, or removed again."""
        self._drop_withdrawn(self.group)
        if self._at_disk is not None:
            for name, delivery in self._at_disk.adds.items():
                if delivery[0].is_withdrawn:
                    self.group.dones[name] = delivery[0]
                    self.due(LEISURELY)

    def _release(self) -> None:
        """Tell those who need not wait for the disk."""
        resolved, self._resolved = self._resolved, []
        for on_safe in resolved:
            on_safe()

    # -- broker.ports.Store ------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """See the port."""
        return len(self.group.adds) + len(self._young) > _MANY

    def add(self, name: _Name, delivery: Delivery, live: bool) -> None:
        """See :meth:`broker.ports.SessionStore.add`."""
        self.owes = True
        if live:
            self._young[name] = delivery
            self._fresh.append(name)
        else:
            self.group.adds[name] = delivery
            self.matters()

    def done(self, name: _Name, delivery: Delivery) -> None:
        """See :meth:`broker.ports.SessionStore.done`: what has not been written need not be any more."""
        if self._young.pop(name, None) is None and self.group.adds.pop(name, None) is None:
            self.group.dones[name] = delivery[0]
            self.due(LEISURELY)
            return
        self._over(name)

    def _over(self, name: _Name) -> None:
        """A delivery need not be written: nobody waits for it any more."""
        ticket = self._tickets.pop(name, None)
        if ticket is not None:
            ticket.left -= 1
            if not ticket.left:
                self._resolve(ticket.on_safe)

    def matters(self) -> None:
        """Something was handed over that has to be on disk before anybody is told about it."""
        self._firm = self.group.matters = True

    def _resolve(self, on_safe: Callable[[], None]) -> None:
        self._resolved.append(on_safe)
        if len(self._resolved) == 1:
            self.release_soon()

    def commit(self, on_safe: Callable[[], None]) -> None:
        """See the port."""
        group = self.group
        fresh, self._fresh = self._fresh, []
        if self._firm:
            self._firm = False
            group.waiting.append(on_safe)
            self.due(AT_ONCE)
            return
        live = [name for name in fresh if name in self._young]
        if live:
            ticket = _Ticket(on_safe, len(live))
            for name in live:
                self._tickets[name] = ticket
            self.due(SOON)
        elif group.matters:
            # The caller may have handed over something of it, and asks for the second time.
            group.waiting.append(on_safe)
        elif self._at_disk is not None:
            self._at_disk.waiting.append(on_safe)
        else:
            self._resolve(on_safe)

    def retain(self, message: Message) -> None:
        """A topic's newest message replaces those that have not been written yet."""
        self.group.retained[message.topic] = message
        if message.qos:
            self.matters()
        self.due(LEISURELY)

    def clock_jumped(self, by: float) -> Iterable[Message]:
        """See the port."""
        group = self.group
        group.shift += by
        for key, (terms, left_at) in group.sessions.items():
            group.sessions[key] = (terms, left_at and left_at + by)
        for client_id, will in group.wills.items():
            if will is not None and will.due:
                group.wills[client_id] = will._replace(due=will.due + by)
        self.due(PROMPTLY)
        # What is at the disk right now may be moved twice: it then lives longer.
        return [
            *(delivery[0] for delivery in (*group.adds.values(), *self._young.values())),
            *group.retained.values(),
        ]

    def session(self, key: int = 0) -> SessionStore:
        """See the port."""
        if not key:
            key = self._next_session
            self._next_session += 1
        return SessionPlace(self, key)

    def crossings(self) -> SessionStore:
        """See the port."""
        return SessionPlace(self, CROSSINGS)

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

    __slots__ = ("_is_over", "_key", "_store")

    def __init__(self, store: GatheringStore, key: int) -> None:
        self._store = store
        self._key = key
        self._is_over = False

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
        self._store.matters()
        self._store.due(PROMPTLY)

    def add(self, delivery: Delivery, live: bool) -> None:
        """See the port."""
        self._store.add((self._key, delivery[4]), delivery, live)

    def done(self, delivery: Delivery) -> None:
        """See the port."""
        self._store.done((self._key, delivery[4]), delivery)

    def sent(self, deliveries: Iterable[Delivery]) -> None:
        """See the port."""
        self._store.group.sent.update((self._key, delivery[4]) for delivery in deliveries)
        self._store.due(PROMPTLY)

    def released(self, packet_id: int, delivery: Delivery) -> None:
        """See the port."""
        self.done(delivery)
        self._store.group.releasing[(self._key, packet_id)] = delivery[4]
        self._store.matters()

    def completed(self, packet_id: int) -> None:
        """See the port."""
        self._store.group.releasing[(self._key, packet_id)] = None
        self._store.due(LEISURELY)

    def received(self, packet_id: int) -> None:
        """See the port."""
        if self._is_over:
            # Rules were at work on the message when its session ended; another session may have this key one day.
            return
        self._store.group.incoming[(self._key, packet_id)] = True
        self._store.matters()
        self._store.owes = True

    def forgotten(self, packet_id: int) -> None:
        """See the port."""
        self._store.group.incoming[(self._key, packet_id)] = False
        self._store.matters()

    def commit(self, on_safe: Callable[[float], None]) -> None:
        """See the port."""
        self._store.commit(lambda: on_safe(self._store.wall()))

    def load(self, first: int, count: int, done: Callable[[Stored], None]) -> None:
        """See the port."""
        self._store.group.loads.append(Load(self._key, first, count, done))
        self._store.due(AT_ONCE)

    def end(self) -> None:
        """See the port."""
        self._is_over = True
        self._store.group.ended.add(self._key)
        self._store.due(PROMPTLY)
