"""Retained messages: one a topic, the last writer wins; deletions leave a tombstone for a while."""

from __future__ import annotations

from collections.abc import Iterator

from broker.message import Message

TOMBSTONE_LIFETIME = 24 * 3600.0
"""Seconds for which a deletion is remembered, so that a node that was away does not bring the message back."""


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.message: Message | None = None


class Retained:
    """The retained messages that a node knows, found by topic filter."""

    def __init__(self, capacity: int = 100_000) -> None:
        self._root = _Node()
        self._messages: dict[str, Message] = {}
        self._mortal: set[str] = set()
        """The topics whose message expires: few, usually, among many."""
        self._tombstones: dict[str, tuple[Message, float]] = {}
        """In the order of their time."""
        self._capacity = capacity

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message, now: float) -> bool:
        """Store a message, or delete the topic's where the payload is empty; ``now`` in wall-clock seconds.

        False where a newer one (by stamp, then origin) is known, or where the store is full.
        """
        topic = message.topic
        known = self._messages.get(topic) or self._tombstones.get(topic, (None, 0.0))[0]
        if known is not None and (known.stamp, known.origin) > (message.stamp, message.origin):
            return False
        if not message.payload:
            self._remove(topic)
            if message.stamp:
                self._tombstones.pop(topic, None)
                self._tombstones[topic] = (message, now + TOMBSTONE_LIFETIME)
            return True
        if topic not in self._messages and len(self._messages) >= self._capacity:
            return False
        self._tombstones.pop(topic, None)
        self._messages[topic] = message
        if message.expires_at:
            self._mortal.add(topic)
        else:
            self._mortal.discard(topic)
        node = self._root
        for level in topic.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.message = message
        return True

    def get(self, topic: str) -> Message | None:
        """The retained message of exactly this topic."""
        return self._messages.get(topic)

    def match(self, topic_filter: str, now: float) -> list[Message]:
        """The retained messages that match the filter and have not expired."""
        if "+" not in topic_filter and "#" not in topic_filter:
            message = self._messages.get(topic_filter)
            found = [message] if message else []
        else:
            found = list(self._search(topic_filter.split("/")))
        return [message for message in found if not message.expires_at or message.expires_at > now]

    def messages(self) -> Iterator[Message]:
        """All retained messages."""
        yield from self._messages.values()

    def tombstones(self) -> Iterator[Message]:
        """The deletions that are still remembered."""
        for message, _ in self._tombstones.values():
            yield message

    def expire(self, now: float) -> None:
        """Forget expired messages and tombstones that are past their lifetime."""
        for topic in [topic for topic in self._mortal if self._messages[topic].expires_at <= now]:
            self._remove(topic)
        while self._tombstones:
            topic, (_, until) = next(iter(self._tombstones.items()))
            if until > now:
                break
            del self._tombstones[topic]

    def _search(self, levels: list[str]) -> Iterator[Message]:
        stack = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            if depth == len(levels):
                if node.message is not None:
                    yield node.message
                continue
            level = levels[depth]
            if level == "#":
                yield from self._below(node, hidden=depth == 0)
            elif level == "+":
                stack.extend(
                    (child, depth + 1)
                    for name, child in node.children.items()
                    if depth or not name.startswith("$")
                )
            else:
                child = node.children.get(level)
                if child is not None:
                    stack.append((child, depth + 1))

    @staticmethod
    def _below(node: _Node, hidden: bool) -> Iterator[Message]:
        """The messages of a node and all under it; ``hidden`` leaves out those under $ [MQTT-4.7.2-1]."""
        if node.message is not None:
            yield node.message
        stack = [child for name, child in node.children.items() if not (hidden and name.startswith("$"))]
        while stack:
            node = stack.pop()
            if node.message is not None:
                yield node.message
            stack.extend(node.children.values())

    def _remove(self, topic: str) -> None:
        if self._messages.pop(topic, None) is None:
            return
        self._mortal.discard(topic)
        path: list[tuple[_Node, str]] = []
        node = self._root
        for level in topic.split("/"):
            path.append((node, level))
            node = node.children[level]
        node.message = None
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.children or child.message is not None:
                return
            del parent.children[level]
