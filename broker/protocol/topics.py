"""Topic names and topic filters [MQTT5 4.7, 4.8]."""

from __future__ import annotations

from broker.protocol.errors import MalformedPacket, ProtocolError

_LONGEST = 65535


def decode_utf8(raw: bytes) -> str:
    """A UTF-8 encoded string without U+0000 [MQTT-1.5.4-1], [MQTT-1.5.4-2]; MalformedPacket otherwise."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedPacket("ill-formed UTF-8") from error
    if "\0" in text:
        raise MalformedPacket("U+0000 in a string")
    return text


def decode_topic(raw: bytes) -> str:
    """A topic name: not empty, without wildcards [MQTT-3.3.2-2], [MQTT-4.7.3-1]."""
    topic = decode_utf8(raw)
    if not topic or "+" in topic or "#" in topic or len(raw) > _LONGEST:
        raise ProtocolError("not a topic name", 0x90)
    return topic


def validate_filter(text: str) -> None:
    """Check a topic filter [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1]; ProtocolError 0x8F otherwise."""
    if not text or "\0" in text or len(text.encode("utf-8", "surrogatepass")) > _LONGEST:
        raise ProtocolError("not a topic filter", 0x8F)
    levels = text.split("/")
    for position, level in enumerate(levels):
        if ("#" in level or "+" in level) and len(level) > 1:
            raise ProtocolError("a wildcard must be a level of its own", 0x8F)
        if level == "#" and position != len(levels) - 1:
            raise ProtocolError("# must be the last level", 0x8F)


def split_share(topic_filter: str) -> tuple[str | None, str]:
    """(share name or None, filter) of a subscription [MQTT-4.8.2-1], [MQTT-4.8.2-2]."""
    if not topic_filter.startswith("$share/"):
        return None, topic_filter
    _, group, *rest = topic_filter.split("/", 2)
    if not group or "+" in group or "#" in group or not rest or not rest[0]:
        raise ProtocolError("not a shared subscription", 0x8F)
    return group, rest[0]


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter matches a topic name; wildcards at the first level spare $ [MQTT-4.7.2-1]."""
    return covers(topic_filter, topic)


def covers(wide: str, narrow: str) -> bool:
    """Whether a filter matches every topic that another filter, or a topic name, matches."""
    if narrow.startswith("$") and wide[:1] in ("+", "#"):
        return False
    levels = narrow.split("/")
    wanted = wide.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or levels[position] == "#" or level not in ("+", levels[position]):
            return False
    return len(wanted) == len(levels)
