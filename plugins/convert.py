"""Messages as rules see them, and back."""

from __future__ import annotations

from broker.message import Message
from plugins.host.frame import Fields

_new_tuple = tuple.__new__


def to_fields(message: Message) -> Fields:
    """The message as a rule sees it."""
    # Past the named tuple's own constructor, which takes longer than all of this.
    return _new_tuple(
        Fields,
        (
            message.topic.encode(),
            message.payload,
            message.properties,
            message.publisher.encode(),
            message.qos,
            message.retain,
            message.user.encode(),
        ),
    )


def changed(message: Message, before: Fields, after: Fields) -> Message:
    """The message as a rule left it."""
    topic, payload, properties, _, qos, retain, _ = after
    name = message.topic if topic is before[0] else topic.decode()
    return message.revised(name, payload, qos, retain, properties)


def new_message(fields: Fields) -> Message:
    """A message that a rule made."""
    return Message(fields.topic.decode(), fields.payload, fields.qos, fields.retain)
