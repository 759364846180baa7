"""Topic aliases of one network connection, in both directions [MQTT5 3.3.2.3.4]."""

from __future__ import annotations

from broker.protocol.constants import Reason
from broker.protocol.encode import topic_alias_property

_SHORTEST = 3
"""The property takes three bytes: aliases for topics of no more would save nothing."""


class InboundAliases:
    """What the client set."""

    __slots__ = ("_maximum", "_topics")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._topics: dict[int, bytes] = {}

    def resolve(self, alias: int, topic: bytes) -> bytes | int:
        """The topic of a packet with an alias; the reason code where there is none."""
        if alias > self._maximum:
            return Reason.TOPIC_ALIAS_INVALID
        if topic:
            self._topics[alias] = topic
            return topic
        return self._topics.get(alias) or Reason.PROTOCOL_ERROR


class OutboundAliases:
    """What the server set; first come, up to the client's maximum."""

    __slots__ = ("_aliases", "_maximum")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._aliases: dict[str, int] = {}

    def apply(self, topic: str) -> tuple[str, bytes]:
        """(topic as it is sent, wire-form property) with an alias where it saves bytes."""
        aliases = self._aliases
        alias = aliases.get(topic)
        if alias is not None:
            return "", topic_alias_property(alias)
        if len(topic) <= _SHORTEST or len(aliases) >= self._maximum:
            return topic, b""
        alias = aliases[topic] = len(aliases) + 1
        return topic, topic_alias_property(alias)

    def unlearn(self, topic: str) -> None:
        """The packet that would have told the newest alias was not sent."""
        aliases = self._aliases
        if aliases and next(reversed(aliases)) == topic:
            del aliases[topic]
