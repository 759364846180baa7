"""Another configuration for a node that runs: what of it holds at once, and what waits for a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

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


class Outcome(NamedTuple):
    """What a node made of a configuration."""

    changed: Sequence[str] = ()
    """The keys whose new value holds now."""
    waiting: Sequence[str] = ()
    """The keys whose new value needs a restart."""
    mistakes: Sequence[str] = ()
    """Why nothing has changed, where that is so."""
    rules: Mapping[str, str] = MappingProxyType({})
    """Why rules are not at work as they should be, by their names."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**self._asdict(), "rules": dict(self.rules)}


class Reloader:
    """Reads the configuration whenever it is asked to, one time after the other."""

    def __init__(
        self, read: Callable[[], NodeConfig], take: Callable[[NodeConfig], Awaitable[Outcome]]
    ) -> None:
        self._read = read
        self._take = take
        self._asked = asyncio.Event()
        self._curious: list[asyncio.Future[Outcome]] = []
        """Who waits for what comes of a reading that has not begun yet."""

    def ask(self) -> None:
        """Read the configuration again, soon."""
        self._asked.set()

    async def outcome(self) -> Outcome:
        """Read the configuration again: what comes of it."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._curious.append(future)
        self.ask()
        return await future

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            curious, self._curious = self._curious, []
            try:
                outcome = await self._once()
            except asyncio.CancelledError:
                for future in curious:
                    future.cancel()
                raise
            for future in curious:
                if not future.done():
                    future.set_result(outcome)

    async def _once(self) -> Outcome:
        try:
            outcome = await self._take(self._read())
        except ConfigError as error:
            outcome = Outcome(mistakes=list(map(str, error.problems)))
        except Exception:
            logger.exception("the configuration could not be taken over")
            return Outcome(mistakes=["it could not be taken over; the node's log has the error"])
        _log(outcome)
        return outcome


def _log(outcome: Outcome) -> None:
    for mistake in outcome.mistakes:
        logger.error("the configuration stays as it was: %s", mistake)
    if outcome.waiting:
        logger.warning("only a restart changes %s", ", ".join(outcome.waiting))
    if not outcome.mistakes:
        logger.info("the configuration was read again; changed: %s", ", ".join(outcome.changed) or "nothing")
