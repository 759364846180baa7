"""The two lanes to another node, and the durable one from it.

The live lane may drop. The durable lane counts: each envelope names its first sequence and the one before it
(``after``), so that the receiver sees a gap; it acknowledges what it has safely, and asks again for what is
missing. The sender needs no memory but the outbox: it can begin again at any sequence.

Epochs only rise: what a sender's former life has sent, and comes late, is refused. They are times, and clocks are set
back: then the receiver's answer tells the sender which epoch it has to exceed.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from broker.message import Message
from broker.ports import LocalNode
from edge_mesh import envelope
from edge_mesh.control import Ack
from edge_mesh.envelope import Header
from edge_mesh.keys import Keys
from edge_mesh.link import CONTROL, DURABLE, Link, Sender
from edge_mesh.live_puts import LivePuts
from edge_mesh.outbox import Outbox
from edge_mesh.outbox_store import Row

logger = logging.getLogger("geomq.mesh.lanes")

LIVE_BYTES = 48 << 10
"""A live envelope is sent when it has this size: it then fits into one of Zenoh's batches."""
DURABLE_BYTES = 256 << 10
MAX_RECORDS = 1000
_DIRECT_BYTES = 128 << 10
"""Up to so much on its way is put by the loop itself, which saves a thread's latency. Zenoh may drop it then:
the receiver sees the gap."""
READ_BYTES = 128 << 10

Times = Callable[[], tuple[float, float]]
"""(wall-clock seconds, seconds of a clock that never jumps)."""


@dataclass(frozen=True, slots=True)
class Stand:
    """What all lanes of a node have in common."""

    node: str
    keys: Keys
    link: Link
    outbox: Outbox
    local: LocalNode
    durable: bool
    """Whether marks are kept over restarts: acknowledgements then wait for the disk."""
    times: Times
    later: Callable[[float, Callable[[], None]], object]
    """Calls back after so many seconds."""
    window: int
    """Bytes on their way to one node and not acknowledged; what is beyond waits in the outbox."""
    retry: float
    """Seconds without an acknowledgement after which the sender asks for one."""


class Step(NamedTuple):
    """Sequences that a lane has given to records that are about to be sent."""

    after: int
    first: int
    total: int


class Traffic:
    """What was put towards a region; what its gateway hands on counts once."""

    __slots__ = ("messages", "size")

    def __init__(self) -> None:
        self.messages = 0
        self.size = 0
        """Bytes of envelopes, before compression."""

    def add(self, messages: int, size: int) -> None:
        """An envelope went."""
        self.messages += messages
        self.size += size


class Party(Protocol):
    """Lanes that catch up together, as one of them sees it."""

    def pump(self) -> None:
        """Read on in the outbox, as far as the lanes' windows allow."""

    def leave(self, lane: SendingLane) -> None:
        """The lane goes its own way; the others need not wait for it."""


class Collector(Protocol):
    """Where messages are collected for a lane, as it sees it."""

    def resumed(self, lane: SendingLane) -> None:
        """The lane is about to catch up, alone or with others."""

    def leave(self, lane: SendingLane) -> None:
        """What was collected for the lane, and must arrive, will be read from the outbox."""

    def drop_live(self, lane: SendingLane) -> None:
        """What was collected for the lane, and may be lost, is."""


class SendingLane:
    """What is owed to one other node, and what of it is on its way. Called on the event loop.

    :class:`edge_mesh.ways.Way` collects what is new and sends it, as long as the lane is ``direct``.
    """

    def __init__(self, stand: Stand, receiver: str) -> None:
        self._node = stand.node
        self._link = stand.link
        self._outbox = stand.outbox
        self._times = stand.times
        self._window = stand.window
        self._retry = stand.retry
        self.receiver = receiver
        self._live_key = stand.keys.live(receiver, stand.node)
        self._durable_key = stand.keys.durable(receiver, stand.node)
        self._sender: Sender | None = None
        self._live = LivePuts(stand.link, f"live-{receiver}")
        self.way: Collector | None = None
        self.bit = 0
        """The lane's bit in the masks of its way."""
        self.alive = False
        self.sent = 0
        """Messages put, on either lane, alone or by way of a gateway; counts what was sent again."""
        self.traffic = Traffic()
        """Where puts are counted: that of the receiver's region."""
        self.sent_bytes = 0
        """Bytes of their records, before compression."""
        self.live_dropped = 0
        self.epoch = stand.outbox.epoch_for(receiver)
        """Counts the sequences: the outbox's own, or a greater one that the receiver has made necessary."""
        self.last = stand.outbox.last_sequence(receiver)
        """The sequence of the newest message."""
        self.direct = False
        """New messages go straight from the publisher to the link; otherwise by way of the outbox."""
        self.pending = 0
        """The newest messages that the way has collected, and has not sent."""
        self.pending_bytes = 0
        self._acknowledged = 0
        self.sent_up_to = 0
        """The sequence of the newest message that was sent since the lane began anew."""
        self._chain = 0
        self._inflight: deque[tuple[int, int]] = deque()
        self._inflight_bytes = 0
        self._threaded_up_to = 0
        self._reading = False
        self.generation = 0
        """How often the lane has begun anew: what was read before is of no use then."""
        self.convoy: Party | None = None
        """Those with whom the lane catches up, if any."""
        self._rewound_to = -1
        self._progress_at = 0.0

    # -- for the way ------------------------------------------------------------------------------------

    def book_pending(self) -> Step | None:
        """Take note that what was collected is sent now; None where it has to wait for the receiver."""
        count, self.pending = self.pending, 0
        size, self.pending_bytes = self.pending_bytes, 0
        if self._inflight_bytes + size > self._window and self._inflight:
            # They are in the outbox, and are read from there when the receiver has caught up.
            self.direct = False
            return None
        return self.book(self.last - count + 1, count, size)

    def put_live(self, records: Sequence[bytes], count: int, now: float) -> None:
        """Send ``count`` messages that may be lost; ``now`` is the wall clock."""
        data = envelope.encode(envelope.LIVE, self._node, records, now)
        if not self._live.put(self._live_key, data):
            self.live_dropped += count
            return
        self.sent += count
        self.sent_bytes += sum(map(len, records))
        self.traffic.add(count, len(data))

    def put_durable(self, records: Sequence[bytes], step: Step) -> None:
        """Send messages that were booked."""
        now, _ = self._times()
        data = envelope.encode(
            envelope.DURABLE,
            self._node,
            records,
            now,
            epoch=self.epoch,
            after=step.after,
            first=step.first,
        )
        self.traffic.add(len(records), len(data))
        if self.light:
            self._link.put_soon(self._durable_key, data, DURABLE)
            return
        if self._sender is None:
            self._sender = self._link.sender(self.receiver)
        self.threaded()
        self._link.put_surely(self._sender, self._durable_key, data, DURABLE)

    @property
    def light(self) -> bool:
        """Whether the loop itself may put what was booked last: there is little on its way, none by a thread."""
        return self._inflight_bytes <= _DIRECT_BYTES and self._acknowledged >= self._threaded_up_to

    @property
    def has_room(self) -> bool:
        """Whether the receiver's window lets more be read from the outbox."""
        return self._inflight_bytes < self._window

    @property
    def is_idle(self) -> bool:
        """Whether everything that was sent is acknowledged."""
        return not self._inflight

    @property
    def is_resting(self) -> bool:
        """Whether everything that there was is acknowledged, and new messages go straight to the link."""
        return self.direct and not self.pending and self.is_idle

    def threaded(self) -> None:
        """What was booked last is put by a thread: what comes now must not overtake it."""
        self._threaded_up_to = self.sent_up_to

    def book(self, first: int, count: int, size: int) -> Step:
        """Take note that these sequences, of so many bytes together, are sent now."""
        after = self._chain
        self._chain = self.sent_up_to = last = first + count - 1
        if not self._inflight:
            _, self._progress_at = self._times()
        self._inflight.append((last, size))
        self._inflight_bytes += size
        self.sent += count
        self.sent_bytes += size
        return Step(after, first, count)

    # -- the receiver's answers -------------------------------------------------------------------------

    def acknowledge(self, ack: Ack) -> None:
        """The receiver told how far it has come, and perhaps that it misses what follows."""
        if ack.epoch != self.epoch:
            if ack.epoch > self.epoch:
                self._outdo(ack.epoch)
            return
        _, clock = self._times()
        mark = ack.mark
        # An outbox that was restored from a copy goes on behind what the receiver knows.
        self.last = max(self.last, mark)
        # Also when it says nothing new: what it tells of may have been read, and sent again, while it was under way.
        inflight = self._inflight
        while inflight and inflight[0][0] <= mark:
            self._inflight_bytes -= inflight.popleft()[1]
        if mark > self._acknowledged:
            self._acknowledged = mark
            self._progress_at = clock
            self._outbox.acknowledge(self.receiver, mark)
        if ack.again and (mark != self._rewound_to or clock - self._progress_at >= self._retry):
            self._rewound_to = mark
            self._travel_alone()
            self._rewind(mark)
        elif not self.direct:
            self.pump()

    # -- beginning again --------------------------------------------------------------------------------

    def resume(self) -> None:
        """The receiver is there (again): send everything that it has not acknowledged."""
        self.alive = True
        self._rewound_to = -1
        self._travel_alone()
        if self.way is not None:
            self.way.resumed(self)
        self._rewind(self._acknowledged)

    def pause(self) -> None:
        """The receiver is gone: what comes now waits in the outbox, or is dropped."""
        self.alive = False
        self._travel_alone()
        if self.way is not None:
            self.way.drop_live(self)
        self._stop_sending()

    def close(self) -> None:
        """The lane is not used any more."""
        self.pause()
        self._live.close()
        if self._sender is not None:
            self._sender.stop()

    def tick(self) -> None:
        """Ask for a sign when nothing was acknowledged for a while."""
        now, clock = self._times()
        if self.alive and self._inflight and clock - self._progress_at >= self._retry:
            self._progress_at = clock
            self._rewound_to = -1
            probe = envelope.encode(
                envelope.DURABLE,
                self._node,
                (),
                now,
                epoch=self.epoch,
                after=self._chain,
                first=self._chain + 1,
            )
            self._link.put_soon(self._durable_key, probe, DURABLE)

    def _outdo(self, epoch: int) -> None:
        """The receiver refuses what this life sends: it has heard one that began later, by a clock that was ahead."""
        logger.warning(
            "node %s has heard a life of this node that began later by its clock: what is for it is counted anew",
            self.receiver,
        )
        self.epoch = epoch + 1
        # What is read from now on is read, and sent, once this is committed.
        self._outbox.keep_epoch(self.receiver, self.epoch)
        self._rewound_to = -1
        self._travel_alone()
        self._rewind(self._acknowledged)

    def _travel_alone(self) -> None:
        if self.convoy is not None:
            self.convoy.leave(self)

    def _stop_sending(self) -> None:
        self.generation += 1
        self._reading = False
        self.direct = False
        if self.way is not None:
            self.way.leave(self)
        self.pending = self.pending_bytes = 0
        self._inflight.clear()
        self._inflight_bytes = 0

    def _rewind(self, to: int) -> None:
        self._stop_sending()
        self.sent_up_to = to
        # What is older than the first message found now does not exist: the receiver need not wait for it.
        self._chain = 0
        _, self._progress_at = self._times()
        self.pump()

    def pump(self) -> None:
        """Read on in the outbox, as far as the window allows."""
        if self.convoy is not None:
            self.convoy.pump()
            return
        if self._reading or self.direct or not self.alive or not self.has_room:
            return
        self._reading = True
        generation, last = self.generation, self.last
        self._outbox.read(
            self.receiver, self.sent_up_to, READ_BYTES, lambda rows: self._on_read(rows, generation, last)
        )

    def _on_read(self, rows: list[Row], generation: int, last: int) -> None:
        if generation != self.generation:
            return
        self._reading = False
        start = size = 0
        for index, row in enumerate(rows):
            size += len(row.record)
            following = index + 1
            if (
                following == len(rows)
                or rows[following].sequence != row.sequence + 1
                or following - start >= MAX_RECORDS
                or size >= DURABLE_BYTES
            ):
                records = [row.record for row in rows[start:following]]
                self.put_durable(records, self.book(rows[start].sequence, len(records), size))
                start, size = following, 0
        if (not rows and last == self.last) or self.sent_up_to == self.last:
            self.direct = True
        else:
            self.pump()


class ReceivingLane:
    """The durable lane from one other node; ``mark`` is its (epoch, sequence) as far as it was heard before.

    Called on the event loop.
    """

    def __init__(self, stand: Stand, sender: str, mark: tuple[int, int]) -> None:
        self._sender = sender
        self._key = stand.keys.control(sender, stand.node)
        self._link = stand.link
        self._local = stand.local
        self._durable = stand.durable
        self._times = stand.times
        self._retry = stand.retry
        self._epoch, self._mark = mark
        self._safe = self._mark
        self._saving = False
        self._owed = False
        self._asked_at = (-1, 0.0)
        self._refused_at = -math.inf
        self.received = 0
        self.duplicates = 0
        self.gaps = 0

    def take(self, data: bytes, header: Header) -> list[Message]:
        """The messages of an envelope that are new, in order; none where something before them is missing.

        EnvelopeError where it is malformed: its messages are lost.
        """
        if header.epoch != self._epoch:
            if header.epoch < self._epoch:
                self._refuse()
                return []
            self._begin_epoch(header.epoch)
        mark = self._mark
        if header.after > mark:
            self._ask_again()
            return []
        last = header.first + header.total - 1
        self._owed = True
        if last <= mark:
            self.duplicates += header.total
            return []
        skip = max(0, mark - header.first + 1)
        # Also when it is malformed: it would be no better the next time, and all others would wait behind it.
        self._mark = last
        messages = envelope.decode_records(data, header, self._times()[0], skip)
        self.duplicates += skip
        self.received += len(messages)
        return messages

    def settle(self) -> None:
        """What was taken has been delivered: keep the mark with it, and acknowledge when nothing of it can be lost."""
        if not self._owed:
            return
        if not self._durable or self._mark == self._safe:
            self._owed = False
            self._safe = self._mark
            self._acknowledge()
            return
        self._local.heard(self._sender, self._epoch, self._mark)
        if self._saving:
            return
        self._owed = False
        self._saving = True
        epoch, mark = self._epoch, self._mark
        self._local.commit(lambda: self._saved(epoch, mark))

    def _saved(self, epoch: int, mark: int) -> None:
        self._saving = False
        if epoch == self._epoch:
            self._safe = mark
            self._acknowledge()
        self.settle()

    def _acknowledge(self) -> None:
        self._link.put_soon(self._key, Ack(self._epoch, self._safe, False).encode(), CONTROL)

    def _begin_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._mark = self._safe = 0
        self._asked_at = (-1, 0.0)

    def _refuse(self) -> None:
        """This came late, from a former life of the sender; or its clock was set back, and it is told to go beyond."""
        _, clock = self._times()
        if clock - self._refused_at >= self._retry:
            self._refused_at = clock
            self._acknowledge()

    def _ask_again(self) -> None:
        """Ask for what is missing: once, and again when it does not come."""
        _, clock = self._times()
        mark, asked_at = self._asked_at
        if mark == self._mark and clock - asked_at < self._retry:
            return
        self.gaps += 1
        self._asked_at = (self._mark, clock)
        self._link.put_soon(self._key, Ack(self._epoch, self._safe, True).encode(), CONTROL)
