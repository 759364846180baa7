"""Lanes of one region that catch up together: what several of them miss crosses the link once.

After a cut all nodes of a region come back at about the same time, and miss the same. They are waited for, for a
moment, then what they miss is read from the outbox for all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_mesh.lanes import DURABLE_BYTES, MAX_RECORDS, READ_BYTES, SendingLane, Step
from edge_mesh.outbox import Outbox
from edge_mesh.outbox_store import SharedRow

GATHER_SECONDS = 0.1
"""How long others are waited for before the first message is read."""

Send = Callable[[list[tuple[SendingLane, Step]], list[bytes], list[int]], None]


class Convoy:
    """``send(steps, records, masks)`` puts records that the lanes have booked. Called on the event loop."""

    def __init__(self, outbox: Outbox, send: Send) -> None:
        self._outbox = outbox
        self._send = send
        self._lanes: list[SendingLane] = []
        self._departed = False
        self._reading = False

    @property
    def gathers(self) -> bool:
        """Whether lanes may still join."""
        return not self._departed

    def join(self, lane: SendingLane) -> None:
        """The lane waits for the others, and goes with them."""
        if lane not in self._lanes:
            self._lanes.append(lane)
        lane.convoy = self

    def depart(self) -> None:
        """Nobody is waited for any longer."""
        self._departed = True
        self.pump()

    def leave(self, lane: SendingLane) -> None:
        """The lane goes its own way; the others need not wait for it."""
        lane.convoy = None
        if lane in self._lanes:
            self._lanes.remove(lane)

    def dissolve(self) -> None:
        """All go their own ways."""
        for lane in tuple(self._lanes):
            self.leave(lane)
            lane.pump()

    def pump(self) -> None:
        """Read on in the outbox, as far as the lanes' windows allow."""
        if not self._departed or self._reading or not self._lanes:
            return
        slow = [lane for lane in self._lanes if not lane.has_room]
        if slow:
            if not any(lane.is_idle for lane in self._lanes):
                return
            # They are a whole window behind those who have everything: nobody waits for them any longer.
            for lane in slow:
                self.leave(lane)
        self._reading = True
        started = [(lane, lane.generation, lane.last) for lane in self._lanes]
        self._outbox.read_together(
            [(lane.receiver, lane.sent_up_to) for lane in self._lanes],
            READ_BYTES,
            lambda rows, complete: self._on_read(rows, complete, started),
        )

    def _on_read(
        self, rows: Sequence[SharedRow], complete: bool, started: list[tuple[SendingLane, int, int]]
    ) -> None:
        self._reading = False
        # Who has left, or begun again, meanwhile reads for itself.
        current = {
            lane.receiver: lane
            for lane, generation, _ in started
            if lane.convoy is self and lane.generation == generation
        }
        run = _Run(self._send)
        for record, targets in rows:
            run.add(record, [(current[name], sequence) for name, sequence in targets if name in current])
        run.end()
        for lane, _, last in started:
            if lane.receiver in current and (
                lane.sent_up_to == lane.last or (complete and last == lane.last)
            ):
                self.leave(lane)
                lane.direct = True
        self.pump()


class _Run:
    """Rows whose sequences follow each other without a gap in each lane, for one envelope."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._records: list[bytes] = []
        self._masks: list[int] = []
        self._size = 0
        self._first: dict[SendingLane, int] = {}
        self._counts: dict[SendingLane, int] = {}
        self._sizes: dict[SendingLane, int] = {}

    def add(self, record: bytes, targets: list[tuple[SendingLane, int]]) -> None:
        if not targets:
            return
        fits = len(self._records) < MAX_RECORDS and self._size < DURABLE_BYTES
        if not fits or any(
            lane in self._first and sequence != self._first[lane] + self._counts[lane]
            for lane, sequence in targets
        ):
            self.end()
        mask = 0
        for lane, sequence in targets:
            mask |= lane.bit
            self._first.setdefault(lane, sequence)
            self._counts[lane] = self._counts.get(lane, 0) + 1
            self._sizes[lane] = self._sizes.get(lane, 0) + len(record)
        self._records.append(record)
        self._masks.append(mask)
        self._size += len(record)

    def end(self) -> None:
        if self._records:
            steps = [
                (lane, lane.book(first, self._counts[lane], self._sizes[lane]))
                for lane, first in self._first.items()
            ]
            self._send(steps, self._records, self._masks)
        self._records, self._masks, self._size = [], [], 0
        self._first.clear()
        self._counts.clear()
        self._sizes.clear()
