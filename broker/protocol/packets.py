"""What the decoder makes of a client's bytes: one tuple a packet, and two for runs of the same packet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from broker.protocol.properties import Properties


class Will(NamedTuple):
    """A will message as CONNECT carried it; times in seconds."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    """The properties that are forwarded with the will, in wire form without their length."""
    delay: int
    expiry: int | None


class Connect(NamedTuple):
    """CONNECT [MQTT5 3.1]. ``keep_alive`` is in seconds, 0 for none."""

    version: int
    client_id: str
    clean_start: bool
    keep_alive: int
    username: str | None
    password: bytes | None
    will: Will | None
    properties: Properties


@dataclass(slots=True)
class PublishRun:
    """Consecutive QoS 0 PUBLISH packets with one head: same topic, same length, no properties.

    ``topic`` is not yet checked. ``frames`` holds ``count`` packets of ``size`` bytes each, whose payload
    begins ``payload_at`` bytes into the packet.
    """

    topic: bytes
    frames: bytes
    count: int
    size: int
    payload_at: int

    def payloads(self) -> list[bytes]:
        """Those of the messages, in order."""
        frames, size, payload_at = self.frames, self.size, self.payload_at
        return [frames[at + payload_at : at + size] for at in range(0, self.count * size, size)]

    def split(self, at: int) -> tuple[PublishRun, PublishRun]:
        """The first ``at`` packets, and the others."""
        cut = at * self.size
        return (
            PublishRun(self.topic, self.frames[:cut], at, self.size, self.payload_at),
            PublishRun(self.topic, self.frames[cut:], self.count - at, self.size, self.payload_at),
        )


class Publish(NamedTuple):
    """PUBLISH [MQTT5 3.3]. ``topic`` is not yet checked; it is empty where ``alias`` stands for it.

    ``properties`` are those that a server forwards, in wire form without their length; ``expiry`` is in
    seconds; ``alias`` is 0 where there is none.
    """

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    properties: bytes
    expiry: int | None
    alias: int


class AckRun(NamedTuple):
    """Consecutive acknowledgements of one kind (a packet type), all of success."""

    kind: int
    packet_ids: list[int]


class Ack(NamedTuple):
    """An acknowledgement that tells its reason (MQTT 5)."""

    kind: int
    packet_id: int
    reason: int
    properties: Properties


class Subscription(NamedTuple):
    """A topic filter and its options [MQTT5 3.8.3.1]; the filter is a valid one."""

    topic_filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(NamedTuple):
    """SUBSCRIBE [MQTT5 3.8]. ``identifier`` is the Subscription Identifier, 0 where there is none."""

    packet_id: int
    subscriptions: list[Subscription]
    identifier: int
    properties: Properties


class Unsubscribe(NamedTuple):
    """UNSUBSCRIBE [MQTT5 3.10]."""

    packet_id: int
    topic_filters: list[str]
    properties: Properties


class PingReq(NamedTuple):
    """PINGREQ."""


class Disconnect(NamedTuple):
    """DISCONNECT [MQTT5 3.14]."""

    reason: int
    properties: Properties


class Auth(NamedTuple):
    """AUTH [MQTT5 3.15]."""

    reason: int
    properties: Properties
