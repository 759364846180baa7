"""Other rules, settings and modules for a node that runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from plugins.host.engine import Instance
from plugins.host.entry import Entry
from plugins.host.loading import Marks, Plan, marks
from plugins.host.reasons import PluginError
from plugins.post import Post

logger = logging.getLogger("geomq.plugins")


class Change(NamedTuple):
    """What a rule goes on as."""

    post: Post
    entry: Entry
    prepared: tuple[Plan, Instance] | None
    why_none: str = ""
    """What keeps its module from starting."""


class Renewal(NamedTuple):
    """What there is to do at once, between two batches."""

    posts: list[Post]
    """All there are from now on, in order."""
    changes: list[Change]


class Wanted:
    """What the configuration asks for, and which of its files have been tried already.

    A module that does not start leaves the old one in place; it is tried again when one of its files changes.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = list(entries)
        self._tried: dict[str, Marks] = {entry.name: marks(entry) for entry in entries}
        self.stayed: dict[str, str] = {}
        """Why entries are still what they were before, by their names."""

    @property
    def has_changed_files(self) -> bool:
        """Whether a module or a key is not what it was when it was tried."""
        return any(marks(entry) != self._tried.get(entry.name) for entry in self.entries)

    async def prepare(
        self, entries: Iterable[Entry], posts: Sequence[Post], make: Callable[[Entry], Post]
    ) -> Renewal:
        """Load on threads whatever differs from what ``posts`` are; ``make`` makes what is new."""
        tried, self._tried = self._tried, {}
        stayed, self.stayed = self.stayed, {}
        self.entries = list(entries)
        present = {(post.rule.entry.stage, post.rule.entry.name): post for post in posts}
        renewal = Renewal([], [])
        for entry in self.entries:
            seen = self._tried[entry.name] = marks(entry)
            post = present.get((entry.stage, entry.name))
            if post is None:
                post = await asyncio.to_thread(make, entry)
            elif post.rule.entry != entry or seen != tried.get(entry.name):
                change = await self._prepared(post, entry)
                if change is not None:
                    renewal.changes.append(change)
            elif entry.name in stayed:
                self.stayed[entry.name] = stayed[entry.name]
            renewal.posts.append(post)
        return renewal

    async def _prepared(self, post: Post, entry: Entry) -> Change | None:
        rule = post.rule
        try:
            return Change(post, entry, await asyncio.to_thread(rule.prepare, entry))
        except PluginError as error:
            if not rule.works:
                # Nothing is lost with what never worked.
                return Change(post, entry, None, str(error))
            rule.stay(error)
            self.stayed[entry.name] = str(error)
            return None
