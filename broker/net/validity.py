"""What makes good PEM files useless: their time is over, or has not come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from asn1crypto import crl, pem, x509


def certificate_misfit(path: Path, now: datetime) -> str:
    """Why the first certificate of a file serves nobody now; empty where it does."""
    for certificate in _read(path, "CERTIFICATE", x509.Certificate):
        if certificate.not_valid_after < now:
            return f"{path}: has expired on {_day(certificate.not_valid_after)}: a certificate that is valid is needed"
        if certificate.not_valid_before > now:
            return f"{path}: is valid from {_day(certificate.not_valid_before)} on only"
        break
    return ""


def list_misfit(path: Path, now: datetime) -> str:
    """Why TLS would refuse clients because of a revocation list; empty where it would not."""
    for found in _read(path, "X509 CRL", crl.CertificateList):
        until = found["tbs_cert_list"]["next_update"].native
        if until is not None and until < now:
            return (
                f"{path}: a list has expired on {_day(until)}: all clients of its authority would be refused"
            )
    return ""


def _read(path: Path, kind: str, form: Any) -> Iterator[Any]:
    """What a PEM file has of a kind. OpenSSL has read it before: what is strange here is passed over."""
    try:
        for name, _, der in pem.unarmor(path.read_bytes(), multiple=True):
            if name == kind:
                yield form.load(der)
    except (OSError, ValueError, TypeError):
        return


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
