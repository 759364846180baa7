"""What a client speaks that is not what its listener understands, by its first bytes."""

from __future__ import annotations

_METHODS = (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE", b"PATC", b"CONN", b"PRI ")
_PROXY = (b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n")


def is_tls(first: bytes) -> bool:
    """Whether it begins as a TLS record with a handshake message does."""
    return first.startswith(b"\x16\x03")


def is_mqtt(first: bytes) -> bool:
    """Whether it begins as CONNECT does."""
    return first.startswith(b"\x10")


def instead_of_mqtt(first: bytes) -> str:
    """What was spoken to a listener for plain MQTT, in words for the operator; empty where that is not known."""
    if is_tls(first):
        return "spoke TLS to a listener without TLS"
    if first.startswith(_METHODS):
        return "spoke HTTP to a listener without WebSocket"
    if first.startswith(_PROXY):
        return "sent a PROXY header to a listener without `proxies`"
    return ""
