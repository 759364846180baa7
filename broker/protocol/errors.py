"""What is wrong with what a client sent."""

from __future__ import annotations


class ProtocolError(Exception):
    """A violation of the standard; ``reason`` is the MQTT 5 reason code that tells it [MQTT5 4.13]."""

    def __init__(self, detail: str, reason: int = 0x82) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason


class MalformedPacket(ProtocolError):
    """Bytes that cannot be parsed [MQTT5 1.2]."""

    def __init__(self, detail: str, reason: int = 0x81) -> None:
        super().__init__(detail, reason)


class UnsupportedVersion(ProtocolError):
    """A protocol level that is not served [MQTT-3.1.2-2]; ``version`` is the level asked for."""

    def __init__(self, version: int) -> None:
        super().__init__(f"protocol level {version}", 0x84)
        self.version = version
