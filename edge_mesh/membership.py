"""Who is in the mesh, by the liveliness tokens that come and go; pure: the link tells, the mesh acts."""

from __future__ import annotations

import logging
from enum import Enum
from typing import NamedTuple

from edge_mesh.keys import PROTOCOL_VERSION, Keys

logger = logging.getLogger("geomq.mesh.membership")


class Event(Enum):
    """What a token meant."""

    JOINED = "joined"
    """A node is there that was not, or was restarted."""
    LEFT = "left"
    """A node is there no longer: it left, died, or cannot be reached."""
    NAME_TAKEN = "name taken"
    """Another living node had this node's name first."""
    NAME_FREE = "name free"
    """That other node is gone."""


class Seen(NamedTuple):
    """An event, and the node it is about."""

    event: Event
    node: str
    region: str
    incarnation: int


class Membership:
    """The living nodes, and whether this one may be among them.

    A node's incarnation tells its lives apart. Where two living nodes have one name the older keeps it: a
    node that finds its own name taken steps back until the other is gone. After a crash that other one may
    be its own former life, whose token has not yet expired.
    """

    def __init__(self, keys: Keys, node: str, incarnation: int) -> None:
        self._keys = keys
        self._node = node
        self._incarnation = incarnation
        # node -> incarnation -> region; usually one incarnation.
        self._tokens: dict[str, dict[int, str]] = {}
        self._foreign_versions: set[str] = set()
        self.refused = False
        """Whether another living node had this node's name first."""

    def token_changed(self, key: str, alive: bool) -> Seen | None:
        """Take note of a token; what it means, if anything."""
        token = self._keys.parse_token(key)
        if token is None:
            return None
        if token.version != PROTOCOL_VERSION:
            self._warn_of_version(key, token.node, token.version, alive)
            return None
        tokens = self._tokens.setdefault(token.node, {})
        before = min(tokens, default=None)
        old_region = tokens.get(token.incarnation)
        if alive:
            tokens[token.incarnation] = token.region
        elif old_region == token.region:
            del tokens[token.incarnation]
        # Else it has moved to another region, and the news of its coming there was faster than that of its leaving.
        if token.node == self._node:
            if alive and token.incarnation > self._incarnation:
                logger.warning(
                    "another node calls itself %r, in region %s: it keeps out of the mesh as long as this one is there",
                    self._node,
                    token.region,
                )
            return self._own_name(tokens, token.region)
        after = min(tokens, default=None)
        if after is None:
            del self._tokens[token.node]
            return None if before is None else Seen(Event.LEFT, token.node, token.region, before)
        moved = alive and after == token.incarnation and old_region not in (None, token.region)
        if after == before and not moved:
            return None
        return Seen(Event.JOINED, token.node, tokens[after], after)

    def _own_name(self, tokens: dict[int, str], region: str) -> Seen | None:
        older = any(incarnation < self._incarnation for incarnation in tokens)
        if older == self.refused:
            return None
        self.refused = older
        event = Event.NAME_TAKEN if older else Event.NAME_FREE
        return Seen(event, self._node, region, self._incarnation)

    def _warn_of_version(self, key: str, node: str, version: int, alive: bool) -> None:
        if alive and key not in self._foreign_versions:
            self._foreign_versions.add(key)
            logger.warning(
                "node %s speaks version %d of the mesh protocol, this node %d: they do not hear each other",
                node,
                version,
                PROTOCOL_VERSION,
            )
        elif not alive:
            self._foreign_versions.discard(key)
