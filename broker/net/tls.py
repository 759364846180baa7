"""TLS for listeners: certificates by server name, client certificates and revocation lists, reread on change."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

logger = logging.getLogger("geomq.tls")

Stamp = tuple[int, int]


class TlsError(Exception):
    """What is wrong with a certificate or key, in words for the operator; ``key`` is the setting that names it."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True)
class TlsFiles:
    """What a listener's TLS is made of; PEM files all.

    ``names`` has the (certificate, key) of further server names; ``ca`` what client certificates are checked
    against, ``crl`` which of them are revoked.
    """

    certificate: Path
    key: Path
    names: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    ca: Path | None = None
    crl: Path | None = None
    client_certificate: Literal["none", "optional", "required"] = "none"
    minimum: Literal["1.2", "1.3"] = "1.2"

    def all(self) -> list[Path]:
        """Every file."""
        pairs = [(self.certificate, self.key), *self.names.values()]
        extra = [path for path in (self.ca, self.crl) if path is not None]
        return [path for pair in pairs for path in pair] + extra


def tls_problems(files: TlsFiles, now: datetime) -> list[tuple[tuple[str, ...], str]]:
    """Everything that is wrong with files, each with the setting's place below `tls`; they are only read.

    Here it is also told what a node would start with, to no avail: what has expired by ``now``, a time with its zone.
    """
    from broker.net.validity import certificate_misfit, list_misfit

    found: list[tuple[tuple[str, ...], str]] = []
    pairs: dict[tuple[str, ...], tuple[Path, Path]] = {(): (files.certificate, files.key)}
    pairs |= {("names", name): pair for name, pair in files.names.items()}
    for where, pair in pairs.items():
        try:
            _load(_empty(), *pair)
        except TlsError as error:
            found.append(((*where, error.key), str(error)))
            if error.key == "certificate":
                found.append(((*where, "key"), _unreadable(pair[1])))
        else:
            found.append(((*where, "certificate"), certificate_misfit(pair[0], now)))
    for key, path in (("ca", files.ca), ("crl", files.crl)):
        if path is not None:
            try:
                _trust(_empty(), key, path)
            except TlsError as error:
                found.append(((key,), str(error)))
            else:
                found.append(((key,), list_misfit(path, now) if key == "crl" else ""))
    return [(place, text) for place, text in found if text]


class TlsListener:
    """A listener's TLS: :attr:`context` is for the next connection. ``name`` is the listener's.
    TlsError where the files cannot be used at the start; later the old ones stay in use,
    and the log says why.
    """

    def __init__(self, files: TlsFiles, name: str = "") -> None:
        self._files = files
        self._name = name
        self._stamps = self._look()
        self._unread: set[Path] = set()
        """What has changed since the files were last read as a whole."""
        self._waits = False
        """Whether they did not fit at the last look, which has not been told yet."""
        self.context = _context_by_name(files)
        """Another one when files have changed: sessions of the one before cannot be resumed, so that every client is
        checked by the new lists."""

    def refresh(self) -> None:
        """Read the files again where one has changed. Called about once a second.

        A certificate and its key are replaced one after the other: what does not fit is told if it stays so until
        the next look.
        """
        stamps = self._look()
        if stamps == self._stamps and not self._waits:
            return
        self._unread |= {path for path, stamp in stamps.items() if stamp != self._stamps[path]}
        self._stamps = stamps
        try:
            self.context = _context_by_name(self._files)
        except TlsError as error:
            if self._waits:
                text = "listener %s: certificates and lists stay as they were: tls.%s: %s"
                logger.error(text, self._name, error.key, error)
            self._waits = not self._waits
        else:
            changed = ", ".join(str(path) for path in stamps if path in self._unread)
            logger.info("listener %s: read again, for new connections: %s", self._name, changed)
            self._unread.clear()
            self._waits = False

    def _look(self) -> dict[Path, Stamp]:
        return {path: _stamp(path) for path in self._files.all()}


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _context_by_name(files: TlsFiles) -> ssl.SSLContext:
    """A context that has the certificate for the server name that a client asks for."""
    named = {name.lower(): _context(files, *pair) for name, pair in files.names.items()}
    context = _context(files, files.certificate, files.key)

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        found = named.get((name or "").lower())
        if found is not None:
            connection.context = found

    if named:
        context.sni_callback = choose
    return context


def _context(files: TlsFiles, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if files.minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    # TLS 1.2 with forward secrecy and authenticated encryption only; 1.3 has nothing else.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL")
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    _load(context, certificate, key)
    if files.client_certificate != "none":
        required = files.client_certificate == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        for part, path in (("ca", files.ca), ("crl", files.crl)):
            if path is not None:
                _trust(context, part, path)
        if files.crl is not None:
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        # Only listeners that ask for certificates pay for reading them.
        from broker.net.shown import remember

        remember(context)
    return context


def _empty() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    _check_readable("certificate", certificate)
    if not _holds(certificate, "x509"):
        raise TlsError(
            "certificate", f"{certificate}: holds no certificate: allowed: PEM, with the chain behind it"
        )
    _check_readable("key", key)
    try:
        # A password would be asked for on the terminal: a key that needs one is refused.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError("key", f"{key}: is not the private key of {certificate}") from None
        reason = (error.reason or str(error)).replace("_", " ").lower()
        text = f"{key}: {reason}: allowed: the private key of {certificate}, PEM, not encrypted"
        raise TlsError("key", text) from None


_KINDS = {
    "ca": ("x509", "certificate", "PEM with the certificates of the authorities"),
    "crl": ("crl", "revocation list", "PEM with the lists (X509 CRL) of the authorities in `ca`"),
}


def _trust(context: ssl.SSLContext, part: str, path: Path) -> None:
    _check_readable(part, path)
    kind, name, allowed = _KINDS[part]
    if not _holds(path, kind):
        raise TlsError(part, f"{path}: holds no {name}: allowed: {allowed}")
    context.load_verify_locations(path)


def _holds(path: Path, kind: str) -> bool:
    """Whether a PEM file has something of a kind, as :meth:`ssl.SSLContext.cert_store_stats` calls it."""
    probe = _empty()
    try:
        probe.load_verify_locations(path)
    except ssl.SSLError:
        return False
    return probe.cert_store_stats()[kind] > 0


def _check_readable(key: str, path: Path) -> None:
    text = _unreadable(path)
    if text:
        raise TlsError(key, text)


def _unreadable(path: Path) -> str:
    try:
        path.open("rb").close()
    except OSError as error:
        return f"{path}: {error.strerror}: a file that can be read is needed"
    return ""
