"""Another configuration for a node that runs: what of it holds at once, and what waits for a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from broker.config import ConfigError, NodeConfig
from broker.config.base import Section

logger = logging.getLogger("geomq")

_LIVE = ("node.region", "mqtt.", "limits.", "mesh.", "plugins.", "log.")
_WAITING = frozenset(
    {
        # Other nodes and what is on disk know these.
        *("mesh.enabled", "mesh.namespace"),
        # What exists was made with these.
        *("mqtt.overlapping", "mqtt.queue_qos0"),
    }
)


class Change(NamedTuple):
    """The way from one configuration to another."""

    live: list[str]
    """The keys whose new value can hold at once."""
    waiting: list[str]
    """The keys whose new value needs a restart."""
    config: NodeConfig
    """The old configuration with the new values of the live keys."""


def compare(old: NodeConfig, new: NodeConfig) -> Change:
    """What differs, by keys of the second level (``mesh.connect``), or of the first (``listeners``)."""
    live: list[str] = []
    waiting: list[str] = []
    sections: dict[str, Section] = {}
    for name in NodeConfig.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if not isinstance(before, Section):
            if before != after:
                waiting.append(name)
            continue
        taken = {}
        for field in type(before).model_fields:
            value, key = getattr(after, field), f"{name}.{field}"
            if value == getattr(before, field):
                continue
            if key.startswith(_LIVE) and key not in _WAITING:
                live.append(key)
                taken[field] = value
            else:
                waiting.append(key)
        if taken:
            sections[name] = before.model_copy(update=taken)
    return Change(live, waiting, old.model_copy(update=sections))


class Reloader:
    """Reads the configuration whenever it is asked to, one time after the other."""

    def __init__(self, read: Callable[[], NodeConfig], take: Callable[[NodeConfig], Awaitable[None]]) -> None:
        self._read = read
        self._take = take
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read the configuration again, soon."""
        self._asked.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._take(self._read())
            except ConfigError as error:
                for problem in error.problems:
                    logger.error("the configuration stays as it was: %s", problem)
            except Exception:
                logger.exception("the configuration could not be taken over")
