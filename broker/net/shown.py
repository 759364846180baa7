"""Whose certificate it was that TLS has refused: Python's ssl tells the reason only.

OpenSSL shows every message of a handshake to a callback. Python has it for debugging, without a public name, so that
a Python that has none does without: lines in the log then tell the reason only.
"""

from __future__ import annotations

import ssl
from typing import Any

from asn1crypto import x509

_CALLBACK = "_msg_callback"
_HANDSHAKE, _CERTIFICATE = 22, b"\x0b"
_LARGEST = 1 << 14
_LONGEST = 128
"""Characters of a name that are shown."""
_SHORT = {
    "common_name": "CN",
    "organization_name": "O",
    "organizational_unit_name": "OU",
    "country_name": "C",
    "locality_name": "L",
    "state_or_province_name": "ST",
    "serial_number": "serialNumber",
}

_silent = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
"""What has no callback: a connection is given it when its handshake is over."""
# Python shows a client's certificate of such connections only as were to be verified.
_silent.verify_mode = ssl.CERT_OPTIONAL


class _Handshake(ssl.SSLObject):
    """A server's connection that remembers the certificate it was shown until it knows what to make of it."""

    certificate_message: tuple[int, bytes] | None = None

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            error.add_note(described(self.certificate_message))
            raise
        # As long as more of the client is needed it raises SSLWantReadError: here the handshake is over.
        self.certificate_message = None
        self.context = _silent


def remember(context: ssl.SSLContext) -> None:
    """Have errors of handshakes with this context carry a note: the certificate's subject, issuer, serial number."""
    if hasattr(ssl.SSLContext, _CALLBACK):
        setattr(context, _CALLBACK, _on_message)
        context.sslobject_class = _Handshake


def _on_message(
    connection: Any, direction: str, version: int, content: int, kind: Any, message: bytes
) -> None:
    if direction == "read" and content == _HANDSHAKE and message[:1] == _CERTIFICATE:
        connection.certificate_message = (version, message)


def described(message: tuple[int, bytes] | None) -> str:
    """The first certificate of a Certificate message [RFC 8446 4.4.2, RFC 5246 7.4.6] in words; empty for none."""
    if message is None:
        return ""
    version, body = message
    # Behind the type and length of the message, TLS 1.3 has a context of its own, with one byte of length.
    at = 4 if version < ssl.TLSVersion.TLSv1_3 else 5 + int.from_bytes(body[4:5], "big")
    length = int.from_bytes(body[at + 3 : at + 6], "big")
    if not 0 < length <= _LARGEST:
        return ""
    try:
        found = x509.Certificate.load(body[at + 6 : at + 6 + length])
        return f"subject {_name(found.subject)}, issuer {_name(found.issuer)}, serial {found.serial_number:x}"
    except Exception:
        # It comes from a stranger: the parser may fail in any way, and the refusal stands anyway.
        return ""


def _name(name: Any) -> str:
    parts = (
        f"{_SHORT.get(key, key)}={value}"
        for key, values in name.native.items()
        for value in (values if isinstance(values, list) else [values])
    )
    text = ",".join(parts)
    return repr(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")
