"""Will messages: from what CONNECT carried to the message that is published."""

from __future__ import annotations

from broker.message import Message
from broker.protocol.packets import Will


def will_message(will: Will, publisher: str, now: float) -> Message:
    """The will as a message published at ``now`` (wall-clock seconds), from when its expiry counts."""
    expires_at = now + will.expiry if will.expiry else 0.0
    return Message(will.topic, will.payload, will.qos, will.retain, will.properties, expires_at, publisher)


def will_delay(will: Will, session_expiry: int) -> int:
    """Seconds to wait before publishing: the delay, or until the session ends if sooner [MQTT5 3.1.3.2.2]."""
    return min(will.delay, session_expiry)
