"""Retained messages: one a topic, the last writer wins; deletions leave a tombstone for a while."""

from __future__ import annotations

from collections.abc import Iterator

from broker.message import Message
from broker.topic_tree import TopicTree

TOMBSTONE_LIFETIME = 24 * 3600.0
"""Seconds for which a deletion is remembered, so that a node that was away does not bring the message back."""


_OWN = "$SYS/"


class Retained:
    """The retained messages that a node knows, found by topic filter.

    What the node tells about itself under `$SYS` is outside all bounds and counts: no client can make it stale.
    """

    def __init__(self, capacity: int = 100_000, max_bytes: int = 0) -> None:
        self._messages: TopicTree[Message] = TopicTree()
        self._mortal: set[str] = set()
        """The topics whose message expires: few, usually, among many."""
        self._tombstones: dict[str, tuple[Message, float]] = {}
        """In the order of their time."""
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._own = 0
        """How many of the messages are the node's own."""
        self.bytes = 0
        """Payload bytes of all retained messages."""

    def __len__(self) -> int:
        return len(self._messages) - self._own

    def change_bounds(self, capacity: int, max_bytes: int) -> None:
        """Hold at most so many messages and payload bytes from now on, 0 bytes for no bound; nothing is removed."""
        self._capacity = capacity
        self._max_bytes = max_bytes

    def put(self, message: Message, now: float) -> bool:
        """Store a message, or delete the topic's where the payload is empty; ``now`` in wall-clock seconds.

        False where a newer one (by stamp, then origin) is known, or where the store is full.
        """
        topic = message.topic
        known = self.known(topic)
        if known is not None and (known.stamp, known.origin) > (message.stamp, message.origin):
            return False
        if not message.payload:
            self._remove(topic)
            if message.stamp:
                self._tombstones.pop(topic, None)
                self._tombstones[topic] = (message, now + TOMBSTONE_LIFETIME)
            return True
        if self.bound(topic, len(message.payload)):
            return False
        self._tombstones.pop(topic, None)
        old = self._messages.get(topic)
        if topic.startswith(_OWN):
            self._own += old is None
        else:
            self.bytes += len(message.payload) - (len(old.payload) if old is not None else 0)
        self._messages.put(topic, message)
        if message.expires_at:
            self._mortal.add(topic)
        else:
            self._mortal.discard(topic)
        return True

    def bound(self, topic: str, size: int) -> str:
        """The limit by which a message of so many payload bytes could not be kept; empty where it could."""
        if topic.startswith(_OWN):
            return ""
        known = self._messages.get(topic)
        if known is None and len(self) >= self._capacity:
            return "retained_max_messages"
        freed = len(known.payload) if known is not None else 0
        if self._max_bytes and self.bytes - freed + size > self._max_bytes:
            return "retained_max_bytes"
        return ""

    def get(self, topic: str) -> Message | None:
        """The retained message of exactly this topic."""
        return self._messages.get(topic)

    def known(self, topic: str) -> Message | None:
        """The retained message of a topic, or the tombstone of one that was deleted."""
        return self._messages.get(topic) or self._tombstones.get(topic, (None, 0.0))[0]

    def match(self, topic_filter: str, now: float) -> list[Message]:
        """The retained messages that match the filter and have not expired."""
        found: list[Message] = []
        for topic in self._messages.match(topic_filter):
            message = self._messages.get(topic)
            if message is not None and (not message.expires_at or message.expires_at > now):
                found.append(message)
        return found

    def messages(self) -> Iterator[Message]:
        """All retained messages."""
        yield from self._messages.values()

    def tombstones(self) -> Iterator[Message]:
        """The deletions that are still remembered."""
        for message, _ in self._tombstones.values():
            yield message

    def expire(self, now: float) -> None:
        """Forget expired messages and tombstones that are past their lifetime."""
        for topic in list(self._mortal):
            message = self._messages.get(topic)
            if message is None or message.expires_at <= now:
                self._remove(topic)
        while self._tombstones:
            topic, (_, until) = next(iter(self._tombstones.items()))
            if until > now:
                break
            del self._tombstones[topic]

    def _remove(self, topic: str) -> None:
        message = self._messages.pop(topic)
        self._mortal.discard(topic)
        if message is None:
            return
        if topic.startswith(_OWN):
            self._own -= 1
        else:
            self.bytes -= len(message.payload)
