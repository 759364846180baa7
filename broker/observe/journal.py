"""What operators should know about clients, in the log `geomq.audit`: one line each, and not a flood of them."""

from __future__ import annotations

import logging
from collections import Counter

from broker.ports import Party

logger = logging.getLogger("geomq.audit")

_LINES = 20
"""Lines of one kind at once; one a second comes on top. What is above is counted and told as a number: a flood that
lasts a day takes some 10 MB."""

_PERIOD = 10
"""Seconds between such numbers."""

_LONGEST = 128
"""Characters of a name that are shown: a client may have one of 65,535."""


class AuditLog:
    """A :class:`broker.ports.Journal` that writes to the log.

    `event: client='…' user='…' address=… listener='…': words`: the same fields in every line, `-` where a client gave
    no user name, and no address is known.
    """

    def __init__(self) -> None:
        self._written: Counter[str] = Counter()
        """How many lines of a kind are to be made up for by seconds without one."""
        self._more: Counter[str] = Counter()
        self._wait = 0

    def note(self, event: str, who: Party | None, detail: str) -> None:
        """Write a line, unless too many of its kind were written; about no client where ``who`` is None."""
        if self._written[event] >= _LINES:
            self._more[event] += 1
            return
        self._written[event] += 1
        if who is None:
            logger.warning("%s: %s", event, detail)
            return
        logger.warning(
            "%s: client=%s user=%s address=%s listener=%s: %s",
            event,
            _quoted(who.client_id),
            "-" if who.username is None else _quoted(who.username),
            who.address or "-",
            _quoted(who.listener),
            detail,
        )

    def tick(self) -> None:
        """A second is over."""
        self._written -= Counter(list(self._written))
        self._wait -= 1
        if self._wait <= 0 and self._more:
            self._wait = _PERIOD
            for event, count in self._more.items():
                logger.warning("%s: %d more like these", event, count)
            self._more.clear()


def _quoted(name: str) -> str:
    """A name in quotes, in which nothing can be mistaken for more of the line."""
    return repr(name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…")
