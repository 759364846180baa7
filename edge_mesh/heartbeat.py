"""Pings to the living nodes, and what is done when one of them does not answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from edge_mesh.control import Ping, Pong
from edge_mesh.interest import LocalInterest
from edge_mesh.keys import Keys
from edge_mesh.link import CONTROL, Link
from edge_mesh.peers import Peer

logger = logging.getLogger("geomq.mesh")

_SILENT_PINGS = 2.5
"""Pings without any answer after which a living node counts as one that does not hear this one."""
_LONGEST_PAUSE = 60.0


class Heartbeat:
    """``seconds`` is how often :meth:`beat` is called; ``peers`` is the mesh's own, living table."""

    def __init__(
        self,
        link: Link,
        keys: Keys,
        name: str,
        interest: LocalInterest,
        peers: Mapping[str, Peer],
        seconds: float,
    ) -> None:
        self._link = link
        self._keys = keys
        self._name = name
        self._interest = interest
        self._peers = peers
        self._patience = _SILENT_PINGS * seconds
        self._pause = 2 * self._patience
        self._not_before = 0.0

    def beat(self, clock: float) -> None:
        """Ping every living node; ``clock`` is in seconds of a clock that does not jump."""
        interest = self._interest
        ping = Ping(clock, interest.incarnation, interest.version, interest.digest).encode()
        for peer in self._peers.values():
            if peer.alive:
                self._link.put_soon(self._keys.control(peer.name, self._name), ping, CONTROL)
        if clock >= self._not_before:
            self._notice_deafness(clock)

    def answer(self, peer: Peer, ping: Ping, version: str) -> None:
        """Another node has asked for a sign; ``version`` is this one's."""
        pong = Pong(ping.sent_at, time.time(), version).encode()
        self._link.put_soon(self._keys.control(peer.name, self._name), pong, CONTROL)

    def _notice_deafness(self, clock: float) -> None:
        """Where a living node answers nothing, it may not know that this one is there: tell it anew."""
        silent = [p.name for p in self._peers.values() if p.alive and clock - p.heard_at > self._patience]
        if not silent:
            self._pause = 2 * self._patience
            return
        logger.warning("no answer of %s: this node declares itself anew", ", ".join(sorted(silent)))
        self._not_before = clock + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._link.redeclare()
