"""QoS 2 messages on their way from the store to other nodes: a crash neither doubles them nor loses one.

Two databases cannot be written in one transaction. So the store alone decides whether a message was taken: it keeps it,
together with the publisher's packet identifier. Then the message is handed to the mesh, which writes its number beside
it, and sends nothing before that is on disk. Only then the store lets go. What the store has and the mesh has not after
a crash is handed over again. What else the publisher publishes meanwhile above QoS 0 waits in line, so that all keep
their order. After a crash those of one QoS do [MQTT-4.6.0-6]: what was not yet safe at QoS 1 is published again, behind
what was at QoS 2. So QoS 1 is not kept here: some of it would overtake what was published before. Wills are, as nobody
publishes them again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial

from broker.message import Delivery, OnceMessage, once
from broker.ports import Mesh, Outbound, Store, Stored

_SLICE = 1000
"""Messages that are read at a time at the start."""

Nodes = Callable[[str], tuple[str, ...]]


class _Group:
    """Messages of one batch, in line for the mesh."""

    __slots__ = ("batch", "deliveries", "is_kept", "on_safe", "over")

    def __init__(
        self,
        batch: Sequence[Outbound],
        deliveries: Sequence[Delivery],
        over: Sequence[int],
        on_safe: Callable[[], None],
    ) -> None:
        self.batch = batch
        self.deliveries = deliveries
        """What of it the store keeps until the mesh has it."""
        self.over = over
        """Numbers that the store has let go of on disk when this is there."""
        self.on_safe = on_safe
        self.is_kept = False


class Crossings:
    """``last`` is the greatest number that the store has. All calls are made on the event loop."""

    def __init__(self, store: Store, mesh: Mesh, last: int) -> None:
        self._store = store
        self._mesh = mesh
        self._place = store.crossings()
        self._last = max([last, *mesh.crossed])
        self._over: list[int] = []
        """Numbers that the store was told to let go since the last commit was asked for."""
        self._line: deque[_Group] = deque()
        self.busy: Counter[str] = Counter()
        """Publishers (client identifiers) with messages in line: what else they publish has to go behind them."""
        self._stopped = False

    def begin(self, batch: Sequence[Outbound], on_safe: Callable[[], None]) -> None:
        """Keep each :class:`OnceMessage`, then hand all over, in order; ``on_safe`` when the mesh has them."""
        deliveries = [self._number(item.message) for item in batch if isinstance(item.message, OnceMessage)]
        for delivery in deliveries:
            self._place.add(delivery, False)
        over: list[int] = []
        if deliveries:
            # What was let go is written with them; the commit of others may be one that is under way already.
            over, self._over = self._over, over
        self.busy.update(item.message.publisher for item in batch)
        group = _Group(batch, deliveries, over, on_safe)
        self._line.append(group)
        self._store.commit(partial(self._kept, group))

    def resume(self, nodes: Nodes, done: Callable[[], None]) -> None:
        """Hand over what an earlier process began to, then call ``done``; ``nodes(topic)`` is whom it concerns."""
        self._resume_from(1, nodes, set(self._mesh.crossed), done)

    def stop(self) -> None:
        """The mesh is about to stop: what is under way stays with the store."""
        self._stopped = True

    def _number(self, message: OnceMessage) -> Delivery:
        self._last = message.crossing = self._last + 1
        return message, message.qos, message.retain, b"", self._last

    def _kept(self, group: _Group) -> None:
        """The store has what it should of a group."""
        group.is_kept = True
        while self._line and self._line[0].is_kept and not self._stopped:
            first = self._line.popleft()
            self._leaves_line(first)
            self._hand_over(first)

    def _leaves_line(self, group: _Group) -> None:
        busy = self.busy
        for item in group.batch:
            publisher = item.message.publisher
            busy[publisher] -= 1
            if not busy[publisher]:
                del busy[publisher]

    def _hand_over(self, group: _Group) -> None:
        if group.over:
            self._mesh.forget_crossed(group.over)
        crossed = partial(self._crossed, group.deliveries, group.on_safe)
        left = [item for item in group.batch if not item.message.is_withdrawn]
        if not (left and self._mesh.forward(left, crossed)):
            crossed()

    def _crossed(self, deliveries: Sequence[Delivery], on_safe: Callable[[], None]) -> None:
        """The mesh has them on disk, or nobody is to have them."""
        if self._stopped:
            return
        for delivery in deliveries:
            self._place.done(delivery)
            self._over.append(delivery[4])
        on_safe()

    def _resume_from(self, first: int, nodes: Nodes, crossed: set[int], done: Callable[[], None]) -> None:
        self._place.load(first, _SLICE, lambda stored: self._resumed(stored, nodes, crossed, done))

    def _resumed(self, stored: Stored, nodes: Nodes, crossed: set[int], done: Callable[[], None]) -> None:
        """``crossed`` are the numbers that the mesh has, but for those that were found in the store already."""
        found = [delivery for delivery, _ in stored.deliveries]
        self._crossed([delivery for delivery in found if delivery[4] in crossed], _nothing)
        owed = [delivery for delivery in found if delivery[4] not in crossed]
        crossed.difference_update(delivery[4] for delivery in found)
        batch = [
            Outbound(once(message, None, 0, number), nodes(message.topic)) for message, *_, number in owed
        ]
        self._hand_over(_Group(batch, owed, (), _nothing))
        if not stored.complete:
            self._resume_from(found[-1][4] + 1, nodes, crossed, done)
            return
        if crossed:
            # The store has let go of them.
            self._mesh.forget_crossed(sorted(crossed))
        done()


def _nothing() -> None:
    """Nobody waits."""
