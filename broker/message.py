"""The one object that travels through a node, from a publisher's connection to every receiver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from broker.protocol import encode

if TYPE_CHECKING:
    from broker.ports import SessionStore

_WITHDRAWN = 1.0
"""An expiry long ago."""

_new = object.__new__


class Message:
    """An application message.

    ``properties`` holds the MQTT 5 properties that a server forwards unaltered (payload format, response
    topic, correlation data, content type, user properties) in their wire form without the length in front;
    Message Expiry Interval, Topic Alias and Subscription Identifier are never in it.
    ``expires_at`` is wall-clock seconds, 0.0 for a message that does not expire.
    ``publisher`` is the client identifier of the device that published it; it never leaves the node.
    ``origin`` is the node that accepted it, empty for this one. ``stamp`` is the hybrid logical clock of a
    retained message, 0 for all others; (stamp, origin) orders two of them. ``key`` is the store's, 0 where it
    has not written the message. ``user`` is the name that the publisher proved to have; egress rules may ask for
    it, so that it is kept with what is told to other nodes later.
    """

    __slots__ = (
        "_forms",
        "expires_at",
        "key",
        "origin",
        "payload",
        "properties",
        "publisher",
        "qos",
        "retain",
        "stamp",
        "topic",
        "user",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: bytes = b"",
        expires_at: float = 0.0,
        publisher: str = "",
        origin: str = "",
        stamp: int = 0,
        user: str = "",
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires_at = expires_at
        self.publisher = publisher
        self.origin = origin
        self.stamp = stamp
        self.user = user
        self.key = 0
        self._forms: dict[int, tuple[bytes, bytes]] | None = None

    def __repr__(self) -> str:
        return f"Message({self.topic!r}, {len(self.payload)} bytes, qos={self.qos}, retain={self.retain})"

    def revised(self, topic: str, payload: bytes, qos: int, retain: bool, properties: bytes) -> Message:
        """This message as a rule left it: what no rule sees is as it was."""
        # Not by way of the constructor, which takes twice as long.
        other = _new(Message)
        other.topic = topic
        other.payload = payload
        other.qos = qos
        other.retain = retain
        other.properties = properties
        other.expires_at = self.expires_at
        other.publisher = self.publisher
        other.origin = self.origin
        other.stamp = self.stamp
        other.user = self.user
        other.key = 0
        other._forms = None
        return other

    def withdraw(self) -> None:
        """Its publisher is told that it was not taken: whoever has it still to send does not send it."""
        self.expires_at = _WITHDRAWN

    @property
    def is_withdrawn(self) -> bool:
        """Whether :meth:`withdraw` was called."""
        return self.expires_at == _WITHDRAWN

    def form(self, version: int, qos: int, retain: bool) -> tuple[bytes, bytes]:
        """The encoded PUBLISH as (head, tail), between which the packet identifier goes for QoS above 0.

        Shared by all receivers of the same protocol version, QoS and retain flag: encoded once. It holds
        neither expiry nor subscription identifiers; for those use ``encode.publish`` directly.
        """
        key = version << 3 | qos << 1 | retain
        forms = self._forms
        if forms is None:
            forms = self._forms = {}
        elif key in forms:
            return forms[key]
        parts = forms[key] = encode.publish(self.topic, self.payload, qos, retain, version, self.properties)
        return parts


class OnceMessage(Message):
    """A message that came at QoS 2 from a publisher whose session outlives the process; or a will above QoS 0.

    Its packet identifier and what becomes of it are stored together, or neither: a crash must not have the publisher
    repeat what was taken, nor believe taken what was lost. So are a will's end and its way to other nodes. ``crossing``
    numbers it among those on that way (:mod:`broker.crossings`), 0 where it is none of them.
    """

    __slots__ = ("_place", "crossing", "packet_id")

    _place: SessionStore | None
    packet_id: int
    crossing: int

    def revised(self, topic: str, payload: bytes, qos: int, retain: bool, properties: bytes) -> OnceMessage:
        """See :meth:`Message.revised`."""
        return once(
            super().revised(topic, payload, qos, retain, properties),
            self._place,
            self.packet_id,
            self.crossing,
        )

    def came(self, place: SessionStore | None, packet_id: int, crossing: int = 0) -> None:
        """To be said first: its packet identifier, and its publisher's ``place`` in the store, None if settled."""
        self._place = place
        self.packet_id = packet_id
        self.crossing = crossing

    @property
    def is_settled(self) -> bool:
        """Whether :meth:`settle` was called."""
        return self._place is None

    def settle(self) -> None:
        """What becomes of the message is in the store's hands: put its packet identifier there, too."""
        place, self._place = self._place, None
        if place is not None:
            place.received(self.packet_id)


def once(message: Message, place: SessionStore | None, packet_id: int, crossing: int = 0) -> OnceMessage:
    """The same message, which :meth:`OnceMessage.came`."""
    other = _new(OnceMessage)
    for name in Message.__slots__:
        setattr(other, name, getattr(message, name))
    other.came(place, packet_id, crossing)
    return other


class Run:
    """Messages at QoS 0 of one publisher, topic and length that have nothing else to them: one object for all.

    ``payloads`` are theirs in order, ``size`` bytes each, at least 1. The rest is as in :class:`Message`.
    """

    __slots__ = ("origin", "payloads", "publisher", "size", "topic", "user")

    def __init__(
        self, topic: str, payloads: bytes, size: int, publisher: str = "", user: str = "", origin: str = ""
    ) -> None:
        self.topic = topic
        self.payloads = payloads
        self.size = size
        self.publisher = publisher
        self.user = user
        self.origin = origin

    def __repr__(self) -> str:
        return f"Run({self.topic!r}, {self.count} x {self.size} bytes)"

    @property
    def count(self) -> int:
        """How many messages they are."""
        return len(self.payloads) // self.size

    def messages(self) -> Iterator[Message]:
        """One after the other."""
        payloads, size = self.payloads, self.size
        for at in range(0, len(payloads), size):
            payload = payloads[at : at + size]
            yield Message(self.topic, payload, 0, False, b"", 0.0, self.publisher, self.origin, 0, self.user)


Delivery = tuple[Message, int, bool, bytes, int]
"""A message for one receiver: the message, QoS, retain flag, subscription identifiers as wire-form properties, and
its number in the session, by which the store knows it (0 where nothing is stored)."""
