"""The bounds that an engine keeps; their defaults and units are those of `mqtt` and `limits` in the configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds; 0 means no limit where a limit may be absent."""

    max_packet_size: int = 10 << 20
    max_connections: int = 0
    connect_timeout: float = 10.0
    keep_alive_max: int = 0
    receive_maximum: int = 1024
    max_inflight: int = 1024
    topic_alias_maximum: int = 64
    session_expiry_max: int = 7 * 24 * 3600
    queue_max_messages: int = 10_000
    queue_max_bytes: int = 16 << 20
    queue_qos0: bool = False
    retained_max_messages: int = 100_000
    write_buffer: int = 1 << 20
    check_payload_format: bool = False
    overlapping: str = "merged"
    response_information: str = ""
    max_connect_size: int = 512 << 10
    max_connections_per_address: int = 0
    max_connections_per_user: int = 0
    max_half_open: int = 1000
    connection_rate: float = 0.0
    connection_rate_per_address: float = 0.0
    message_rate: float = 0.0
    byte_rate: float = 0.0
    queue_full: str = "drop_newest"
    queue_total_bytes: int = 64 << 20
    retained_max_bytes: int = 64 << 20
    max_subscriptions: int = 1000
    max_topic_length: int = 65_535
    max_topic_levels: int = 128
    slow_consumer_timeout: float = 60.0

    def bounded_expiry(self, asked: int) -> int:
        """The Session Expiry Interval that is granted, in seconds."""
        return min(asked, self.session_expiry_max) if self.session_expiry_max else asked

    def topic_bound(self, topic: str, size: int) -> str:
        """The limit that a topic or filter of so many bytes does not keep; empty where it keeps all."""
        if size > self.max_topic_length:
            return "max_topic_length"
        return "max_topic_levels" if topic.count("/") >= self.max_topic_levels else ""
