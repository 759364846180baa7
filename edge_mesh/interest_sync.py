"""Interest on its way: this node's told to all, the others' heard, kept and handed to the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from broker.ports import LocalNode
from edge_mesh.control import Ping
from edge_mesh.interest import LocalInterest
from edge_mesh.interest_change import Change, InterestError, decode_change, join_snapshot, snapshot_parts
from edge_mesh.keys import Keys
from edge_mesh.link import Link, Query, Replies
from edge_mesh.outbox import Outbox
from edge_mesh.peers import Peer

logger = logging.getLogger("geomq.mesh.interest")

_TIMEOUT = 120.0
"""A snapshot takes this long at most, over a slow link; without any part of it for the time below, it is over."""
_SILENCE = 5.0
_RETRY_PAUSE = 0.3
_REPAIR_PAUSE = 10.0
"""Snapshots of a node whose digest differs again and again are asked for this seldom."""

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class InterestSync:
    """Changes are put to all nodes; who misses one, or is new, asks for the snapshot.

    ``spawn`` runs work in the background. Called on the event loop.
    """

    def __init__(
        self,
        *,
        name: str,
        keys: Keys,
        link: Link,
        outbox: Outbox,
        node: LocalNode,
        local: LocalInterest,
        spawn: Spawn,
    ) -> None:
        self._name = name
        self._keys = keys
        self._link = link
        self._outbox = outbox
        self._node = node
        self._local = local
        self._spawn = spawn
        self._due = False

    def announce_soon(self) -> None:
        """The local interest has changed: tell it at the end of the loop's turn, all changes in one."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._announce)

    def _announce(self) -> None:
        self._due = False
        while self._local.changed:
            self._link.announce(self._keys.interest(self._name), self._local.take_change().encode())

    def answer(self, query: Query) -> None:
        """Another node asks for the snapshot."""
        for part in snapshot_parts(self._local.snapshot()):
            query.reply(part)
        query.finish()

    def hear(self, peer: Peer, payload: bytes) -> None:
        """Another node told a change."""
        try:
            change = decode_change(payload)
        except InterestError as error:
            logger.warning("the interest of node %s cannot be read: %s", peer.name, error)
            return
        # What another life of the node says is either old or comes again with the snapshot.
        if not peer.alive or change.incarnation != peer.incarnation:
            return
        result = peer.interest.apply(change)
        if result is None:
            self.fetch(peer)
        else:
            self._apply(peer, *result)

    def compare(self, peer: Peer, ping: Ping, now: float) -> None:
        """Another node says what should be known of its interest; ``now`` never jumps, in seconds."""
        if not peer.alive or ping.incarnation != peer.incarnation:
            return
        known = peer.interest
        if not known.is_current(ping.incarnation, ping.interest_version):
            self.fetch(peer)
        elif known.differs(*ping[1:]) and now >= peer.next_repair and not peer.fetching_interest:
            peer.next_repair = now + _REPAIR_PAUSE
            logger.warning("the interest of node %s is known wrongly here: asking for all of it", peer.name)
            self.fetch(peer)

    def fetch(self, peer: Peer) -> None:
        """Ask for a living node's snapshot until it comes."""
        if not peer.fetching_interest:
            peer.fetching_interest = True
            self._spawn(self._fetch(peer))

    async def _fetch(self, peer: Peer) -> None:
        try:
            while peer.alive:
                snapshot = await self._ask(peer)
                if snapshot is not None and snapshot.incarnation == peer.incarnation:
                    self._apply(peer, *peer.interest.apply_snapshot(snapshot))
                    return
                await asyncio.sleep(_RETRY_PAUSE)
        except InterestError as error:
            logger.warning("the interest of node %s cannot be read: %s", peer.name, error)
        finally:
            peer.fetching_interest = False

    async def _ask(self, peer: Peer) -> Change | None:
        """A node's snapshot; None where it did not come whole."""
        replies = self._link.ask(self._keys.query(peer.name, "interest"), b"", _TIMEOUT)
        await _until_silent(replies)
        return join_snapshot([payload for _, payload in replies.answers])

    def _apply(self, peer: Peer, added: list[str], removed: list[str]) -> None:
        if added or removed:
            self._node.remote_interest(peer.name, added, removed)
            self._outbox.save_interest(peer.name, added, removed)


async def _until_silent(replies: Replies) -> None:
    """Wait until the answer is complete, or nothing more has come of it for a while."""
    heard = -1
    while not replies.finished.done() and heard != len(replies.answers):
        heard = len(replies.answers)
        await asyncio.wait([replies.finished], timeout=_SILENCE)
