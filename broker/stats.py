"""What a node counts about its own work."""

from __future__ import annotations


class Stats:
    """Counters since the start. Plain integers: adding to one is all that the data path can afford."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "connections_accepted",
        "connections_refused",
        "dropped_expired",
        "dropped_queue_full",
        "dropped_slow_consumer",
        "dropped_too_large",
        "publish_delivered",
        "publish_denied",
        "publish_from_mesh",
        "publish_received",
        "publish_to_mesh",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    bytes_received: int
    bytes_sent: int
    connections_accepted: int
    connections_refused: int
    dropped_expired: int
    dropped_queue_full: int
    dropped_slow_consumer: int
    dropped_too_large: int
    publish_delivered: int
    publish_denied: int
    publish_from_mesh: int
    publish_received: int
    publish_to_mesh: int

    def as_dict(self) -> dict[str, int]:
        """All counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}
