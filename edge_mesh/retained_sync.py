"""Retained messages of other nodes: a snapshot each time that two nodes meet.

Between meetings publications travel on the durable lanes. The newest of a topic, by (stamp, origin), wins at
every node; deletions are messages without payload that are remembered for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from broker.message import Message
from broker.ports import LocalNode
from edge_mesh import answers, envelope
from edge_mesh.boundary import Boundary, may_leave
from edge_mesh.clock import HybridClock
from edge_mesh.keys import Keys
from edge_mesh.link import Link, Query
from edge_mesh.peers import Peer

logger = logging.getLogger("geomq.mesh.retained")

_CHUNK = 500
_TIMEOUT = 30.0
_RETRY_PAUSE = 0.3
_LONGEST_PAUSE = 60.0
_MANY_ATTEMPTS = 5
"""After so many that failed it is worth a line in the log."""


class RetainedSync:
    """``wall()`` is the wall clock; ``clock`` is the node's hybrid one, which follows the stamps of others.

    ``sends_to(node)`` says whether what is published here is sent to a node.
    """

    def __init__(
        self,
        *,
        name: str,
        keys: Keys,
        link: Link,
        node: LocalNode,
        boundary: Boundary,
        wall: Callable[[], float],
        clock: HybridClock,
        sends_to: Callable[[str], bool],
    ) -> None:
        self._name = name
        self._keys = keys
        self._link = link
        self._node = node
        self._boundary = boundary
        self._wall = wall
        self._clock = clock
        self._sends_to = sends_to
        self.has_met = asyncio.Event()
        """Set once another node has told its retained messages."""
        self._refused: set[str] = set()
        """Nodes whose clock is too far ahead, once that was told."""

    async def meets(self, seconds: float, has_company: Callable[[], bool]) -> None:
        """Wait until another node has told its retained messages: ten times as long where one is there."""
        for longest in (seconds, 9 * seconds):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.has_met.wait(), longest)
            if self.has_met.is_set() or not has_company():
                return

    def observe(self, message: Message) -> bool:
        """Follow the clock of a retained message; False, with one line a node, where it is too far ahead."""
        if self._clock.observe(message.stamp, self._wall()):
            return True
        if message.origin not in self._refused:
            self._refused.add(message.origin)
            logger.error(
                "the clock of node %s is more than %g s ahead: its retained messages are not kept",
                message.origin,
                self._clock.max_ahead,
            )
        return False

    async def answer(self, query: Query) -> None:
        """Give another node all retained messages known here; own ones as the egress rules leave them.

        One that is not known here yet has to ask again: what is published between an answer now and the day on which
        it is known would never come to it.
        """
        try:
            asker = query.payload.decode(errors="replace")
            if asker and not self._sends_to(asker):
                return
            records: list[bytes] = []
            known = list(self._node.retained_messages())
            for start in range(0, len(known), _CHUNK):
                records.extend(await self._records(known[start : start + _CHUNK]))
                await asyncio.sleep(0)
            for part in answers.parts(self._name, records, self._wall()):
                query.reply(part)
        finally:
            query.finish()

    async def _records(self, messages: list[Message]) -> list[bytes]:
        # A replica was already let out by its own node: our rules would change it a second time.
        replicas = [message for message in messages if message.origin]
        own = [message for message in messages if not message.origin and may_leave(message.topic)]
        records = [envelope.encode_record(message, message.origin) for message in replicas]
        told = await self._boundary.pass_messages(own, self._wall())
        for message, passed in zip(own, told.messages, strict=True):
            if passed is not None and may_leave(passed.topic):
                records.append(envelope.encode_record(passed, "", message.stamp))
        return records

    async def fetch(self, peer: Peer, incarnation: int) -> None:
        """Ask a node for its snapshot, as long as it lives this life, and keep what is newer."""
        attempts, pause = 0, _RETRY_PAUSE
        while peer.alive and peer.incarnation == incarnation:
            if await self._fetch(peer.name):
                self.has_met.set()
                return
            attempts += 1
            if attempts == _MANY_ATTEMPTS:
                logger.warning("the retained messages of node %s did not come whole, trying again", peer.name)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _fetch(self, peer: str) -> bool:
        """False where the snapshot did not come whole."""
        replies = self._link.ask(self._keys.query(peer, "retained"), self._name.encode(), _TIMEOUT)
        await replies.finished
        headers: list[envelope.Header] = []
        for _, payload in replies.answers:
            try:
                header = envelope.decode_header(payload)
                messages = envelope.decode_records(payload, header, self._wall())
            except envelope.EnvelopeError as error:
                logger.warning("the retained messages of node %s cannot be read: %s", peer, error)
                return False
            headers.append(header)
            self._node.retained_from_mesh(self._wanted(messages))
            await asyncio.sleep(0)
        return answers.is_complete(headers)

    def _wanted(self, messages: list[Message]) -> list[Message]:
        wanted = [m for m in messages if m.retain and may_leave(m.topic) and self.observe(m)]
        if any(message.origin == self._name for message in wanted):
            # Our own come back as the egress rules left them: of use only where the original is lost.
            own = {message.topic: message.stamp for message in self._node.retained_messages()}
            wanted = [m for m in wanted if m.origin != self._name or own.get(m.topic, -1) < m.stamp]
        return wanted
