"""Zenoh as nodes see it: puts, questions and liveliness tokens; late, lost, cut off, or after their sender's death."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from contextvars import Context
from typing import Any

from edge_mesh.link import Replies
from tests.simulator.loop import VirtualLoop

LEASE = 3.0
"""The longest time, in seconds, for which a dead node's token is still there."""

_STEP = 1e-6
"""Seconds between two arrivals, for the loop does not keep the order of what happens at one time."""


class NoThread:
    """A sender whose puts are over at once."""

    waiting = 0

    def stop(self) -> None:
        pass


class Query:
    """A question, at the node that is asked."""

    def __init__(self, fabric: Fabric, asked: SimLink, asker: SimLink, key: str, replies: Replies) -> None:
        self._fabric, self._asked, self._asker = fabric, asked, asker
        self._key, self._replies = key, replies
        self.payload = b""

    def reply(self, payload: bytes) -> None:
        self._back(lambda: self._replies.add((self._key, payload)))

    def fail(self, text: str) -> None:
        self._back(lambda: self._replies.add(text))

    def finish(self) -> None:
        self._back(lambda: self._replies.finish(None))

    def _back(self, call: Callable[[], None]) -> None:
        self._fabric.bring(self._asked, self._asker.node, "answers", call, surely=True)


class SimLink:
    """Has the methods of :class:`edge_mesh.link.Link`. ``node`` is its name in the fabric."""

    def __init__(self, fabric: Fabric, node: str, context: Context) -> None:
        self._fabric = fabric
        self.node = node
        self.context = context
        self.alive = True
        self.late = 0.0
        """By how many seconds what a dead node had sent is delayed on its way."""
        self.forgotten = False
        """Whether what it had sent does not come any more."""
        self.after_burst: Callable[[], None] = lambda: None
        self._receivers: list[tuple[str, Callable[[tuple[str, bytes]], None]]] = []
        self._queryables: dict[str, Callable[[Any], None]] = {}
        self._watch: Callable[[tuple[str, bool]], None] | None = None
        self.token: str | None = None
        self._token_key = ""
        self.seen: dict[str, str] = {}
        """The tokens that the node believes to be there, and whose they are."""
        self._inbox: list[Callable[[], None]] = []
        self._due = False

    # -- for the mesh ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        self._fabric.links[self.node] = self

    async def close(self) -> None:
        self.alive = False

    def subscribe(self, key: str, receive: Callable[[tuple[str, bytes]], None]) -> None:
        self._receivers.append((key.removesuffix("*"), receive))

    def answer(self, key: str, receive: Callable[[Any], None]) -> None:
        self._queryables[key] = receive

    def watch_tokens(self, key: str, receive: Callable[[tuple[str, bool]], None]) -> None:
        self._watch = receive
        self._fabric.look_soon(self.node)

    def declare_token(self, key: str) -> None:
        if self.alive:
            self.token = self._token_key = key
            self._fabric.tokens[key] = self.node
            self._fabric.look_soon()

    def withdraw_token(self) -> None:
        if self.alive and self.token is not None:
            self._fabric.tokens.pop(self.token, None)
            self.token = None
            self._fabric.look_soon()

    def redeclare(self) -> None:
        if self.token is not None:
            self.withdraw_token()
            self._fabric.later(self.context, 0.1, lambda: self.declare_token(self._token_key))

    def far_ends(self) -> list[str]:
        return []

    def sender(self, name: str) -> NoThread:
        return NoThread()

    def put_soon(self, key: str, payload: bytes, priority: Any) -> None:
        self._fabric.put(self, key, payload, priority, surely=False)

    def put_surely(self, sender: NoThread, key: str, payload: bytes, priority: Any) -> None:
        self._fabric.put(self, key, payload, priority, surely=True)

    def announce(self, key: str, payload: bytes) -> None:
        self._fabric.announce(self, key, payload)

    def ask(self, key: str, payload: bytes, timeout: float) -> Replies:
        replies = Replies(self._fabric.loop)
        node = key.split("/")[-2]
        self._fabric.bring(
            self, node, "questions", lambda: self._ask(node, key, payload, replies), surely=True
        )
        # Zenoh ends a question whose answer has been cut off.
        self._fabric.later(self.context, min(timeout, 10.0), lambda: replies.finish(None))
        return replies

    def _ask(self, node: str, key: str, payload: bytes, replies: Replies) -> None:
        asked = self._fabric.links[node]
        answer = asked._queryables.get(key)
        if answer is not None:
            query = Query(self._fabric, asked, self, key, replies)
            query.payload = payload
            answer(query)

    # -- for the fabric ----------------------------------------------------------------------------------------

    def take(self, call: Callable[[], None]) -> None:
        """Something has come. Bursts are handled together, as by the real link."""
        self._inbox.append(call)
        if not self._due:
            self._due = True
            self._fabric.later(self.context, self._fabric.chance.choice([0.0, 0.0, 0.005]), self._drain)

    def receive(self, key: str, payload: bytes) -> None:
        for prefix, receive in self._receivers:
            if key.startswith(prefix):
                receive((key, payload))

    def look(self) -> None:
        """Notice which tokens are there and which are not."""
        if not self.alive or self._watch is None:
            return
        there = {
            token: node
            for token, node in self._fabric.tokens.items()
            if node == self.node or self._fabric.connected(self.node, node)
        }
        changes = [(token, True) for token in there if token not in self.seen]
        changes += [(token, False) for token in self.seen if token not in there]
        self._fabric.chance.shuffle(changes)
        self.seen = there
        for change in changes:
            self._watch(change)

    def _drain(self) -> None:
        self._due = False
        inbox, self._inbox = self._inbox, []
        if self.alive:
            for call in inbox:
                call()
            self.after_burst()


class Fabric:
    """What lies between the nodes. ``chance`` decides everything; ``loss`` is the part of droppable puts that are.

    ``tamper(change)`` may give another change of interest than the one that was told.
    """

    def __init__(
        self, loop: VirtualLoop, chance: random.Random, loss: float, tamper: Callable[[bytes], bytes]
    ) -> None:
        self.loop = loop
        self.chance = chance
        self.loss = loss
        self.hiccups = True
        """Whether some of what is sent takes seconds."""
        self._tamper = tamper
        self.links: dict[str, SimLink] = {}
        """The newest link of each node, dead or alive."""
        self.tokens: dict[str, str] = {}
        self._dead: list[SimLink] = []
        self._cut: set[frozenset[str]] = set()
        self._last: dict[tuple[SimLink, str, str], float] = defaultdict(float)

    def later(self, context: Context, seconds: float, call: Callable[[], object]) -> None:
        """Call later in a node's context."""
        self.loop.call_later(seconds, call, context=context)

    # -- who reaches whom --------------------------------------------------------------------------------------

    def connected(self, one: str, other: str) -> bool:
        """Whether nothing is cut between the places of two nodes."""
        return frozenset((one, other)) not in self._cut

    def cut(self, inside: set[str], everybody: list[str]) -> None:
        """Nobody of these reaches any of the others."""
        self._cut |= {frozenset((one, other)) for one in inside for other in everybody if other not in inside}
        self.look_soon()

    def heal(self) -> None:
        self._cut.clear()
        self.look_soon()

    def died(self, link: SimLink) -> None:
        """The node is gone; its token stays until its lease is over."""
        link.alive = False
        link.late = self.chance.choice([0.0, self.chance.uniform(0.0, 8.0)])
        self._dead.append(link)
        token = link.token

        def expire() -> None:
            if token is not None:
                self.tokens.pop(token, None)
                self.look_soon()

        self.loop.call_later(self.chance.uniform(0.0, LEASE), expire)

    def forget_the_dead(self, node: str) -> None:
        """What former lives of a node have sent does not come any more."""
        for link in self._dead:
            link.forgotten = link.forgotten or link.node == node

    def look_soon(self, only: str | None = None) -> None:
        """What has changed is noticed by each node in its own time."""
        for name in sorted(self.links if only is None else [only]):
            link = self.links.get(name)
            if link is not None and link.alive:
                self.later(link.context, self.chance.uniform(0.05, 1.0), link.look)

    # -- what travels ------------------------------------------------------------------------------------------

    def put(self, link: SimLink, key: str, payload: bytes, priority: Any, surely: bool) -> None:
        node = key.split("/")[-2]
        self.bring(link, node, str(priority), lambda: self.links[node].receive(key, payload), surely)

    def announce(self, link: SimLink, key: str, payload: bytes) -> None:
        for node in sorted(self.links):
            if node != link.node:
                data = self._tamper(payload)
                self._announce(link, node, key, data)

    def _announce(self, link: SimLink, node: str, key: str, payload: bytes) -> None:
        self.bring(link, node, "interest", lambda: self.links[node].receive(key, payload), surely=True)

    def bring(self, link: SimLink, node: str, kind: str, call: Callable[[], None], surely: bool) -> None:
        """Have something happen at a node: after what was sent before it in the same way, late, or never.

        What a dead node has sent may still arrive, also at the next life of the receiver.
        """
        if not link.alive or not self.connected(link.node, node):
            return
        if not surely and self.chance.random() < self.loss:
            return
        now = self.loop.time()
        delay = self.chance.uniform(0.001, 0.1)
        if self.hiccups and self.chance.random() < 0.05:
            delay = self.chance.uniform(0.1, 2.0)
        at = max(self._last[link, node, kind] + _STEP, now + delay)
        self._last[link, node, kind] = at

        def arrive(waited: bool = False) -> None:
            if link.late and not waited:
                self.loop.call_later(link.late, arrive, True)
                return
            receiver = self.links.get(node)
            if link.forgotten:
                return
            if receiver is not None and receiver.alive and self.connected(link.node, node):
                receiver.take(call)

        self.loop.call_at(at, arrive)
