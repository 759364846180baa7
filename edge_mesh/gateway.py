"""This node as the gateway of its region: what comes from another region for several nodes is handed on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge_mesh import envelope, relay
from edge_mesh.keys import Keys
from edge_mesh.link import DURABLE, Link, Sender
from edge_mesh.live_puts import LivePuts

logger = logging.getLogger("geomq.mesh.gateway")

_MOST_WAITING = 64
"""Envelopes on their way to one node by a thread. Beyond, they are dropped: durable lanes ask for them again."""


class Gateway:
    """``take(item)`` gets (key, envelope) of what is for this node itself, as if it had come alone.

    What was handed on is never handed on again: it arrives on a lane, not here. Called on the event loop.
    """

    def __init__(
        self, name: str, keys: Keys, link: Link, take: Callable[[tuple[str, bytes], int], None]
    ) -> None:
        self._name = name
        self._keys = keys
        self._link = link
        self._take = take
        self._senders: dict[str, Sender] = {}
        self._live: dict[str, LivePuts] = {}
        self.handed_on = 0
        """Envelopes sent on to other nodes of the region."""
        self.dropped = 0
        """Envelopes that were not, because their receivers did not keep up."""

    def receive(self, item: tuple[str, bytes]) -> None:
        """Hand a frame of another region's node on."""
        key, frame = item
        sender = Keys.last_chunk(key)
        try:
            for node, data in relay.decode(frame):
                header = envelope.decode_header(data)
                if header.sender != sender:
                    raise envelope.EnvelopeError(f"it is of {header.sender!r}")
                if node == self._name:
                    self._take((key, data), header.kind)
                elif header.kind == envelope.DURABLE:
                    self._pass_durable(node, self._keys.durable(node, sender), data)
                else:
                    self._pass_live(node, self._keys.live(node, sender), data)
        except envelope.EnvelopeError as error:
            logger.error("what node %s sent to be handed on cannot be read: %s", sender, error)

    def close(self) -> None:
        """Nothing more is handed on."""
        for sender in self._senders.values():
            sender.stop()
        for puts in self._live.values():
            puts.close()

    def _pass_live(self, node: str, key: str, data: bytes) -> None:
        puts = self._live.get(node)
        if puts is None:
            puts = self._live[node] = LivePuts(self._link, f"live-on-{node}")
        if puts.put(key, data):
            self.handed_on += 1
        else:
            self.dropped += 1

    def _pass_durable(self, node: str, key: str, data: bytes) -> None:
        sender = self._senders.get(node)
        if sender is None:
            sender = self._senders[node] = self._link.sender(f"on-{node}")
        if sender.waiting >= _MOST_WAITING:
            self.dropped += 1
            return
        self.handed_on += 1
        self._link.put_surely(sender, key, data, DURABLE)
