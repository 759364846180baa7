"""What one node knows about another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_mesh.interest import RemoteInterest
from edge_mesh.lanes import SendingLane


class Peer:
    """Another node, living or remembered."""

    __slots__ = (
        "alive",
        "fetching_interest",
        "heard_at",
        "incarnation",
        "interest",
        "lane",
        "name",
        "next_repair",
        "region",
        "round_trip",
        "seen_at",
        "since",
    )

    def __init__(
        self, name: str, region: str, seen_at: float, interest: RemoteInterest, lane: SendingLane
    ) -> None:
        self.name = name
        self.region = region
        self.alive = False
        self.incarnation = 0
        self.since = seen_at
        self.seen_at = seen_at
        self.interest = interest
        self.lane = lane
        self.heard_at = 0.0
        """When it last said anything to this node, or joined: seconds of the event loop's clock."""
        self.round_trip: float | None = None
        self.fetching_interest = False
        self.next_repair = 0.0
        """Not before then (of the event loop's clock) is its interest asked for again because it differs."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """Another node, for people and for JSON."""

    name: str
    region: str
    alive: bool
    since: float
    """When it came, or went: wall-clock seconds."""
    backlog: int
    """Messages accepted for it and not acknowledged, as of the last commit."""
    sent: int
    received: int
    duplicates: int
    """Messages that it sent again and that were already here."""
    live_dropped: int
    """QoS 0 messages that were not sent because it was away."""
    interests: int
    """How many topic filters it announced."""
    round_trip_ms: float | None
    ledger: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}
