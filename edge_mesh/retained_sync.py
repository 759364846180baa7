"""Retained messages of other nodes: a snapshot each time that two nodes meet.

Between meetings publications travel on the durable lanes. The newest of a topic, by (stamp, origin), wins at
every node; deletions are messages without payload that are remembered for a while. What a snapshot lacks because egress
rules fail is told by errors beside it, and asked for until it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from broker.message import Message
from broker.ports import Failure, LocalNode
from edge_mesh import answers, envelope
from edge_mesh.boundary import Boundary, may_leave
from edge_mesh.clock import HybridClock
from edge_mesh.keys import Keys
from edge_mesh.link import Link, Query
from edge_mesh.peers import Peer
from edge_mesh.withheld import Withheld, in_words

logger = logging.getLogger("geomq.mesh.retained")

_CHUNK = 500
_TIMEOUT = 30.0
_RETRY_PAUSE = 0.3
_LONGEST_PAUSE = 60.0
_MANY_ATTEMPTS = 5
"""After so many that failed it is worth a line in the log."""

_ALL, _WITHHELD = "retained", "withheld"
"""What may be asked: for everything, and for what was withheld the last time."""

Questions = tuple[tuple[str, Callable[[Query], Coroutine[Any, Any, None]]], ...]


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
        self._has_met = asyncio.Event()
        """Set once another node has told its retained messages."""
        self._refused: set[str] = set()
        """Nodes whose clock is too far ahead, once that was told."""
        self._withheld = Withheld()
        self._is_told = False
        """Whether the log says that something is withheld."""

    @property
    def questions(self) -> Questions:
        """What other nodes may ask of this one, and how each is answered."""
        return (_ALL, self.answer), (_WITHHELD, self.answer_withheld)

    @property
    def withheld(self) -> int:
        """Retained messages that nodes were not told, because rules fail on them."""
        self._withheld.keep_nodes(self._sends_to)
        return len(self._withheld)

    async def meets(self, seconds: float, has_company: Callable[[], bool]) -> None:
        """Wait until another node has told its retained messages: ten times as long where one is there."""
        for longest in (seconds, 9 * seconds):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._has_met.wait(), longest)
            if self._has_met.is_set() or not has_company():
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
            records, failed = await self._records(self._node.retained_messages())
            if asker:
                self._withheld.met(asker, failed, _now())
            self._reply(query, asker, records)
        finally:
            query.finish()

    async def answer_withheld(self, query: Query) -> None:
        """Give another node what was withheld from it when it asked the last time, as far as that may leave now."""
        try:
            asker = query.payload.decode(errors="replace")
            if not self._sends_to(asker):
                return
            topics = self._withheld.to_try(asker, _now())
            records, failed = await self._records(self._node.retained_of(topics))
            self._withheld.tried(asker, topics, failed, _now())
            self._reply(query, asker, records)
        finally:
            query.finish()

    def _reply(self, query: Query, asker: str, records: list[bytes]) -> None:
        for part in answers.parts(self._name, records, self._wall()):
            query.reply(part)
        texts = list(in_words(self._withheld.failures(asker)))
        for text in texts:
            query.fail(text)
        if texts and not self._is_told:
            self._is_told = True
            logger.warning("other nodes are not told all retained messages: %s", "; ".join(texts))
        elif self._is_told and not self.withheld:
            self._is_told = False
            logger.info("other nodes are told all retained messages again")

    async def _records(self, messages: Iterable[Message]) -> tuple[list[bytes], dict[str, Failure]]:
        """(what may be told, the topics that rules failed on)."""
        records: list[bytes] = []
        failed: dict[str, Failure] = {}
        known = list(messages)
        for start in range(0, len(known), _CHUNK):
            await self._add_records(known[start : start + _CHUNK], records, failed)
            await asyncio.sleep(0)
        return records, failed

    async def _add_records(
        self, messages: list[Message], records: list[bytes], failed: dict[str, Failure]
    ) -> None:
        # A replica was already let out by its own node: our rules would change it a second time.
        replicas = [message for message in messages if message.origin]
        own = [message for message in messages if not message.origin and may_leave(message.topic)]
        records += [envelope.encode_record(message, message.origin) for message in replicas]
        told = await self._boundary.pass_messages(own, self._wall())
        failed.update((own[place].topic, why) for place, why in told.failed.items())
        for message, passed in zip(own, told.messages, strict=True):
            if passed is not None and may_leave(passed.topic):
                records.append(envelope.encode_record(passed, "", message.stamp))

    async def fetch(self, peer: Peer, incarnation: int) -> None:
        """Ask a node for its snapshot, as long as it lives this life, and keep what is newer.

        Then for what it has withheld, until it withholds nothing.
        """
        attempts, pause, what = 0, _RETRY_PAUSE, _ALL
        while peer.alive and peer.incarnation == incarnation:
            missing = await self._fetch(peer.name, what)
            if missing is not None:
                self._has_met.set()
                if not missing:
                    return
                if what == _ALL:
                    logger.warning(
                        "node %s does not tell all of its retained messages: %s",
                        peer.name,
                        "; ".join(missing),
                    )
                    what = _WITHHELD
            attempts += 1
            if attempts == _MANY_ATTEMPTS and what == _ALL:
                logger.warning("the retained messages of node %s did not come whole, trying again", peer.name)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _fetch(self, peer: str, what: str) -> list[str] | None:
        """What is missing in the answer, in words; None where it did not come whole."""
        replies = self._link.ask(self._keys.query(peer, what), self._name.encode(), _TIMEOUT)
        await replies.finished
        headers: list[envelope.Header] = []
        for _, payload in replies.answers:
            try:
                header = envelope.decode_header(payload)
                messages = envelope.decode_records(payload, header, self._wall())
            except envelope.EnvelopeError as error:
                logger.warning("the retained messages of node %s cannot be read: %s", peer, error)
                return None
            headers.append(header)
            self._node.retained_from_mesh(self._wanted(messages))
            await asyncio.sleep(0)
        return replies.errors if answers.is_complete(headers) else None

    def _wanted(self, messages: list[Message]) -> list[Message]:
        wanted = [m for m in messages if m.retain and may_leave(m.topic) and self.observe(m)]
        if any(message.origin == self._name for message in wanted):
            # Our own come back as the egress rules left them: of use only where the original is lost.
            own = {message.topic: message.stamp for message in self._node.retained_messages()}
            wanted = [m for m in wanted if m.origin != self._name or own.get(m.topic, -1) < m.stamp]
        return wanted


def _now() -> float:
    return asyncio.get_running_loop().time()
