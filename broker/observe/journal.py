"""What operators should know about clients, in the log `geomq.audit`: one line each, and not a flood of them."""

from __future__ import annotations

import logging
from collections import Counter

logger = logging.getLogger("geomq.audit")

_LINES = 20
"""Lines of one kind at once; one a second comes on top. What is above is counted and told as a number: a flood that
lasts a day takes some 10 MB."""

_PERIOD = 10
"""Seconds between such numbers."""


class AuditLog:
    """A :class:`broker.ports.Journal` that writes to the log."""

    def __init__(self) -> None:
        self._written: Counter[str] = Counter()
        """How many lines of a kind are to be made up for by seconds without one."""
        self._more: Counter[str] = Counter()
        self._wait = 0

    def note(self, event: str, client_id: str, address: str, detail: str) -> None:
        """Write a line, unless too many of its kind were written; about no client where none is named."""
        if self._written[event] >= _LINES:
            self._more[event] += 1
            return
        self._written[event] += 1
        if client_id or address:
            logger.warning("%s: client %r at %s: %s", event, client_id, address or "?", detail)
        else:
            logger.warning("%s: %s", event, detail)

    def tick(self) -> None:
        """A second is over."""
        self._written -= Counter(list(self._written))
        self._wait -= 1
        if self._wait <= 0 and self._more:
            self._wait = _PERIOD
            for event, count in self._more.items():
                logger.warning("%s: %d more like these", event, count)
            self._more.clear()
