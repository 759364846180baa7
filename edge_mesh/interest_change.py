"""Changes of a node's interest, and snapshots, as they travel: JSON of bounded size; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from edge_mesh.envelope import MAX_SEQUENCE
from edge_mesh.filter_set import is_travelling

_PART_LETTERS = 64 << 10
"""Letters of filters in one message: over a slow link each one is a sign of life. One filter always fits."""


class InterestError(ValueError):
    """The bytes are not a change of interest, or not a part of a snapshot."""


class Change(NamedTuple):
    """From one version of a node's interest to the next. As a snapshot: from nothing."""

    incarnation: int
    """Which life of the node counts the versions."""
    version: int
    added: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def letters(self) -> int:
        """The length of all its filters."""
        return sum(map(len, self.added)) + sum(map(len, self.removed))

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


class Delta:
    """What came and what went since the last look; what came and went again is no change. True if any."""

    __slots__ = ("added", "removed")

    def __init__(self) -> None:
        self.added: dict[str, None] = {}
        self.removed: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)

    def add(self, topic_filter: str) -> None:
        """It came."""
        if topic_filter in self.removed:
            del self.removed[topic_filter]
        else:
            self.added[topic_filter] = None

    def remove(self, topic_filter: str) -> None:
        """It went."""
        if topic_filter in self.added:
            del self.added[topic_filter]
        else:
            self.removed[topic_filter] = None

    def take(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(added, removed): as much as goes into one message; removed only once all that is added has gone."""
        added = next(_groups(self.added), ())
        for topic_filter in added:
            del self.added[topic_filter]
        if added:
            # Both in one message wherever they fit, or else a later one has what is removed.
            room = _PART_LETTERS - sum(map(len, added))
            if self.added or sum(map(len, self.removed)) > room:
                return added, ()
        removed = next(_groups(self.removed), ())
        for topic_filter in removed:
            del self.removed[topic_filter]
        return added, removed


def decode_change(data: bytes) -> Change:
    """InterestError where the bytes are not what :meth:`Change.encode` makes."""
    fields = _fields(data, {"incarnation", "version", "added", "removed"})
    return Change(
        _number(fields, "incarnation"),
        _number(fields, "version"),
        _filters(fields, "added"),
        _filters(fields, "removed"),
    )


def snapshot_parts(snapshot: Change) -> Iterator[bytes]:
    """A snapshot as messages of bounded size: at least one, numbered from 1, each says how many there are."""
    groups = list(_groups(snapshot.added)) or [()]
    for number, group in enumerate(groups, 1):
        fields = {
            "incarnation": snapshot.incarnation,
            "version": snapshot.version,
            "part": number,
            "parts": len(groups),
            "filters": group,
        }
        yield json.dumps(fields).encode()


def join_snapshot(parts: Sequence[bytes]) -> Change | None:
    """The snapshot of which these are the parts, in whatever order; None where they are not all of one.

    InterestError where the bytes are no part of a snapshot.
    """
    found: dict[int, tuple[str, ...]] = {}
    heads: set[tuple[int, int, int]] = set()
    for data in parts:
        fields = _fields(data, {"incarnation", "version", "part", "parts", "filters"})
        found[_number(fields, "part")] = _filters(fields, "filters")
        heads.add((_number(fields, "incarnation"), _number(fields, "version"), _number(fields, "parts")))
    if len(heads) != 1:
        return None
    ((incarnation, version, total),) = heads
    # The count is what the other node says: it is compared before anything is made of its size.
    if len(found) != total or set(found) != set(range(1, total + 1)):
        return None
    topic_filters = tuple(item for number in sorted(found) for item in found[number])
    return Change(incarnation, version, topic_filters, ())


def _groups(topic_filters: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """In order, each of a bounded size; none where there are no filters."""
    group: list[str] = []
    letters = 0
    for topic_filter in topic_filters:
        if group and letters + len(topic_filter) > _PART_LETTERS:
            yield tuple(group)
            group = []
            letters = 0
        group.append(topic_filter)
        letters += len(topic_filter)
    if group:
        yield tuple(group)


def _fields(data: bytes, names: set[str]) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InterestError(f"not JSON: {error!r}") from None
    if not isinstance(fields, dict) or set(fields) != names:
        raise InterestError(f"not an object of {', '.join(sorted(names))}")
    return fields


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if type(value) is not int or not 0 <= value < MAX_SEQUENCE:
        raise InterestError(f"{name} is not a number below 2**62")
    return value


def _filters(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    value = fields[name]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InterestError(f"{name} is not a list of strings")
    for item in value:
        # JSON can spell half a character, which no topic has and no database keeps.
        if not is_travelling(item) or any("\ud800" <= letter <= "\udfff" for letter in item):
            raise InterestError(f"{item!r} in {name} is not a filter that travels")
    return tuple(value)
