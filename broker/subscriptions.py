"""Who hears a topic: the trie of topic filters, and a bounded cache of what it answered.

Plain subscriptions, shared subscriptions and the interest of other nodes stand in one trie. A *route* is the
answer for one topic: it is computed once and stays valid until a filter that matches the topic changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

from broker.ports import Stage
from broker.protocol.encode import subscription_id_property
from broker.topic_tree import TopicTree

if TYPE_CHECKING:
    from broker.session import Session


Permits = Callable[["Session", str], bool | None]
"""Whether a session may get a topic; None where the authority has to be asked first."""


_FORGOTTEN = 32
"""Routes that make room at a time."""


class Held:
    """A subscription that a session holds."""

    __slots__ = ("group", "identifier", "no_local", "qos", "retain_as_published", "topic_filter")

    def __init__(
        self,
        topic_filter: str,
        qos: int,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifier: int = 0,
        group: str | None = None,
    ) -> None:
        self.topic_filter = topic_filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.identifier = identifier
        self.group = group


class Receiver:
    """A session that a topic reaches, with the merged options of all its matching subscriptions."""

    __slots__ = ("extra", "no_local", "qos", "retain_as_published", "session")

    def __init__(self, session: Session, held: Held) -> None:
        self.session = session
        self.qos = held.qos
        self.no_local = held.no_local
        self.retain_as_published = held.retain_as_published
        self.extra = subscription_id_property(held.identifier) if held.identifier else b""
        """The subscription identifiers as wire-form properties."""

    def merge(self, held: Held) -> None:
        """Add an overlapping subscription: one delivery, the highest QoS, every identifier [MQTT-3.3.4-4]."""
        self.qos = max(self.qos, held.qos)
        self.no_local = self.no_local and held.no_local
        self.retain_as_published = self.retain_as_published or held.retain_as_published
        if held.identifier:
            self.extra += subscription_id_property(held.identifier)


class ShareGroup:
    """The members of one shared subscription (`$share/group/filter`), served in turn."""

    __slots__ = ("_turn", "members")

    def __init__(self) -> None:
        self.members: dict[Session, Held] = {}
        self._turn = 0

    def choose(self, topic: str, permits: Permits | None = None) -> Receiver | None:
        """The next member: one that is connected if there is any, else one that can keep the message.

        Members who may not get the topic are passed over.
        """
        sessions = list(self.members)
        if permits is not None:
            sessions = [session for session in sessions if permits(session, topic)]
        count = len(sessions)
        fallback: Session | None = None
        for step in range(count):
            session = sessions[(self._turn + step) % count]
            if session.connection is not None:
                self._turn = (self._turn + step + 1) % count
                return Receiver(session, self.members[session])
            fallback = fallback or session
        return Receiver(fallback, self.members[fallback]) if fallback else None


class Route:
    """All that a message on one topic reaches.

    ``verbatim3`` and ``verbatim5`` are the sessions (of 3.1.1 and 5) that may be sent the packet of a QoS 0
    publisher of the same version byte for byte; ``particular`` are the receivers among all that may not.
    ``simple`` says that neither rules nor shared subscriptions take part, ``ruled`` that of these only ingress rules
    do; ``refusal`` is the reason code with which publishing is refused, 0 where it is not. ``undecided`` are
    receivers of whom the authority has to be asked first; ``denied`` is how many may not get it, though their
    subscription matches.
    """

    __slots__ = (
        "denied",
        "groups",
        "nodes",
        "particular",
        "receivers",
        "refusal",
        "ruled",
        "simple",
        "stages",
        "topic",
        "undecided",
        "valid",
        "verbatim3",
        "verbatim5",
    )

    def __init__(
        self,
        topic: str,
        receivers: Iterable[Receiver],
        groups: Iterable[ShareGroup],
        nodes: Iterable[str],
        stages: int,
        undecided: Iterable[Receiver] = (),
        refusal: int = 0,
        denied: int = 0,
    ) -> None:
        self.topic = topic
        self.denied = denied
        self.refusal = refusal
        self.undecided = tuple(undecided)
        self.valid = True
        self.receivers = tuple(receivers)
        self.groups = tuple(groups)
        self.nodes = tuple(nodes)
        self.stages = stages
        self.simple = not (self.groups or stages or self.undecided)
        self.ruled = stages == Stage.INGRESS and not (self.groups or self.undecided)
        verbatim3: list[Session] = []
        verbatim5: list[Session] = []
        particular: list[Receiver] = []
        for receiver in self.receivers:
            session = receiver.session
            if receiver.extra or receiver.no_local or session.is_particular:
                particular.append(receiver)
            else:
                (verbatim5 if session.version == 5 else verbatim3).append(session)
        self.verbatim3 = tuple(verbatim3)
        self.verbatim5 = tuple(verbatim5)
        self.particular = tuple(particular)

    @property
    def empty(self) -> bool:
        """True when nobody hears the topic."""
        return not (self.receivers or self.groups or self.nodes or self.undecided)


class _Node:
    __slots__ = ("children", "groups", "nodes", "plain")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.plain: dict[Session, Held] | None = None
        self.groups: dict[str, ShareGroup] | None = None
        self.nodes: dict[str, None] | None = None

    @property
    def bare(self) -> bool:
        return not (self.children or self.plain or self.groups or self.nodes)


class Subscriptions:
    """The trie, and the routes that were computed from it.

    ``stages`` tells which rules take part for a topic (see :class:`broker.ports.Pipeline`); ``merged`` whether
    a session whose subscriptions overlap is one receiver, or one for each of them [MQTT5 3.3.4].
    """

    def __init__(
        self,
        stages: Callable[[str], int] = lambda topic: 0,
        capacity: int = 16_384,
        merged: bool = True,
        permits: Permits | None = None,
    ) -> None:
        self._root = _Node()
        self._stages = stages
        self._routes: TopicTree[Route] = TopicTree()
        self._capacity = capacity
        self._merged = merged
        self.permits = permits
        """Asked for each session that a new route reaches; None where all may get everything."""
        self._local: dict[str, int] = {}
        self.count = 0
        """Subscriptions of local sessions."""
        self.shared = 0
        """How many of them are shared."""

    # -- changes -----------------------------------------------------------------------------------------

    def add(self, session: Session, held: Held) -> bool:
        """Add or replace a session's subscription; True when it is the first local one with this filter."""
        node = self._reach(held.topic_filter)
        if held.group is None:
            if node.plain is None:
                node.plain = {}
            fresh = session not in node.plain
            node.plain[session] = held
        else:
            if node.groups is None:
                node.groups = {}
            group = node.groups.setdefault(held.group, ShareGroup())
            fresh = session not in group.members
            group.members[session] = held
        self.invalidate(held.topic_filter)
        if not fresh:
            return False
        self.count += 1
        self.shared += held.group is not None
        holders = self._local.get(held.topic_filter, 0)
        self._local[held.topic_filter] = holders + 1
        return holders == 0

    def remove(self, session: Session, held: Held) -> bool:
        """Remove a session's subscription; True when no local one with this filter is left."""
        path = self._path(held.topic_filter)
        if path is None:
            return False
        node = path[-1][0]
        if held.group is None:
            if node.plain is None or node.plain.pop(session, None) is None:
                return False
            if not node.plain:
                node.plain = None
        else:
            group = node.groups.get(held.group) if node.groups else None
            if group is None or group.members.pop(session, None) is None:
                return False
            if not group.members and node.groups:
                del node.groups[held.group]
        self._prune(path)
        self.invalidate(held.topic_filter)
        self.count -= 1
        self.shared -= held.group is not None
        holders = self._local[held.topic_filter] - 1
        if holders:
            self._local[held.topic_filter] = holders
            return False
        del self._local[held.topic_filter]
        return True

    def add_node(self, name: str, topic_filter: str) -> None:
        """Another node wants what matches this filter."""
        node = self._reach(topic_filter)
        if node.nodes is None:
            node.nodes = {}
        if name not in node.nodes:
            node.nodes[name] = None
            self.invalidate(topic_filter)

    def remove_node(self, name: str, topic_filter: str) -> None:
        """Another node no longer wants what matches this filter."""
        path = self._path(topic_filter)
        if path is None or path[-1][0].nodes is None or name not in path[-1][0].nodes:
            return
        del path[-1][0].nodes[name]
        self._prune(path)
        self.invalidate(topic_filter)

    def invalidate(self, topic_filter: str) -> None:
        """Drop the cached routes that a change of this filter may concern."""
        for topic in self._routes.match(topic_filter):
            route = self._routes.pop(topic)
            if route is not None:
                route.valid = False

    def invalidate_all(self) -> None:
        """Drop every cached route: who may get what has changed."""
        for topic in list(self._routes):
            route = self._routes.pop(topic)
            if route is not None:
                route.valid = False

    def have_stages(self, stages: Callable[[str], int]) -> None:
        """From now on these rules take part."""
        self._stages = stages
        self.invalidate_all()

    # -- questions ---------------------------------------------------------------------------------------

    def local_filters(self) -> list[str]:
        """The distinct filters that local sessions hold, without `$share/group/`."""
        return list(self._local)

    def group(self, held: Held) -> ShareGroup | None:
        """The group of a shared subscription, None where nobody is left in it."""
        path = self._path(held.topic_filter)
        groups = path[-1][0].groups if path else None
        return groups.get(held.group) if groups and held.group is not None else None

    def route(self, topic: str) -> Route:
        """The route of a topic, from the cache if it is there."""
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= self._capacity:
                self._forget_oldest()
            route = self._compute(topic)
            self._routes.put(topic, route)
        return route

    def _compute(self, topic: str) -> Route:
        receivers: dict[Session | Held, Receiver] = {}
        groups: list[ShareGroup] = []
        nodes: dict[str, None] = {}
        for node in self._matching(topic):
            if node.plain:
                for session, held in node.plain.items():
                    key = session if self._merged else held
                    receiver = receivers.get(key)
                    if receiver is None:
                        receivers[key] = Receiver(session, held)
                    else:
                        receiver.merge(held)
            if node.groups:
                groups.extend(node.groups.values())
            if node.nodes:
                nodes.update(node.nodes)
        found = list(receivers.values())
        undecided: list[Receiver] = []
        denied = 0
        if self.permits is not None:
            answers = [(receiver, self.permits(receiver.session, topic)) for receiver in found]
            found = [receiver for receiver, answer in answers if answer]
            undecided = [receiver for receiver, answer in answers if answer is None]
            denied = len(answers) - len(found) - len(undecided)
        return Route(topic, found, groups, nodes, self._stages(topic), undecided, denied=denied)

    def _matching(self, topic: str) -> list[_Node]:
        found: list[_Node] = []
        level_nodes = [self._root]
        # A wildcard at the first level does not match a topic that begins with $ [MQTT-4.7.2-1].
        wildcards = not topic.startswith("$")
        for level in topic.split("/"):
            following: list[_Node] = []
            for node in level_nodes:
                children = node.children
                child = children.get(level)
                if child is not None:
                    following.append(child)
                if wildcards:
                    child = children.get("+")
                    if child is not None:
                        following.append(child)
                    child = children.get("#")
                    if child is not None:
                        found.append(child)
            level_nodes = following
            if not level_nodes:
                return found
            wildcards = True
        for node in level_nodes:
            found.append(node)
            child = node.children.get("#")
            if child is not None:
                found.append(child)
        return found

    # -- the trie ----------------------------------------------------------------------------------------

    def _reach(self, topic_filter: str) -> _Node:
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        return node

    def _path(self, topic_filter: str) -> list[tuple[_Node, _Node, str]] | None:
        """(node, its parent, its level) from the top down, or None where the filter is not in the trie."""
        node = self._root
        path: list[tuple[_Node, _Node, str]] = []
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                return None
            path.append((child, node, level))
            node = child
        return path

    @staticmethod
    def _prune(path: list[tuple[_Node, _Node, str]]) -> None:
        for node, parent, level in reversed(path):
            if not node.bare:
                return
            del parent.children[level]

    def _forget_oldest(self) -> None:
        # A few at a time: a client with ever new topics must not make the others wait.
        for topic in list(islice(self._routes, _FORGOTTEN)):
            route = self._routes.pop(topic)
            if route is not None:
                route.valid = False
