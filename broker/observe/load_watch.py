"""Measures the node's load, and tells when it becomes too much, and when that is over."""

from __future__ import annotations

import logging

from broker.observe.memory import give_back, resident_memory, usable_memory
from broker.overload import Overload
from broker.stats import Stats

logger = logging.getLogger("geomq")

_PART = 0.75
"""Of the memory that the process may use: the default mark. The rest is for the system, and for what is under way."""

_GIVE_BACK = 10.0
"""Seconds between attempts to hold less."""


class LoadWatch:
    """``memory`` (bytes; None for the default) and ``lag`` (seconds) are the marks, 0 for none."""

    def __init__(self, memory: int | None, lag: float, stats: Stats) -> None:
        self._overload = Overload(_mark(memory), lag)
        self._stats = stats
        self._refused = 0
        self._give_back_at = 0.0

    def change(self, memory: int | None, lag: float) -> None:
        """Go on with other marks."""
        self._overload.change(_mark(memory), lag)

    def look(self, delay: float, now: float) -> bool:
        """Whether the node is overloaded; ``delay`` is by how many seconds the event loop came late this time."""
        overload = self._overload
        resident = resident_memory()
        if overload.is_large(resident) and now >= self._give_back_at:
            # Memory that is free, but still held, is no load.
            self._give_back_at = now + _GIVE_BACK
            give_back()
            resident = resident_memory()
        before = overload.active
        if overload.update(delay, resident) != before:
            self._tell()
        return overload.active

    def _tell(self) -> None:
        figures = str(self._overload)
        if self._overload.active:
            self._refused = self._stats.limited_overload
            logger.warning(
                "overloaded (%s): new clients are refused (0x89), publishers are read from more slowly",
                figures,
            )
        else:
            refused = self._stats.limited_overload - self._refused
            logger.warning("no longer overloaded (%s): %d clients were refused", figures, refused)


def _mark(memory: int | None) -> int:
    return int(usable_memory() * _PART) if memory is None else memory
