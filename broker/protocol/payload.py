"""The payload as its format indicator describes it [MQTT5 3.3.2.3.2]."""

from __future__ import annotations

from broker.protocol.constants import PUBLISH, Prop
from broker.protocol.properties import read_bare


def wrong_format(properties: bytes, payload: bytes) -> bool:
    """Whether a payload that is said to be text is no well-formed UTF-8.

    ``properties`` is the wire form of a message's properties without their length; they were read before.
    """
    if not properties or read_bare(properties, PUBLISH).get(Prop.PAYLOAD_FORMAT_INDICATOR) != 1:
        return False
    try:
        payload.decode()
    except UnicodeDecodeError:
        return True
    return False
