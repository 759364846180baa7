"""What limits did, for operators: a counter for each, and a line for each client that meets one; pure."""

from __future__ import annotations

from collections import Counter

from broker.audit import party
from broker.ports import Journal, Party
from broker.session import Session
from broker.stats import Stats

_LINES = 20
"""Clients that are named for one limit within a period; what is above is counted and told as a number."""

_PERIOD = 60.0
"""Seconds for which a client that was named is not named again."""

_LONGEST = 128
"""Characters by which names are told apart: a client may have one of 65,535, and each is kept for a while."""


class LimitLog:
    """Counts and tells. A limit goes by its key in the configuration: ``max_subscriptions``.

    ``bound`` is its value, None where that tells nothing.
    """

    def __init__(self, stats: Stats, journal: Journal | None) -> None:
        self._stats = stats
        self._journal = journal
        self._told: dict[str, set[str]] = {}
        self._more: Counter[str] = Counter()
        self._until = 0.0

    def hit(self, limit: str, bound: object, who: Party, answer: str, count: int = 1) -> None:
        """A client met a limit, so many times: count it, and tell once what the limit is and what was done."""
        self._stats.limit(limit, count)
        self.tell(limit, bound, who, answer)

    def tell(self, limit: str, bound: object, who: Party, answer: str) -> None:
        """As :meth:`hit`, for what has been counted already."""
        told = self._told.setdefault(limit, set())
        name = (who.client_id or who.address)[:_LONGEST]
        if name in told or self._journal is None:
            return
        if len(told) >= _LINES:
            self._more[limit] += 1
            return
        told.add(name)
        limit = limit if bound is None else f"{limit} is {bound}"
        self._journal.note("limited", who, f"{limit}: {answer}")

    def queue_is_full(self, session: Session, limit: str) -> None:
        """The first message was dropped for want of room in a session's queue since its client came or left."""
        shown = session.credentials
        who = party(shown) if shown is not None else Party(session.client_id)
        bound = getattr(session.limits, limit)
        self.tell(limit, bound, who, "messages that wait for it are dropped")

    def tick(self, now: float) -> None:
        """From time to time: tell how many were not named, and begin anew."""
        if now < self._until:
            return
        self._until = now + _PERIOD
        if self._journal is not None:
            for limit, count in self._more.items():
                self._journal.note("limited", None, f"{limit}: {count} times more, by others")
        self._more.clear()
        self._told.clear()
