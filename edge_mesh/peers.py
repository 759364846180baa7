"""What one node knows about another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_mesh.arrivals import Received
from edge_mesh.interest import RemoteInterest
from edge_mesh.lanes import SendingLane
from edge_mesh.outbox import Outbox
from edge_mesh.rates import Rates

_RATES = ("messages_sent", "bytes_sent", "messages_received", "bytes_received")


class Peer:
    """Another node, living or remembered."""

    __slots__ = (
        "alive",
        "clock_difference",
        "fetching_interest",
        "heard_at",
        "incarnation",
        "interest",
        "lane",
        "name",
        "next_repair",
        "rates",
        "region",
        "round_trip",
        "seen_at",
        "since",
        "version",
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
        self.clock_difference: float | None = None
        """Seconds by which its wall clock is ahead of this node's; known to half the round trip."""
        self.version = ""
        """Its GeoMQ version, once it has answered a ping."""
        self.rates = Rates(len(_RATES))
        self.fetching_interest = False
        self.next_repair = 0.0
        """Not before then (of the event loop's clock) is its interest asked for again because it differs."""

    def pong(self, sent_at: float, wall: float, version: str, now: tuple[float, float]) -> None:
        """It has answered a ping; ``now`` is (wall-clock seconds, seconds of the clock of ``sent_at``)."""
        self.round_trip = max(0.0, now[1] - sent_at)
        self.clock_difference = wall - (now[0] - self.round_trip / 2)
        self.version = version

    def measure(self, received: Received, clock: float) -> None:
        """Bring the rates up to date; ``clock`` as in :meth:`edge_mesh.rates.Rates.update`."""
        lane = self.lane
        self.rates.update((lane.sent, lane.sent_bytes, received.messages, received.size), clock)

    def status(self, received: Received, outbox: Outbox) -> PeerStatus:
        """All that is to be told about it; ``received`` is what came from it."""
        ledger = outbox.ledger(self.name)
        return PeerStatus(
            name=self.name,
            region=self.region,
            alive=self.alive,
            since=self.since,
            backlog=ledger.queued,
            sent=self.lane.sent,
            received=received.messages,
            duplicates=received.duplicates,
            live_dropped=self.lane.live_dropped,
            interests=len(self.interest),
            round_trip_ms=round(self.round_trip * 1000, 3) if self.round_trip is not None else None,
            ledger=ledger.as_dict(),
            version=self.version,
            clock_difference=self.clock_difference,
            rates={name: round(rate, 1) for name, rate in zip(_RATES, self.rates.per_second, strict=True)},
            backlog_age=round(outbox.backlog_age(self.name), 1),
        )


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
    """QoS 0 messages that were not sent because it was away, or because too much of them waited for the link."""
    interests: int
    """How many topic filters it announced."""
    round_trip_ms: float | None
    ledger: dict[str, Any]
    version: str
    """Its GeoMQ version; empty as long as it has answered nothing."""
    clock_difference: float | None
    """Seconds by which its wall clock is ahead of this node's."""
    rates: dict[str, float]
    """Messages and bytes a second, sent to it and received from it."""
    backlog_age: float
    """For how many seconds the oldest message in the outbox has waited for it."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}
