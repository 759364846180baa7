"""What a node counts about its own work."""

from __future__ import annotations


class Stats:
    """Counters since the start, and what is queued now: plain integers, the data path affords no more.

    ``control_*`` are packets other than PUBLISH; ``payload_*`` bytes of application messages; ``limited_*`` what a
    limit refused, dropped, closed or paused, by the limit's key in the configuration.
    """

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "clients_maximum",
        "connections_accepted",
        "connections_refused",
        "control_received",
        "control_sent",
        "dropped_expired",
        "dropped_over_rate",
        "dropped_slow_consumer",
        "dropped_too_large",
        "limited_bans",
        "limited_byte_rate",
        "limited_connect_timeout",
        "limited_connection_rate",
        "limited_connection_rate_per_address",
        "limited_disk_reserve",
        "limited_listener_max_connections",
        "limited_max_connect_size",
        "limited_max_connections",
        "limited_max_connections_per_address",
        "limited_max_connections_per_user",
        "limited_max_half_open",
        "limited_max_packet_size",
        "limited_max_subscriptions",
        "limited_max_topic_length",
        "limited_max_topic_levels",
        "limited_message_rate",
        "limited_outbox_full",
        "limited_overload",
        "limited_queue_full",
        "limited_queue_max_bytes",
        "limited_queue_max_messages",
        "limited_queue_total_bytes",
        "limited_receive_maximum",
        "limited_retained_max_bytes",
        "limited_retained_max_messages",
        "limited_slow_consumer_timeout",
        "limited_topic_alias_maximum",
        "lockouts",
        "overload_pauses",
        "overloads",
        "payload_received",
        "payload_refused",
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
        "sessions_expired",
        "subscribe_denied",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    bytes_received: int
    bytes_sent: int
    clients_maximum: int
    connections_accepted: int
    connections_refused: int
    """Those that ended before they were let in, for whatever reason."""
    control_received: int
    control_sent: int
    dropped_expired: int
    dropped_over_rate: int
    """Messages of a connection that ended while its client owed those of an earlier one."""
    dropped_slow_consumer: int
    """Messages at QoS 0 for clients that did not take what was written to them before."""
    dropped_too_large: int
    limited_bans: int
    limited_byte_rate: int
    limited_connect_timeout: int
    limited_connection_rate: int
    limited_connection_rate_per_address: int
    limited_disk_reserve: int
    limited_listener_max_connections: int
    limited_max_connect_size: int
    limited_max_connections: int
    limited_max_connections_per_address: int
    limited_max_connections_per_user: int
    limited_max_half_open: int
    limited_max_packet_size: int
    limited_max_subscriptions: int
    limited_max_topic_length: int
    limited_max_topic_levels: int
    limited_message_rate: int
    limited_outbox_full: int
    limited_overload: int
    limited_queue_full: int
    limited_queue_max_bytes: int
    limited_queue_max_messages: int
    limited_queue_total_bytes: int
    limited_receive_maximum: int
    limited_retained_max_bytes: int
    limited_retained_max_messages: int
    limited_slow_consumer_timeout: int
    limited_topic_alias_maximum: int
    lockouts: int
    """How often an address or a user was locked out."""
    overload_pauses: int
    overloads: int
    payload_received: int
    payload_refused: int
    """Messages whose payload is not what its format indicator says."""
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
    """Messages that a client's subscription matches and that it may not get: by wildcard, or not any more."""
    sessions_expired: int
    subscribe_denied: int
    """Filters that were asked for, or held, and are not allowed."""

    def limit(self, key: str, count: int = 1) -> None:
        """Count what a limit did; AttributeError for a key that none goes by."""
        name = f"limited_{key}"
        setattr(self, name, getattr(self, name) + count)

    @property
    def dropped_queue_full(self) -> int:
        """Messages that found no room in a queue."""
        return self.limited_queue_max_messages + self.limited_queue_max_bytes + self.limited_queue_total_bytes

    def as_dict(self) -> dict[str, int]:
        """All counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}
