"""Topic filters as a tree of their levels: covering and matching without looking at all of them; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

DIGESTS = 1 << 64
"""Digests are below."""


class _Level:
    __slots__ = ("children", "topic_filter")

    def __init__(self) -> None:
        self.children: dict[str, _Level] = {}
        self.topic_filter: str | None = None


class FilterSet:
    """A set of topic filters that knows which of them cover others."""

    __slots__ = ("_root", "_size")

    def __init__(self, topic_filters: Iterable[str] = ()) -> None:
        self._root = _Level()
        self._size = 0
        for topic_filter in topic_filters:
            self.add(topic_filter)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        stack = [self._root]
        while stack:
            level = stack.pop()
            if level.topic_filter is not None:
                yield level.topic_filter
            stack.extend(level.children.values())

    def __contains__(self, topic_filter: str) -> bool:
        path = self._path(topic_filter)
        return path is not None and path[-1].topic_filter is not None

    def add(self, topic_filter: str) -> bool:
        """True when it was not there."""
        level = self._root
        for name in topic_filter.split("/"):
            child = level.children.get(name)
            if child is None:
                child = level.children[name] = _Level()
            level = child
        if level.topic_filter is not None:
            return False
        level.topic_filter = topic_filter
        self._size += 1
        return True

    def discard(self, topic_filter: str) -> bool:
        """True when it was there."""
        path = self._path(topic_filter)
        if path is None or path[-1].topic_filter is None:
            return False
        path[-1].topic_filter = None
        self._size -= 1
        _cut_back(path, topic_filter.split("/"))
        return True

    def prune(self, topic_filter: str) -> list[str]:
        """Remove what :meth:`covered_by` gives; returns it. No filter in the set may cover another one."""
        found = list(self.covered_by(topic_filter))
        *names, last = topic_filter.split("/")
        path = self._path("/".join(names)) if last == "#" and "+" not in names and names else None
        if path is None or topic_filter in self:
            for covered in found:
                self.discard(covered)
            return found
        # They are all that is below a level, and may be thousands.
        self._size -= len(found)
        path[-1].topic_filter = None
        path[-1].children.clear()
        _cut_back(path, names)
        return found

    def matches(self, topic: str) -> bool:
        """Whether any filter matches the topic."""
        return next(self._covering(topic.split("/")), None) is not None

    def covers(self, topic_filter: str) -> bool:
        """Whether another filter matches every topic that this one matches."""
        return next(self.covering(topic_filter), None) is not None

    def covering(self, topic_filter: str) -> Iterator[str]:
        """The other filters that match every topic that this one matches."""
        return (other for other in self._covering(topic_filter.split("/")) if other != topic_filter)

    def covered_by(self, topic_filter: str) -> Iterator[str]:
        """The other filters that match nothing but what this one matches, the uppermost of them.

        What a filter with ``#`` among the others covers is left out, and not looked at: the cost does not
        grow with it. The set must not change before the iteration ends.
        """
        levels = [self._root]
        names = topic_filter.split("/")
        for name in names:
            if name == "#":
                for level in levels:
                    yield from _uppermost(level, topic_filter)
                return
            if name == "+":
                levels = [
                    child
                    for level in levels
                    if "#" not in level.children
                    for child in level.children.values()
                ]
            else:
                levels = [child for level in levels if (child := level.children.get(name)) is not None]
        for level in levels:
            if level.topic_filter is not None and level.topic_filter != topic_filter:
                yield level.topic_filter

    def _covering(self, names: list[str]) -> Iterator[str]:
        """The filters that match all that these levels, of a topic or of a filter, match; itself among them."""
        levels = [self._root]
        # A wildcard at the first level matches no topic that begins with $ [MQTT-4.7.2-1].
        wildcards = not names[0].startswith("$")
        for name in names:
            following: list[_Level] = []
            for level in levels:
                children = level.children
                if wildcards:
                    rest = children.get("#")
                    # Where the name is `#` itself it follows below.
                    if rest is not None and rest.topic_filter is not None and name != "#":
                        yield rest.topic_filter
                    any_name = children.get("+")
                    # `+` stands for one level: it covers a name and `+`, never `#`.
                    if any_name is not None and name not in {"#", "+"}:
                        following.append(any_name)
                exact = children.get(name)
                if exact is not None:
                    following.append(exact)
            if not following:
                return
            levels = following
            wildcards = True
        for level in levels:
            if level.topic_filter is not None:
                yield level.topic_filter
            # `a/#` matches `a`, too.
            rest = level.children.get("#")
            if rest is not None and rest.topic_filter is not None:
                yield rest.topic_filter

    def _path(self, topic_filter: str) -> list[_Level] | None:
        path = [self._root]
        for name in topic_filter.split("/"):
            child = path[-1].children.get(name)
            if child is None:
                return None
            path.append(child)
        return path


def _cut_back(path: list[_Level], names: list[str]) -> None:
    """Remove the levels of a path that hold nothing any more."""
    for depth in range(len(names), 0, -1):
        level = path[depth]
        if level.children or level.topic_filter is not None:
            break
        del path[depth - 1].children[names[depth - 1]]


def _uppermost(level: _Level, itself: str) -> Iterator[str]:
    """The filters at a level and below, without ``itself`` and what one with ``#`` covers."""
    stack = [level]
    while stack:
        level = stack.pop()
        rest = level.children.get("#")
        if rest is not None and rest.topic_filter is not None and rest.topic_filter != itself:
            yield rest.topic_filter
            continue
        if level.topic_filter is not None and level.topic_filter != itself:
            yield level.topic_filter
        stack.extend(level.children.values())


def digest(topic_filters: Iterable[str]) -> int:
    """The sum of the filters' digests, 64 bits: whatever their order, and updated by adding and subtracting."""
    total = 0
    for topic_filter in topic_filters:
        total += int.from_bytes(blake2b(topic_filter.encode(), digest_size=8).digest(), "little")
    return total % DIGESTS


def is_travelling(topic_filter: str) -> bool:
    """Whether a filter may be told to other nodes: well formed, and not of the ``$`` topics."""
    if not topic_filter or topic_filter[0] == "$" or "\0" in topic_filter:
        return False
    *upper, last = topic_filter.split("/")
    return all("#" not in name and (name == "+" or "+" not in name) for name in upper) and (
        last in {"#", "+"} or ("#" not in last and "+" not in last)
    )


def bare_filter(topic_filter: str) -> str:
    """The filter of a shared subscription without its group; any other as it is."""
    if not topic_filter.startswith("$share/"):
        return topic_filter
    parts = topic_filter.split("/", 2)
    return parts[2] if len(parts) == 3 else topic_filter
