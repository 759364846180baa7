"""Which topics a node wants: told as a versioned set of filters, heard with gaps noticed; pure.

Filters that another one covers are left out: a node that holds ``a/#`` and ``a/b`` tells only ``a/#``.
Filters that begin with ``$`` never travel: what they name is each node's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class _Level:
    __slots__ = ("children", "topic_filter")

    def __init__(self) -> None:
        self.children: dict[str, _Level] = {}
        self.topic_filter: str | None = None


class FilterSet:
    """Topic filters as a tree of their levels: covering and matching without looking at all of them."""

    __slots__ = ("_root", "_size")

    def __init__(self, topic_filters: Iterable[str] = ()) -> None:
        self._root = _Level()
        self._size = 0
        for topic_filter in topic_filters:
            self.add(topic_filter)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        return self._under(self._root)

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
        names = topic_filter.split("/")
        for depth in range(len(names), 0, -1):
            level = path[depth]
            if level.children or level.topic_filter is not None:
                break
            del path[depth - 1].children[names[depth - 1]]
        return True

    def matches(self, topic: str) -> bool:
        """Whether any filter matches the topic."""
        return self._covers(topic.split("/"))

    def covers(self, topic_filter: str) -> bool:
        """Whether another filter matches every topic that this one matches."""
        return self._covers(topic_filter.split("/"), topic_filter)

    def covered_by(self, topic_filter: str) -> list[str]:
        """The other filters that match nothing but what this one matches."""
        found: list[str] = []
        levels = [self._root]
        names = topic_filter.split("/")
        for name in names:
            if name == "#":
                for level in levels:
                    found.extend(self._under(level))
                break
            if name == "+":
                levels = [child for level in levels for key, child in level.children.items() if key != "#"]
            else:
                levels = [child for level in levels if (child := level.children.get(name)) is not None]
        else:
            found = [level.topic_filter for level in levels if level.topic_filter is not None]
        return [other for other in found if other != topic_filter]

    def _covers(self, names: list[str], itself: str | None = None) -> bool:
        levels = [self._root]
        # A wildcard at the first level matches no topic that begins with $ [MQTT-4.7.2-1].
        wildcards = not names[0].startswith("$")
        for name in names:
            following: list[_Level] = []
            for level in levels:
                children = level.children
                if wildcards:
                    rest = children.get("#")
                    if rest is not None and rest.topic_filter != itself:
                        return True
                    any_name = children.get("+")
                    # `+` stands for one level: it covers a name and `+`, never `#`.
                    if any_name is not None and name not in {"#", "+"}:
                        following.append(any_name)
                exact = children.get(name)
                if exact is not None:
                    following.append(exact)
            if not following:
                return False
            levels = following
            wildcards = True
        for level in levels:
            if level.topic_filter is not None and level.topic_filter != itself:
                return True
            # `a/#` matches `a`, too.
            rest = level.children.get("#")
            if rest is not None and rest.topic_filter != itself:
                return True
        return False

    def _path(self, topic_filter: str) -> list[_Level] | None:
        path = [self._root]
        for name in topic_filter.split("/"):
            child = path[-1].children.get(name)
            if child is None:
                return None
            path.append(child)
        return path

    @staticmethod
    def _under(level: _Level) -> Iterator[str]:
        stack = [level]
        while stack:
            level = stack.pop()
            if level.topic_filter is not None:
                yield level.topic_filter
            stack.extend(level.children.values())


class Change(NamedTuple):
    """From one version of a node's interest to the next. As a snapshot: from nothing."""

    incarnation: int
    """Which life of the node counts the versions."""
    version: int
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(
            {
                "incarnation": self.incarnation,
                "version": self.version,
                "added": self.added,
                "removed": self.removed,
            }
        ).encode()


class InterestError(ValueError):
    """The bytes are not a change of interest."""


def decode_change(data: bytes) -> Change:
    """InterestError where the bytes are not what :meth:`Change.encode` makes."""
    try:
        fields = json.loads(data)
        change = Change(
            fields["incarnation"], fields["version"], tuple(fields["added"]), tuple(fields["removed"])
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InterestError(f"not a change of interest: {error!r}") from None
    if type(change.incarnation) is not int or type(change.version) is not int:
        raise InterestError("incarnation and version must be numbers")
    if not all(isinstance(item, str) and is_travelling(item) for item in change.added + change.removed):
        raise InterestError("not all of it are topic filters that travel")
    return change


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


class LocalInterest:
    """What this node's sessions hold, and what of it is told."""

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.version = 0
        self._held: set[str] = set()
        self._holders: dict[str, int] = {}
        self._all = FilterSet()
        self._told: set[str] = set()
        self._added: set[str] = set()
        self._removed: set[str] = set()

    def add(self, topic_filter: str) -> bool:
        """A filter is held now; True when there is something to tell."""
        bare = bare_filter(topic_filter)
        if topic_filter in self._held or not is_travelling(bare):
            return False
        self._held.add(topic_filter)
        self._holders[bare] = self._holders.get(bare, 0) + 1
        if not self._all.add(bare) or self._all.covers(bare):
            return False
        self._tell(bare)
        for covered in self._all.covered_by(bare):
            if covered in self._told:
                self._untell(covered)
        return self.changed

    def remove(self, topic_filter: str) -> bool:
        """A filter is held no longer; True when there is something to tell."""
        if topic_filter not in self._held:
            return False
        self._held.discard(topic_filter)
        bare = bare_filter(topic_filter)
        self._holders[bare] -= 1
        if self._holders[bare]:
            return False
        del self._holders[bare]
        self._all.discard(bare)
        if bare not in self._told:
            return False
        self._untell(bare)
        for covered in self._all.covered_by(bare):
            if not self._all.covers(covered):
                self._tell(covered)
        return self.changed

    @property
    def changed(self) -> bool:
        """Whether there is something that has not been told."""
        return bool(self._added or self._removed)

    def take_change(self) -> Change:
        """The changes since the last call, as the next version."""
        self.version += 1
        change = Change(self.incarnation, self.version, tuple(self._added), tuple(self._removed))
        self._added.clear()
        self._removed.clear()
        return change

    def snapshot(self) -> Change:
        """Everything that has been told, as one change from nothing."""
        told = self._told - self._added | self._removed
        return Change(self.incarnation, self.version, tuple(told), ())

    def _tell(self, topic_filter: str) -> None:
        self._told.add(topic_filter)
        if topic_filter in self._removed:
            self._removed.discard(topic_filter)
        else:
            self._added.add(topic_filter)

    def _untell(self, topic_filter: str) -> None:
        self._told.discard(topic_filter)
        if topic_filter in self._added:
            self._added.discard(topic_filter)
        else:
            self._removed.add(topic_filter)


class RemoteInterest:
    """What another node told, as far as it is known here."""

    def __init__(self, topic_filters: Iterable[str] = ()) -> None:
        self.incarnation = 0
        self.version = 0
        self._filters = FilterSet(topic_filters)
        # Changes that came before the snapshot that they build upon.
        self._early: list[Change] = []

    def __len__(self) -> int:
        return len(self._filters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._filters)

    def matches(self, topic: str) -> bool:
        """Whether the node wants the topic."""
        return self._filters.matches(topic)

    def is_current(self, incarnation: int, version: int) -> bool:
        """Whether nothing is missing up to this version."""
        return self.incarnation == incarnation and self.version >= version

    def apply_snapshot(self, snapshot: Change) -> tuple[list[str], list[str]]:
        """(added, removed): what has to change here to know what the snapshot says."""
        if self.is_current(snapshot.incarnation, snapshot.version):
            return [], []
        before = set(self._filters)
        self._filters = FilterSet(snapshot.added)
        self.incarnation = snapshot.incarnation
        self.version = snapshot.version
        early, self._early = self._early, []
        for change in early:
            if change.incarnation == self.incarnation and change.version > self.version:
                self.apply(change)
        after = set(self._filters)
        return list(after - before), list(before - after)

    def apply(self, change: Change) -> tuple[list[str], list[str]] | None:
        """(added, removed), or None where a change before this one is missing: ask for a snapshot."""
        if self.is_current(change.incarnation, change.version):
            return [], []
        if change.incarnation != self.incarnation or change.version != self.version + 1:
            if len(self._early) < 1000:
                self._early.append(change)
            return None
        self.version = change.version
        added = [topic_filter for topic_filter in change.added if self._filters.add(topic_filter)]
        removed = [topic_filter for topic_filter in change.removed if self._filters.discard(topic_filter)]
        return added, removed
