"""What a client is told whose message is not taken."""

from __future__ import annotations

from broker.protocol import encode
from broker.protocol.constants import PUBACK, PUBREC, V5, Reason
from broker.protocol.packets import Publish

WORDS = {
    Reason.NOT_AUTHORIZED: "not allowed to publish this",
    Reason.TOPIC_NAME_INVALID: "the topic has too many characters or levels",
    Reason.QUOTA_EXCEEDED: "there is no room for this message",
    Reason.PAYLOAD_FORMAT_INVALID: "the payload is no UTF-8",
}


def refusal(packet: Publish, reason: int, explains: bool, max_packet: int) -> bytes:
    """PUBACK or PUBREC with a failure, in words where the client takes them and there is room [MQTT-3.4.2-2]."""
    kind = PUBACK if packet.qos == 1 else PUBREC
    told = encode.ack(kind, V5, packet.packet_id, reason, WORDS[Reason(reason)] if explains else "")
    if max_packet and len(told) > max_packet:
        return encode.ack(kind, V5, packet.packet_id, reason)
    return told
