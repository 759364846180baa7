"""Values by topic name, found by topic filter: what retained messages and cached routes have in common. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("children", "topic")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.topic: str | None = None


class TopicTree(Generic[T]):
    """One value a topic."""

    __slots__ = ("_root", "_values")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._values: dict[str, T] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, topic: str) -> bool:
        return topic in self._values

    def __iter__(self) -> Iterator[str]:
        """The topics, in the order in which they came."""
        return iter(self._values)

    def get(self, topic: str) -> T | None:
        """The value of exactly this topic."""
        return self._values.get(topic)

    def values(self) -> Iterator[T]:
        """All values."""
        yield from self._values.values()

    def put(self, topic: str, value: T) -> None:
        """Set a topic's value."""
        if topic not in self._values:
            node = self._root
            for level in topic.split("/"):
                child = node.children.get(level)
                if child is None:
                    child = node.children[level] = _Node()
                node = child
            node.topic = topic
        self._values[topic] = value

    def pop(self, topic: str) -> T | None:
        """Remove a topic; its value if there was one."""
        if topic not in self._values:
            return None
        path: list[tuple[_Node[T], str]] = []
        node = self._root
        for level in topic.split("/"):
            path.append((node, level))
            node = node.children[level]
        node.topic = None
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.children or child.topic is not None:
                break
            del parent.children[level]
        return self._values.pop(topic)

    def clear(self) -> None:
        """Remove everything."""
        self._root = _Node()
        self._values.clear()

    def match(self, topic_filter: str) -> list[str]:
        """The topics that match a filter; wildcards at the first level spare those of $ [MQTT-4.7.2-1]."""
        if "+" not in topic_filter and "#" not in topic_filter:
            return [topic_filter] if topic_filter in self._values else []
        return list(self._search(topic_filter.split("/")))

    def _search(self, levels: list[str]) -> Iterator[str]:
        stack = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            if depth == len(levels):
                if node.topic is not None:
                    yield node.topic
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
    def _below(node: _Node[T], hidden: bool) -> Iterator[str]:
        """The topics of a node and all under it; ``hidden`` leaves out those under $."""
        if node.topic is not None:
            yield node.topic
        stack = [child for name, child in node.children.items() if not (hidden and name.startswith("$"))]
        while stack:
            node = stack.pop()
            if node.topic is not None:
                yield node.topic
            stack.extend(node.children.values())
