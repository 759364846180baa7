"""Whether there is room for one more connection: counts and rates, before anything is known of the client."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import NamedTuple

from broker.bucket import Bucket
from broker.limits import Limits
from broker.ports import LOCAL

_MANY = 10_000
"""Names whose rate is remembered; beyond, those that are at rest are forgotten first."""


class Tally:
    """How many there are of each name; ``most`` is how many there may be, 0 for no bound."""

    __slots__ = ("_counts", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: dict[str, int] = {}

    def add(self, name: str, change: int = 1) -> None:
        """There is one more, or with a change of -1 one less."""
        count = self._counts.get(name, 0) + change
        if count > 0:
            self._counts[name] = count
        else:
            self._counts.pop(name, None)

    def count(self, name: str) -> int:
        """How many there are of a name."""
        return self._counts.get(name, 0)

    def has_room(self, name: str, more: int = 1) -> bool:
        """Whether there may be so many more of a name."""
        return not self.most or self._counts.get(name, 0) + more <= self.most


class Rates:
    """So many a second of each name; 0 for no bound."""

    __slots__ = ("_buckets", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._buckets: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def change(self, rate: float) -> None:
        """Go on with another rate, which begins anew."""
        self.rate = rate
        self._buckets.clear()

    def take(self, name: str, now: float) -> bool:
        """Whether one more may come now; it then counts."""
        if not self.rate:
            return True
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= _MANY:
                self._forget(now)
            bucket = self._buckets[name] = Bucket(self.rate, now)
        return bucket.take(1, now)

    def _forget(self, now: float) -> None:
        resting = [name for name, bucket in self._buckets.items() if bucket.is_full(now)]
        for name in resting or list(self._buckets)[: _MANY // 10]:
            del self._buckets[name]


class HalfOpen:
    """The connections that have not been let in yet; ``most`` is how many there may be, 0 for no bound."""

    __slots__ = ("_connections", "_of_address", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._connections: dict[object, str] = {}
        self._of_address = Tally(0)

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: object, address: str) -> None:
        """A network connection was made."""
        self._connections[connection] = address
        self._of_address.add(address)

    def discard(self, connection: object) -> None:
        """It was let in, or is gone."""
        address = self._connections.pop(connection, None)
        if address is not None:
            self._of_address.add(address, -1)

    def of(self, address: str) -> int:
        """How many there are of an address."""
        return self._of_address.count(address)

    @property
    def share(self) -> int:
        """How many there may be of one address, so that no address alone keeps all others out; 0 for no bound."""
        return (self.most + 1) // 2

    @property
    def has_room(self) -> bool:
        """Whether one more may stay to send its CONNECT."""
        return not self.most or len(self._connections) < self.most


class Refusal(NamedTuple):
    """The limit that a connection meets, what it is, and how the connection is answered."""

    limit: str
    bound: int
    answer: str


class Admission:
    """The connections of a node, and how fast they come. ``now`` is in seconds of the loop's clock."""

    def __init__(self, limits: Limits) -> None:
        self.half_open = HalfOpen(limits.max_half_open)
        self.per_address = Tally(limits.max_connections_per_address)
        self.per_user = Tally(limits.max_connections_per_user)
        self._rate = Rates(limits.connection_rate)
        self._rate_per_address = Rates(limits.connection_rate_per_address)

    def apart(self, limits: Limits, own: Collection[str]) -> Admission:
        """The admission of a listener: what it has bounds of its own for is counted there, all else with the node's.

        ``own`` are the names of these bounds, as in `limits`.
        """
        found = copy.copy(self)
        if "max_half_open" in own:
            found.half_open = HalfOpen(limits.max_half_open)
        if "max_connections_per_address" in own:
            found.per_address = Tally(limits.max_connections_per_address)
        if "max_connections_per_user" in own:
            found.per_user = Tally(limits.max_connections_per_user)
        if "connection_rate" in own:
            found._rate = Rates(limits.connection_rate)
        if "connection_rate_per_address" in own:
            found._rate_per_address = Rates(limits.connection_rate_per_address)
        return found

    def change(self, limits: Limits) -> None:
        """Go on with other bounds, as do the listeners that have none of their own; the rates begin anew."""
        self.half_open.most = limits.max_half_open
        self.per_address.most = limits.max_connections_per_address
        self.per_user.most = limits.max_connections_per_user
        self._rate.change(limits.connection_rate)
        self._rate_per_address.change(limits.connection_rate_per_address)

    def arrived(self, connection: object, address: str) -> None:
        """A network connection was made."""
        self.half_open.add(connection, address)
        self.per_address.add(address)

    def left(self, connection: object, address: str) -> None:
        """It has ended."""
        self.half_open.discard(connection)
        self.per_address.add(address, -1)

    def refusal(self, address: str) -> Refusal | None:
        """Why a connection from this address, which has not arrived yet, cannot stay to send its CONNECT.

        More than `max_connections_per_address` cannot be let in, so no more may wait; those that are let in already
        do not speak against it, as it may take one of them over.
        """
        waiting = self.half_open
        if not waiting.has_room:
            return Refusal("max_half_open", waiting.most, "closed")
        if address != LOCAL:
            count = waiting.of(address)
            most = self.per_address.most
            if most and count >= most:
                return Refusal("max_connections_per_address", most, "closed before its CONNECT")
            if waiting.most and count >= waiting.share:
                return Refusal("max_half_open", waiting.most, "closed, as half of them are of its address")
        return None

    def objection(self, address: str, now: float, replaces: bool = False) -> str:
        """The limit that a CONNECT from this address, which has arrived, does not keep; empty where it keeps all.

        ``replaces`` says that it takes another connection of this address over, which then ends.
        """
        # All clients of a Unix socket have the same address: none of them should be in another's way.
        if address != LOCAL:
            if not self.per_address.has_room(address, -1 if replaces else 0):
                return "max_connections_per_address"
            if not self._rate_per_address.take(address, now):
                return "connection_rate_per_address"
        return "" if self._rate.take("", now) else "connection_rate"


class Arrival:
    """The place of a connection whose PROXY header or TLS handshake is not through: it counts from the start."""

    __slots__ = ("_address", "_admission")

    def __init__(self, admission: Admission, address: str) -> None:
        self._admission: Admission | None = admission
        self._address = address
        admission.arrived(self, address)

    def over(self) -> None:
        """It has come to MQTT, and counts as what it is there; or it is gone."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.left(self, self._address)
