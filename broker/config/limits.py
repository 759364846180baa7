"""What a configuration may say about the bounds of the broker."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from broker.config.base import Section
from broker.config.units import Duration, Size, WholeSeconds


class LimitsSection(Section):
    """What clients may use of the node. The defaults suit a gateway with 512 MB; 0 means no limit."""

    max_connect_size: Size = Field(
        512 << 10,
        ge=1024,
        description="The largest packet of a client that was not let in yet. Answer: closed. "
        "Counter: `limited_max_connect_size`.",
    )
    max_half_open: int = Field(
        1000,
        ge=0,
        description="Connections that have not been let in yet, those within their TLS handshake too; no address may "
        "have more than half of them. Answer: closed at once. "
        "Counter: `limited_max_half_open`.",
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        description="Connections from one address, from the TLS handshake on, or the PROXY header. Answer: CONNACK "
        "0x97, 3 below MQTT 5; closed at once where as many of the address have not been let in yet. "
        "Counter: `limited_max_connections_per_address`.",
    )
    max_connections_per_user: int = Field(
        0,
        ge=0,
        description="Connections of one user name. Answer: CONNACK 0x97, 3 below MQTT 5. "
        "Counter: `limited_max_connections_per_user`.",
    )
    connection_rate: float = Field(
        0.0,
        ge=0,
        description="CONNECT packets a second, of all clients. Answer: CONNACK 0x9F, 3 below MQTT 5. "
        "Counter: `limited_connection_rate`.",
    )
    connection_rate_per_address: float = Field(
        0.0,
        ge=0,
        description="CONNECT packets a second from one address. Answer: CONNACK 0x9F, 3 below MQTT 5. "
        "Counter: `limited_connection_rate_per_address`.",
    )
    message_rate: float = Field(
        0.0,
        ge=0,
        description="Messages a second from one client, a second's worth at once. Answer: it is read from more slowly. "
        "Counter: `limited_message_rate`, the pauses.",
    )
    byte_rate: Size = Field(
        0,
        ge=0,
        description="Bytes a second from one client, a second's worth at once. Answer: it is read from more slowly. "
        "Counter: `limited_byte_rate`, the pauses.",
    )
    queue_full: Literal["drop_newest", "drop_oldest", "disconnect"] = Field(
        "drop_newest",
        description="What happens when a client's queue is full; disconnect drops the newest, too. Answer: with "
        "disconnect, DISCONNECT 0x97, closed below MQTT 5. Counter: `limited_queue_full`, the clients cut off.",
    )
    queue_total_bytes: Size = Field(
        64 << 20,
        ge=0,
        description="Payload bytes in the queues of all clients. Answer: as `queue_full` says. "
        "Counter: `limited_queue_total_bytes`, the messages dropped.",
    )
    retained_max_bytes: Size = Field(
        64 << 20,
        ge=0,
        description="Payload bytes of all retained messages, but for `$SYS`. Answer: PUBACK or PUBREC 0x97; below MQTT "
        "5 and at QoS 0 the message is delivered and not retained. Counter: `limited_retained_max_bytes`.",
    )
    max_subscriptions: int = Field(
        1000,
        ge=0,
        description="Subscriptions of one client. Answer: SUBACK 0x97, 0x80 below MQTT 5. "
        "Counter: `limited_max_subscriptions`.",
    )
    max_topic_length: int = Field(
        65_535,
        ge=1,
        le=65_535,
        description="Bytes of a topic or filter. Answer: PUBACK, PUBREC and CONNACK (of a will) 0x90, not delivered; "
        "SUBACK 0x8F, 0x80 below MQTT 5. Counter: `limited_max_topic_length`.",
    )
    max_topic_levels: int = Field(
        128,
        ge=1,
        description="Levels of a topic or filter. Answer: as for `max_topic_length`. "
        "Counter: `limited_max_topic_levels`.",
    )
    slow_consumer_timeout: Duration = Field(
        60.0,
        description="How long a client may take nothing of what was written to it. Answer: closed. "
        "Counter: `limited_slow_consumer_timeout`.",
    )
    ban_after: int = Field(
        10,
        ge=0,
        description="Failed logins from an address (all listeners count together), or for a user, within `ban_window`; "
        "0: nobody is locked out. Answer: CONNACK 0x8A, 5 below MQTT 5. "
        "Counter: `limited_bans`, the refusals, and `lockouts`.",
    )
    ban_window: Duration = Field(60.0, description="How long failed logins are remembered.")
    ban_time: Duration = Field(60.0, description="How long an address or a user is locked out.")
    disk_reserve: Size = Field(
        16 << 20,
        ge=0,
        description="Free space on disk below which nothing more is kept; at most a twentieth of the file system is "
        "held back. Answer: PUBACK or PUBREC 0x97 where something has to be kept; below MQTT 5 the acknowledgement "
        "waits. Counter: `limited_disk_reserve`.",
    )
    overload_memory: Size | None = Field(
        None,
        description="Resident memory above which new clients are refused; those that are here stay, and "
        "publish slowly. "
        "Default: three quarters of the memory that the process may use, the machine's or its control group's. "
        "Answer: CONNACK 0x89, 3 below MQTT 5; publishers are read from more slowly. "
        "Counter: `limited_overload`, the refusals, `overload_pauses` and `overloads`.",
    )
    overload_lag: Duration = Field(
        1.0,
        description="Delay of the event loop above which the same happens. Answer and counters: as for "
        "`overload_memory`.",
    )


class ListenerLimits(Section):
    """What is otherwise for clients of this listener; what is left out is as in `limits` and `mqtt`.

    Connections and their rates, where they are here, are counted for this listener alone.
    """

    max_packet_size: Size | None = Field(
        None, ge=64, le=268_435_460, description="As `mqtt.max_packet_size`."
    )
    connect_timeout: Duration | None = Field(None, gt=0, description="As `mqtt.connect_timeout`.")
    keep_alive_max: WholeSeconds | None = Field(None, le=65535, description="As `mqtt.keep_alive_max`.")
    receive_maximum: int | None = Field(None, ge=1, le=65535, description="As `mqtt.receive_maximum`.")
    max_inflight: int | None = Field(None, ge=1, le=65535, description="As `mqtt.max_inflight`.")
    topic_alias_maximum: int | None = Field(
        None, ge=0, le=65535, description="As `mqtt.topic_alias_maximum`."
    )
    session_expiry_max: WholeSeconds | None = Field(None, description="As `mqtt.session_expiry_max`.")
    queue_max_messages: int | None = Field(None, ge=0, description="As `mqtt.queue_max_messages`.")
    queue_max_bytes: Size | None = Field(None, description="As `mqtt.queue_max_bytes`.")
    write_buffer: Size | None = Field(None, description="As `mqtt.write_buffer`.")
    check_payload_format: bool | None = Field(None, description="As `mqtt.check_payload_format`.")
    max_connect_size: Size | None = Field(None, ge=1024, description="As `limits.max_connect_size`.")
    max_half_open: int | None = Field(None, ge=0, description="As `limits.max_half_open`, here alone.")
    max_connections_per_address: int | None = Field(
        None, ge=0, description="As `limits.max_connections_per_address`, here alone."
    )
    max_connections_per_user: int | None = Field(
        None, ge=0, description="As `limits.max_connections_per_user`, here alone."
    )
    connection_rate: float | None = Field(None, ge=0, description="As `limits.connection_rate`, here alone.")
    connection_rate_per_address: float | None = Field(
        None, ge=0, description="As `limits.connection_rate_per_address`, here alone."
    )
    message_rate: float | None = Field(None, ge=0, description="As `limits.message_rate`.")
    byte_rate: Size | None = Field(None, ge=0, description="As `limits.byte_rate`.")
    queue_full: Literal["drop_newest", "drop_oldest", "disconnect"] | None = Field(
        None, description="As `limits.queue_full`."
    )
    max_subscriptions: int | None = Field(None, ge=0, description="As `limits.max_subscriptions`.")
    max_topic_length: int | None = Field(None, ge=1, le=65_535, description="As `limits.max_topic_length`.")
    max_topic_levels: int | None = Field(None, ge=1, description="As `limits.max_topic_levels`.")
    slow_consumer_timeout: Duration | None = Field(None, description="As `limits.slow_consumer_timeout`.")
    ban_after: int | None = Field(
        None,
        ge=0,
        description="As `limits.ban_after`; 0: nobody is locked out here, wherever the logins failed.",
    )
    ban_window: Duration | None = Field(None, description="As `limits.ban_window`.")
    ban_time: Duration | None = Field(None, description="As `limits.ban_time`.")
