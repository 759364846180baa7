"""From the topic in a PUBLISH to its route, as far as the client may use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.ports import ALL_RIGHTS, right
from broker.protocol.constants import Reason
from broker.protocol.topics import decode_topic
from broker.subscriptions import Route

if TYPE_CHECKING:
    from broker.publisher import Publisher

_MAX_ROUTES = 256
"""Topics that a connection remembers the route of; a device publishes to a few."""

DENIED = Route("", (), (), (), 0, refusal=Reason.NOT_AUTHORIZED)
"""The route of a topic that the client may not publish to: nobody hears it."""

NO_TOPIC = Route("", (), (), (), 0, refusal=Reason.TOPIC_NAME_INVALID)
"""The route of a topic that is longer or deeper than the node allows."""


class Undecided(Exception):
    """The authority has to be asked about the topic first."""


class Resolver:
    """What one connection knows of the topics that it publishes to."""

    __slots__ = ("_connection", "routes")

    def __init__(self, connection: Publisher) -> None:
        self._connection = connection
        self.routes: dict[bytes, Route] = {}
        """Topic as it is sent -> its route; one that is not valid any more has to be asked for again."""

    def resolve(self, raw: bytes, qos: int, retain: bool) -> Route:
        """The route for a message; ProtocolError where this is no topic, Undecided where it is not known yet."""
        connection = self._connection
        engine = connection.engine
        topic = decode_topic(raw)
        limits = engine.limits
        if len(raw) > limits.max_topic_length or topic.count("/") >= limits.max_topic_levels:
            return self._remember(raw, NO_TOPIC)
        topic = connection.peer.mount_point + topic
        if topic.split("/", 1)[0] == "$SYS":
            return self._remember(raw, DENIED)
        assert connection.credentials is not None
        rights = engine.authority.may_publish(connection.credentials, topic)
        if rights is None:
            raise Undecided(topic)
        if rights == ALL_RIGHTS:
            return self._remember(raw, engine.subscriptions.route(topic))
        if not rights & right(qos, retain):
            engine.note("denied", connection, f"publish to {topic!r}, QoS {qos}, retain {int(retain)}")
            return DENIED if rights else self._remember(raw, DENIED)
        # The answer depends on QoS and retain: it is looked up for each message.
        return engine.subscriptions.route(topic)

    def _remember(self, raw: bytes, route: Route) -> Route:
        if len(self.routes) >= _MAX_ROUTES:
            self.routes.clear()
        self.routes[raw] = route
        return route
