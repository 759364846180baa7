"""What operators should know about clients, in the log `geomq.audit`: one line each, and not a flood of them."""

from __future__ import annotations

import logging
from collections import Counter

logger = logging.getLogger("geomq.audit")

_LINES = 20
"""Lines of one kind a second; what is above is counted and told as a number."""


class AuditLog:
    """A :class:`broker.ports.Journal` that writes to the log."""

    def __init__(self) -> None:
        self._written: Counter[str] = Counter()

    def note(self, event: str, client_id: str, address: str, detail: str) -> None:
        """Write a line, unless too many of its kind were written this second; about no client where none is named."""
        self._written[event] += 1
        if self._written[event] > _LINES:
            return
        if client_id or address:
            logger.warning("%s: client %r at %s: %s", event, client_id, address or "?", detail)
        else:
            logger.warning("%s: %s", event, detail)

    def tick(self) -> None:
        """A second is over."""
        for event, count in self._written.items():
            if count > _LINES:
                logger.warning("%s: %d more like these", event, count - _LINES)
        self._written.clear()
