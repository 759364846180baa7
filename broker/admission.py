"""Whether there is room for one more connection: counts and rates, before anything is known of the client."""

from __future__ import annotations

from broker.bucket import Bucket
from broker.limits import Limits
from broker.ports import LOCAL
from broker.protocol.constants import Reason

_MANY_ADDRESSES = 10_000
"""Addresses whose rate is remembered; beyond, those that are at rest are forgotten first."""


class Admission:
    """The connections of a node by address, and how fast they come. ``now`` is in seconds of the loop's clock."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._by_address: dict[str, int] = {}
        self._half_open: set[object] = set()
        self._rate = Bucket(limits.connection_rate, now) if limits.connection_rate else None
        self._rates: dict[str, Bucket] = {}
        self.overloaded = False
        """Set while the node has more to do than it can; new clients are asked to come later."""

    def change(self, limits: Limits, now: float) -> None:
        """Go on with other bounds; the rates begin anew."""
        self._limits = limits
        self._rate = Bucket(limits.connection_rate, now) if limits.connection_rate else None
        self._rates.clear()

    @property
    def half_open(self) -> int:
        """Connections that have not been accepted yet."""
        return len(self._half_open)

    def has_room(self) -> bool:
        """Whether a network connection may stay to send its CONNECT."""
        longest = self._limits.max_half_open
        return not longest or len(self._half_open) < longest

    def arrived(self, connection: object, address: str) -> None:
        """A network connection was made."""
        self._half_open.add(connection)
        self._by_address[address] = self._by_address.get(address, 0) + 1

    def accepted(self, connection: object) -> None:
        """Its CONNECT was accepted."""
        self._half_open.discard(connection)

    def left(self, connection: object, address: str) -> None:
        """It has ended."""
        self._half_open.discard(connection)
        count = self._by_address.get(address, 0) - 1
        if count > 0:
            self._by_address[address] = count
        else:
            self._by_address.pop(address, None)

    def objection(self, address: str, now: float) -> int:
        """Why a CONNECT from this address cannot be taken now, as a reason code, or 0."""
        limits = self._limits
        if self.overloaded:
            return Reason.SERVER_BUSY
        most = limits.max_connections_per_address
        if most and address != LOCAL and self._by_address.get(address, 0) > most:
            return Reason.QUOTA_EXCEEDED
        apart = limits.connection_rate_per_address and address != LOCAL
        if apart and not self._bucket(address, now).take(1, now):
            return Reason.CONNECTION_RATE_EXCEEDED
        if self._rate is not None and not self._rate.take(1, now):
            return Reason.CONNECTION_RATE_EXCEEDED
        return 0

    def _bucket(self, address: str, now: float) -> Bucket:
        bucket = self._rates.get(address)
        if bucket is None:
            if len(self._rates) >= _MANY_ADDRESSES:
                self._forget(now)
            bucket = self._rates[address] = Bucket(self._limits.connection_rate_per_address, now)
        return bucket

    def _forget(self, now: float) -> None:
        resting = [address for address, bucket in self._rates.items() if bucket.is_full(now)]
        for address in resting or list(self._rates)[: _MANY_ADDRESSES // 10]:
            del self._rates[address]
