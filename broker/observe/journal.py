"""What operators should know about clients, in the log `geomq.audit`: one line each, and not a flood of them."""

from __future__ import annotations

import logging
from collections import Counter

from broker.ports import Party

logger = logging.getLogger("geomq.audit")

_LINES = 20
"""Lines of one kind a second; what is above is counted and told as a number."""
_LONGEST = 128
"""Characters of a name that are shown: a client may have one of 65,535."""


class AuditLog:
    """A :class:`broker.ports.Journal` that writes to the log.

    `event: client='…' user='…' address=… listener='…': words`: the same fields in every line, `-` where a client gave
    no user name, and no address is known.
    """

    def __init__(self) -> None:
        self._written: Counter[str] = Counter()

    def note(self, event: str, who: Party, detail: str) -> None:
        """Write a line, unless too many of its kind were written this second."""
        self._written[event] += 1
        if self._written[event] <= _LINES:
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
        for event, count in self._written.items():
            if count > _LINES:
                logger.warning("%s: %d more like these", event, count - _LINES)
        self._written.clear()


def _quoted(name: str) -> str:
    """A name in quotes, in which nothing can be mistaken for more of the line."""
    return repr(name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…")
