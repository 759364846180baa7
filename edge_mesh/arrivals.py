"""What other nodes send, by either lane: taken off, delivered in bursts, then acknowledged."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from broker.message import Message, Run
from edge_mesh import envelope
from edge_mesh.keys import Keys
from edge_mesh.lanes import ReceivingLane, Stand

logger = logging.getLogger("geomq.mesh")

_MANY = 1000
"""Messages that are delivered before more are taken off."""
_LOOK_SECONDS = 0.02
_HELD_BYTES = 32 << 20
"""What is held for crowded clients; what is beyond is dropped, and asked for again."""


class Received(NamedTuple):
    """What one other node has sent."""

    messages: int
    duplicates: int
    """Messages that it sent again and that were already here."""
    size: int
    """Bytes of envelopes, before compression."""


class Arrivals:
    """``observe(message)`` is False for a stamp that cannot be followed; ``deaf()`` says to hear nobody.

    Called on the event loop.
    """

    def __init__(self, stand: Stand, observe: Callable[[Message], bool], deaf: Callable[[], bool]) -> None:
        self._stand = stand
        self._observe = observe
        self._deaf = deaf
        self._marks = stand.local.marks()
        self._lanes: dict[str, ReceivingLane] = {}
        # A dictionary, for the order: the simulator's runs would not be the same.
        self._unsettled: dict[ReceivingLane, None] = {}
        self._live: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._arrived: list[Message | Run] = []
        self._held: deque[tuple[str, bytes]] = deque()
        self._held_bytes = 0

    def take(self, item: tuple[str, bytes], kind: int) -> None:
        """An envelope of this kind that came under a key whose last chunk is its sender."""
        key, payload = item
        sender = Keys.last_chunk(key)
        if self._deaf():
            return
        try:
            header = envelope.decode_header(payload)
            if header.kind != kind or header.sender != sender:
                raise envelope.EnvelopeError(f"kind {header.kind} of {header.sender!r} is on the wrong lane")
            if kind == envelope.DURABLE:
                if self._held or self._stand.local.crowded:
                    self._hold(item)
                else:
                    self._take_durable(sender, payload, header)
            else:
                self._sizes[sender] = self._sizes.get(sender, 0) + len(payload)
                now, _ = self._stand.times()
                found = envelope.decode_live(payload, header, now)
                self._live[sender] = self._live.get(sender, 0) + sum(
                    item.count if isinstance(item, Run) else 1 for item in found
                )
                self._arrived += found
        except envelope.EnvelopeError as error:
            logger.error("an envelope of node %s cannot be read: %s", sender, error)

    def _take_durable(self, sender: str, payload: bytes, header: envelope.Header) -> None:
        self._sizes[sender] = self._sizes.get(sender, 0) + len(payload)
        lane = self._lane(sender)
        self._unsettled[lane] = None
        messages = lane.take(payload, header)
        for message in messages:
            if message.retain and not self._observe(message):
                message.retain = False
        self._arrived += messages
        if len(self._arrived) >= _MANY:
            self.deliver()

    def _hold(self, item: tuple[str, bytes]) -> None:
        """Clients have enough to take: keep an envelope, which its sender's window bounds, until they have less."""
        if not self._held:
            self._stand.later(_LOOK_SECONDS, self._go_on)
        if self._held_bytes < _HELD_BYTES:
            self._held.append(item)
            self._held_bytes += len(item[1])

    def _go_on(self) -> None:
        while self._held and not self._stand.local.crowded:
            key, payload = self._held.popleft()
            self._held_bytes -= len(payload)
            try:
                self._take_durable(Keys.last_chunk(key), payload, envelope.decode_header(payload))
            except envelope.EnvelopeError as error:
                logger.error("an envelope of node %s cannot be read: %s", Keys.last_chunk(key), error)
            self.deliver()
        if self._held:
            self._stand.later(_LOOK_SECONDS, self._go_on)

    def deliver(self) -> None:
        """End of a burst: local sessions first, then the marks and acknowledgements."""
        if self._arrived:
            batch, self._arrived = self._arrived, []
            try:
                self._stand.local.deliver_from_mesh(batch)
            except Exception:
                # They would fail again, and everything behind them would wait.
                logger.exception("%d messages of other nodes could not be delivered", len(batch))
        while self._unsettled:
            self._unsettled.popitem()[0].settle()

    def of(self, sender: str) -> Received:
        """What came of a node since this one was started."""
        live, size = self._live.get(sender, 0), self._sizes.get(sender, 0)
        lane = self._lanes.get(sender)
        return Received(live + lane.received, lane.duplicates, size) if lane else Received(live, 0, size)

    def _lane(self, sender: str) -> ReceivingLane:
        lane = self._lanes.get(sender)
        if lane is None:
            mark = self._marks.get(sender, (0, 0))
            lane = self._lanes[sender] = ReceivingLane(self._stand, sender, mark)
        return lane
