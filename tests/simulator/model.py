"""One broker, as the mesh should look from outside: who has to hear which publication, once and in order.

It is told what the nodes do, and says at once what is wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.message import Message

if TYPE_CHECKING:
    from tests.simulator.node import Life, Node

KEPT_TOPICS = ("r/0", "r/1")
TOPICS = ("a/0", "a/1", "b/0", "b/1", *KEPT_TOPICS)
FILTERS = (*TOPICS, "a/+", "b/+", "+/0", "a/#", "r/#", "#", "$share/g/a/1", "$share/h/+/1")

_ON_DISK = 3.0
"""Seconds after which what a node knows is on its disk."""


@dataclass
class Publication:
    """A message, and what is to become of it."""

    number: int
    origin: Life
    topic: str
    qos: int
    retain: bool
    nodes: tuple[str, ...]
    """Those to which it was sent."""
    path: object
    """Two at QoS 0 of the same topic keep their order where this is the same."""
    owed: set[str] = field(default_factory=set)
    """Those that have to hear it, and have not, as far as they remember: they have wanted it ever since."""
    acknowledged: bool = False
    stamp: int = 0
    repeated: bool = False
    """Whether a crash has made the node's own store hand it over again: nobody may have heard it before."""

    @property
    def is_durable(self) -> bool:
        """Whether it takes the durable lane."""
        return self.qos > 0 or self.retain

    @property
    def crosses(self) -> bool:
        """Whether it must be in the outbox before anybody hears it."""
        return self.qos == 2 and self.origin.node.durable


class Model:
    """``now()`` is virtual time; ``fail(text)`` is told what is wrong.

    ``trusting`` says that what nodes know of each other's interest is never tampered with, ``forgetful`` that nodes
    that are away for long are forgotten.
    """

    def __init__(
        self,
        nodes: dict[str, Node],
        now: Callable[[], float],
        fail: Callable[[str], None],
        trusting: bool,
        forgetful: bool,
    ) -> None:
        self._nodes = nodes
        self._now = now
        self._fail = fail
        self._trusting = trusting
        self._forgetful = forgetful
        self.publications: list[Publication] = []
        self._promises: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        """(knower, wanter) -> topics that it knows to be wanted, and since when."""
        self._wanted: dict[tuple[str, str], tuple[int, int]] = {}
        """(wanter, topic) -> the version of its interest before the one that told of it; none where it always did."""
        self._last_live: dict[tuple[str, object, str, object], int] = {}
        self._live: dict[str, set[int]] = defaultdict(set)

    # -- interest ----------------------------------------------------------------------------------------------

    def interest_heard(self, life: Life, wanter: str) -> None:
        """A node has heard what another one wants: it may never know less than before, as long as it is wanted."""
        promises = self._promises[life.name, wanter]
        known = {topic for topic in TOPICS if wanter in life.knows(topic)}
        for topic in promises:
            if topic not in known and self._trusting:
                self._fail(f"{life.name} knows no longer that {wanter} wants {topic}")
        version = self._version_known(life, self._nodes[wanter])
        for topic in known:
            # What it knows may be of a time before the node wanted the topic anew.
            if self._nodes[wanter].wants(topic) and version > self._wanted.get((wanter, topic), (-1, -1)):
                promises.setdefault(topic, self._now())

    def _version_known(self, life: Life, wanter: Node) -> tuple[int, int]:
        """Which version of a node's interest another one knows, and of which of its lives; (-1, -1) for none."""
        known = life.mesh._peers[wanter.name].interest
        if known.incarnation not in wanter.incarnations:
            return -1, -1
        return wanter.incarnations.index(known.incarnation), known.version

    def wants_more(self, node: Node, before: set[str]) -> None:
        """A node, which has wanted these topics ``before``, is about to tell that it wants others, too."""
        life = node.life
        assert life is not None
        for topic in TOPICS:
            if topic not in before and node.wants(topic):
                self._wanted[node.name, topic] = len(node.incarnations) - 1, life.mesh._interest.version

    def wanted_less(self, node: Node) -> None:
        """A node has unsubscribed: what it does not want any more need not be known, nor come."""
        for (_, wanter), promises in self._promises.items():
            if wanter == node.name:
                for topic in [topic for topic in promises if not node.wants(topic)]:
                    del promises[topic]
        for publication in self.publications:
            if node.name in publication.owed and not node.wants(publication.topic):
                publication.owed.discard(node.name)

    def forgotten(self, life: Life, other: str) -> None:
        """A node has been away for too long."""
        if not self._forgetful:
            self._fail(f"{life.name} has forgotten {other}")
        self._promises.pop((life.name, other), None)
        self._excuse(life.node, [other])

    def started(self, life: Life) -> None:
        """A node is in the mesh again: it must know what it knew."""
        for (knower, wanter), promises in self._promises.items():
            if knower == life.name and self._trusting:
                for topic in promises:
                    if wanter not in life.knows(topic):
                        self._fail(f"{knower} knew that {wanter} wants {topic}, and has not remembered it")

    def ended(self, life: Life, clean: bool, lost: bool) -> None:
        """A node has crashed, or (``clean``) was stopped; ``lost`` where its outbox is gone, too."""
        lost = lost or not life.node.durable
        for (knower, _), promises in self._promises.items():
            if knower == life.name:
                if lost or self._forgetful:
                    promises.clear()
                elif not clean:
                    for topic in [t for t, since in promises.items() if since > self._now() - _ON_DISK]:
                        del promises[topic]
        if lost:
            self._excuse(life.node, self._nodes)

    def crashed(self, life: Life, crossed: frozenset[int]) -> None:
        """``crossed`` are the numbers of those publications that were in the node's outbox."""
        for publication in self.publications:
            if publication.origin is life and publication.crosses and publication.number not in crossed:
                publication.repeated = True
                if any(publication.number in node.heard_of(life.name) for node in self._nodes.values()):
                    self._fail(f"{publication.number} of {life.name} was heard, and will be again")

    def _excuse(self, origin: Node, others: Iterable[str]) -> None:
        for publication in self.publications:
            if publication.origin.node is origin:
                publication.owed.difference_update(others)

    # -- publications ------------------------------------------------------------------------------------------

    def published(self, publication: Publication, expires: bool) -> None:
        """A client has published something."""
        self.publications.append(publication)
        for (knower, wanter), promises in self._promises.items():
            known = knower == publication.origin.name and publication.topic in promises
            if known and self._trusting and wanter not in publication.nodes:
                self._fail(f"{knower} does not send {publication.topic} to {wanter}, who wants it")
        if publication.qos and not expires:
            publication.owed = {n for n in publication.nodes if self._nodes[n].wants(publication.topic)}

    def arrived(self, life: Life, message: Message) -> None:
        """A mesh has handed a message to its node."""
        publication = self.publications[int(message.payload.split(b":")[0]) - 1]
        number, what = publication.number, f"{publication.number} of {publication.origin.name}"
        if life.name not in publication.nodes and not publication.retain:
            self._fail(f"{life.name} has heard {what}, which was not for it")
        if message.origin != publication.origin.name or message.topic != publication.topic:
            self._fail(f"{life.name} has heard {what} as {message.topic} of {message.origin}")
        if publication.is_durable:
            self._arrived_for_sure(life, publication, what)
        else:
            if number in self._live[life.name]:
                self._fail(f"{life.name} has heard {what} twice, at QoS 0")
            self._live[life.name].add(number)
            key = life.name, publication.origin, publication.topic, publication.path
            if self._last_live.get(key, 0) > number:
                self._fail(f"{life.name} has heard {what} after {self._last_live[key]}, at QoS 0")
            self._last_live[key] = number

    def _arrived_for_sure(self, life: Life, publication: Publication, what: str) -> None:
        number, origin = publication.number, publication.origin.name
        if publication.repeated:
            self._fail(f"{life.name} has heard {what}, which is sent again")
        heard = life.store.heard.setdefault(origin, [])
        if number in heard:
            self._fail(f"{life.name} has heard {what} twice")
        elif heard and heard[-1] > number:
            self._fail(f"{life.name} has heard {what} after {heard[-1]}")
        heard.append(number)
        if not life.node.durable:
            publication.owed.discard(life.name)

    def saved(self, life: Life) -> None:
        """What a node has heard is on its disk now."""
        for publication in self.publications:
            if life.name in publication.owed:
                heard = life.node.store.heard.get(publication.origin.name)
                if heard and publication.number in heard:
                    publication.owed.discard(life.name)

    def heard_live(self, node: str, number: int) -> bool:
        """Whether a publication at QoS 0 has come to a node."""
        return number in self._live[node]

    def missing(self, origin: str, node: str) -> list[int]:
        """What a node should have heard of another one, and has not."""
        return [
            publication.number
            for publication in self.publications
            if publication.acknowledged and publication.origin.name == origin and node in publication.owed
        ]
