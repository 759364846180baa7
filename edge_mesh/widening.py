"""Fewer topic filters that match at least as much: which prefixes to widen (``a/b/c`` to ``a/b/#``); pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from math import log2

_NAMED = 3.0
"""Each level with a name is taken to divide the topics by eight: a prefix with one level less has to save
eight times as much to be chosen."""
_ANY = 0.5
"""A `+` keeps out what has fewer levels, and little else."""


class _Branch:
    """A prefix, and how many filters begin with it; 0 once a shorter prefix stands for it."""

    __slots__ = ("children", "count", "is_named", "name", "parent", "weight")

    def __init__(self, name: str, parent: _Branch | None) -> None:
        self.name = name
        self.parent = parent
        self.children: dict[str, _Branch] = {}
        self.count = 0
        self.weight = 0.0
        self.is_named = False
        if parent is not None:
            self.weight = parent.weight + (_ANY if name == "+" else _NAMED)
            self.is_named = parent.is_named or name != "+"

    def worth(self, excess: int) -> float:
        """How good it is to widen here, as a logarithm: what it saves by how much it matches beyond.

        To save more than ``excess`` is worth nothing.
        """
        return log2(min(self.count - 1, excess)) + self.weight

    def widened(self) -> str:
        """The filter that stands for all that begin with the prefix."""
        names = ["#"]
        branch = self
        while branch.parent is not None:
            names.append(branch.name)
            branch = branch.parent
        return "/".join(reversed(names))


def widen(topic_filters: Iterable[str], needed: int, wanted: int) -> list[str]:
    """Filters with ``#`` such that ``needed`` fewer are left when each stands for all that it covers.

    No filter may cover another one. Those that save most and match least beyond what they stand for are
    taken first. Up to ``wanted`` more are saved by prefixes no shorter than those that were needed. Where
    even what is needed would take a prefix without any name (``#``, ``+/#``) it is less.
    """
    branches = _grow(topic_filters)
    chosen: dict[_Branch, None] = {}
    saved = _choose(branches, needed, chosen)
    if chosen:
        lightest = min(branch.weight for branch in chosen)
        _choose([branch for branch in branches if branch.weight >= lightest], wanted - saved, chosen)
    return [branch.widened() for branch in chosen]


def _choose(branches: Iterable[_Branch], excess: int, chosen: dict[_Branch, None]) -> int:
    """Add the best prefixes to those that are chosen; returns how many filters they save."""
    if excess <= 0:
        return 0
    heap = [
        (-branch.worth(excess), number, branch)
        for number, branch in enumerate(branches)
        if branch.is_named and branch.count > 1
    ]
    heapq.heapify(heap)
    saved = 0
    while saved < excess and heap:
        worth, number, branch = heapq.heappop(heap)
        if branch.count < 2:
            continue
        # What was chosen since may have left less to save; worth never rises.
        current = -branch.worth(excess - saved)
        if current > worth:
            heapq.heappush(heap, (current, number, branch))
            continue
        saved += branch.count - 1
        _cut(branch, chosen)
        chosen[branch] = None
    return saved


def _grow(topic_filters: Iterable[str]) -> list[_Branch]:
    """Every prefix that several filters have in common, with their count."""
    branches: list[_Branch] = []
    # (prefix, the filters that begin with it as their levels, how many of those are in the prefix)
    growing = [(_Branch("", None), [topic_filter.split("/") for topic_filter in topic_filters], 0)]
    while growing:
        branch, filters, depth = growing.pop()
        branch.count = len(filters)
        groups: dict[str, list[list[str]]] = {}
        for names in filters:
            if depth < len(names) and names[depth] != "#":
                groups.setdefault(names[depth], []).append(names)
        for name, group in groups.items():
            # To widen where there is one filter saves none: most prefixes are not looked at.
            if len(group) > 1:
                child = branch.children[name] = _Branch(name, branch)
                branches.append(child)
                growing.append((child, group, depth + 1))
    return branches


def _cut(branch: _Branch, chosen: dict[_Branch, None]) -> None:
    """One filter stands for the whole branch, and for what was chosen below it."""
    saved = branch.count - 1
    above: _Branch | None = branch
    while above is not None:
        above.count -= saved
        above = above.parent
    below = list(branch.children.values())
    while below:
        part = below.pop()
        if part.count:
            part.count = 0
            chosen.pop(part, None)
            below.extend(part.children.values())
