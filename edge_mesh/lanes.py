"""The two lanes to another node, and the durable one from it.

The live lane may drop. The durable lane counts: each envelope names its first sequence and the one before it
(``after``), so that the receiver sees a gap; it acknowledges what it has safely, and asks again for what is
missing. The sender needs no memory but the outbox: it can begin again at any sequence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from broker.message import Message
from broker.ports import LocalNode
from edge_mesh import envelope
from edge_mesh.control import Ack
from edge_mesh.envelope import Header
from edge_mesh.keys import Keys
from edge_mesh.link import CONTROL, DURABLE, LIVE, Link, Sender
from edge_mesh.outbox import Outbox
from edge_mesh.outbox_store import Row

LIVE_BYTES = 48 << 10
"""A live envelope is sent when it has this size: it then fits into one of Zenoh's batches."""
DURABLE_BYTES = 256 << 10
MAX_RECORDS = 1000
_DIRECT_BYTES = 128 << 10
"""Up to so much on its way is put by the loop itself, which saves a thread's latency. Zenoh may drop it then:
the receiver sees the gap."""
_READ_BYTES = 512 << 10

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
    window: int
    """Bytes on their way to one node and not acknowledged; what is beyond waits in the outbox."""
    retry: float
    """Seconds without an acknowledgement after which the sender asks for one."""


class SendingLane:
    """Everything on its way to one other node. Called on the event loop."""

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
        self.alive = False
        self.sent = 0
        """Messages put, on either lane; counts what was sent again."""
        self.live_dropped = 0
        self._live: list[bytes] = []
        self._live_bytes = 0
        self._last = stand.outbox.last_sequence(receiver)
        self._acknowledged = 0
        # The direct way: from the publisher straight to the link. Otherwise: by way of the outbox.
        self._direct = False
        self._records: list[bytes] = []
        self._records_bytes = 0
        self._sent_up_to = 0
        self._chain = 0
        self._inflight: deque[tuple[int, int]] = deque()
        self._inflight_bytes = 0
        self._threaded_up_to = 0
        self._reading = False
        self._generation = 0
        self._rewound_to = -1
        self._progress_at = 0.0

    @property
    def last(self) -> int:
        """The sequence of the newest message."""
        return self._last

    # -- taking messages --------------------------------------------------------------------------------

    def add_live(self, record: bytes) -> None:
        """A message that may be lost."""
        if not self.alive:
            self.live_dropped += 1
            return
        live = self._live
        live.append(record)
        self._live_bytes += len(record)
        if self._live_bytes >= LIVE_BYTES or len(live) >= MAX_RECORDS:
            self._flush_live()

    def add_durable(self, record: bytes) -> int:
        """A message that must arrive; its sequence. The caller gives it to the outbox, too."""
        self._last += 1
        if self._direct:
            self._records.append(record)
            self._records_bytes += len(record)
            if self._records_bytes >= DURABLE_BYTES or len(self._records) >= MAX_RECORDS:
                self._flush_durable()
        return self._last

    def flush(self) -> None:
        """End of the loop's turn: send what was collected."""
        if self._live:
            self._flush_live()
        if self._records:
            self._flush_durable()

    def _flush_live(self) -> None:
        now, _ = self._times()
        records, self._live = self._live, []
        self._live_bytes = 0
        self.sent += len(records)
        self._link.put_soon(self._live_key, envelope.encode(envelope.LIVE, self._node, records, now), LIVE)

    def _flush_durable(self) -> None:
        records, self._records = self._records, []
        size, self._records_bytes = self._records_bytes, 0
        if self._inflight_bytes + size > self._window and self._inflight:
            # They are in the outbox, and are read from there when the receiver has caught up.
            self._direct = False
            return
        self._send(records, self._last - len(records) + 1, size)

    def _send(self, records: list[bytes], first: int, size: int) -> None:
        now, clock = self._times()
        last = first + len(records) - 1
        data = envelope.encode(
            envelope.DURABLE,
            self._node,
            records,
            now,
            epoch=self._outbox.epoch,
            after=self._chain,
            first=first,
        )
        self._chain = self._sent_up_to = last
        if not self._inflight:
            self._progress_at = clock
        self._inflight.append((last, size))
        self._inflight_bytes += size
        self.sent += len(records)
        self._put(data, last)

    def _put(self, data: bytes, last: int) -> None:
        if self._inflight_bytes <= _DIRECT_BYTES and self._acknowledged >= self._threaded_up_to:
            self._link.put_soon(self._durable_key, data, DURABLE)
            return
        if self._sender is None:
            self._sender = Sender(self.receiver)
        self._threaded_up_to = last
        self._link.put_surely(self._sender, self._durable_key, data, DURABLE)

    # -- the receiver's answers -------------------------------------------------------------------------

    def acknowledge(self, ack: Ack) -> None:
        """The receiver told how far it has come, and perhaps that it misses what follows."""
        if ack.epoch != self._outbox.epoch:
            return
        _, clock = self._times()
        mark = ack.mark
        # An outbox that was restored from a copy goes on behind what the receiver knows.
        self._last = max(self._last, mark)
        if mark > self._acknowledged:
            self._acknowledged = mark
            self._progress_at = clock
            inflight = self._inflight
            while inflight and inflight[0][0] <= mark:
                self._inflight_bytes -= inflight.popleft()[1]
            self._outbox.acknowledge(self.receiver, mark)
        if ack.again and (mark != self._rewound_to or clock - self._progress_at >= self._retry):
            self._rewound_to = mark
            self._rewind(mark)
        elif not self._direct:
            self._pump()

    # -- beginning again --------------------------------------------------------------------------------

    def resume(self) -> None:
        """The receiver is there (again): send everything that it has not acknowledged."""
        self.alive = True
        self._rewound_to = -1
        self._rewind(self._acknowledged)

    def pause(self) -> None:
        """The receiver is gone: what comes now waits in the outbox, or is dropped."""
        self.alive = False
        self.live_dropped += len(self._live)
        self._live.clear()
        self._live_bytes = 0
        self._stop_sending()

    def close(self) -> None:
        """The lane is not used any more."""
        self.pause()
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
                epoch=self._outbox.epoch,
                after=self._chain,
                first=self._chain + 1,
            )
            self._link.put_soon(self._durable_key, probe, DURABLE)

    def _stop_sending(self) -> None:
        self._generation += 1
        self._reading = False
        self._direct = False
        self._records.clear()
        self._records_bytes = 0
        self._inflight.clear()
        self._inflight_bytes = 0

    def _rewind(self, to: int) -> None:
        self._stop_sending()
        self._sent_up_to = to
        # What is older than the first message found now does not exist: the receiver need not wait for it.
        self._chain = 0
        _, self._progress_at = self._times()
        self._pump()

    def _pump(self) -> None:
        """Read on in the outbox, as far as the window allows."""
        if self._reading or not self.alive or self._inflight_bytes >= self._window:
            return
        self._reading = True
        generation, last = self._generation, self._last
        self._outbox.read(
            self.receiver, self._sent_up_to, _READ_BYTES, lambda rows: self._on_read(rows, generation, last)
        )

    def _on_read(self, rows: list[Row], generation: int, last: int) -> None:
        if generation != self._generation:
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
                self._send(records, rows[start].sequence, size)
                start, size = following, 0
        if (not rows and last == self._last) or self._sent_up_to == self._last:
            self._direct = True
        else:
            self._pump()


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
        self.received = 0
        self.duplicates = 0
        self.gaps = 0

    def take(self, data: bytes, header: Header) -> list[Message]:
        """The messages of an envelope that are new, in order; none where something before them is missing.

        EnvelopeError where it is malformed: its messages are lost.
        """
        if header.epoch != self._epoch:
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

    def _ask_again(self) -> None:
        """Ask for what is missing: once, and again when it does not come."""
        _, clock = self._times()
        mark, asked_at = self._asked_at
        if mark == self._mark and clock - asked_at < self._retry:
            return
        self.gaps += 1
        self._asked_at = (self._mark, clock)
        self._link.put_soon(self._key, Ack(self._epoch, self._safe, True).encode(), CONTROL)
