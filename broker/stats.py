"""What a node counts about its own work."""

from __future__ import annotations


class Stats:
    """Counters since the start, and what is queued now: plain integers, the data path affords no more.

    ``control_*`` are packets other than PUBLISH; ``payload_*`` bytes of application messages.
    """

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "clients_maximum",
        "connections_accepted",
        "connections_limited",
        "connections_refused",
        "control_received",
        "control_sent",
        "dropped_expired",
        "dropped_queue_full",
        "dropped_slow_consumer",
        "dropped_too_large",
        "overloads",
        "packets_too_large",
        "payload_received",
        "payload_sent",
        "publish_delivered",
        "publish_denied",
        "publish_from_mesh",
        "publish_received",
        "publish_to_mesh",
        "publish_unwanted",
        "queued_bytes",
        "queued_messages",
        "receive_denied",
        "retained_refused",
        "sessions_expired",
        "slow_consumers",
        "subscribe_denied",
        "subscriptions_limited",
        "throttled",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    bytes_received: int
    bytes_sent: int
    clients_maximum: int
    connections_accepted: int
    connections_limited: int
    connections_refused: int
    control_received: int
    control_sent: int
    dropped_expired: int
    dropped_queue_full: int
    dropped_slow_consumer: int
    dropped_too_large: int
    overloads: int
    packets_too_large: int
    payload_received: int
    payload_sent: int
    publish_delivered: int
    publish_denied: int
    publish_from_mesh: int
    publish_received: int
    publish_to_mesh: int
    publish_unwanted: int
    """Messages of other nodes for which nobody here has a subscription; retained ones, which go everywhere, aside."""
    queued_bytes: int
    queued_messages: int
    receive_denied: int
    """Messages that waited for a client, and that it may not get any more."""
    retained_refused: int
    sessions_expired: int
    slow_consumers: int
    subscribe_denied: int
    subscriptions_limited: int
    throttled: int

    def as_dict(self) -> dict[str, int]:
        """All counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}
