"""From the topic in a PUBLISH to its route, as far as the client may use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.ports import ALL_RIGHTS, Action, right
from broker.protocol.constants import Reason
from broker.protocol.topics import decode_topic
from broker.subscriptions import Route

if TYPE_CHECKING:
    from broker.publisher import Publisher

_MAX_ROUTES = 256
"""Topics that a connection remembers the route of; a device publishes to a few."""

DENIED = Route("", (), (), (), 0, refusal=Reason.NOT_AUTHORIZED)
"""The route of a topic that the client may not publish to: nobody hears it."""

TOO_LONG = Route("", (), (), (), 0, refusal=Reason.TOPIC_NAME_INVALID)
"""The route of a topic that is longer than the client's limits allow."""

TOO_DEEP = Route("", (), (), (), 0, refusal=Reason.TOPIC_NAME_INVALID)
"""The route of a topic with more levels than the client's limits allow."""


class Undecided(Exception):
    """The authority has to be asked about the topic first."""


def resolve(client: Publisher, raw: bytes, qos: int, retain: bool) -> Route:
    """The route for a message; ProtocolError where this is no topic, Undecided where it is not known yet.

    What does not depend on the message is remembered in the client's routes.
    """
    engine = client.engine
    topic = decode_topic(raw)
    limit = client.limits.topic_bound(topic, len(raw))
    if limit:
        return _remember(client, raw, TOO_LONG if limit == "max_topic_length" else TOO_DEEP)
    topic = client.peer.mount_point + topic
    assert client.credentials is not None
    if topic.split("/", 1)[0] == "$SYS":
        engine.audit.denied(client.credentials, Action.PUBLISH, topic, qos, retain)
        return _remember(client, raw, DENIED)
    rights = engine.authority.may_publish(client.credentials, topic)
    if rights is None:
        raise Undecided(topic)
    if rights == ALL_RIGHTS:
        return _remember(client, raw, engine.subscriptions.route(topic))
    if not rights & right(qos, retain):
        engine.audit.denied(client.credentials, Action.PUBLISH, topic, qos, retain)
        return DENIED if rights else _remember(client, raw, DENIED)
    # The answer depends on QoS and retain: it is looked up for each message.
    return engine.subscriptions.route(topic)


def _remember(client: Publisher, raw: bytes, route: Route) -> Route:
    if len(client.routes) >= _MAX_ROUTES:
        client.routes.clear()
    client.routes[raw] = route
    return route
