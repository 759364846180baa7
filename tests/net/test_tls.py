"""TLS: versions, server names, client certificates, revocation, and files that change while the node runs."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from broker.access.gate import Gate
from broker.net.tls import TlsError, TlsFiles, TlsListener, tls_problems
from broker.ports import Party
from tests.engine.harness import Broker, Notes
from tests.net.certificates import LOCALHOST, NOW, Authority, Pair
from tests.net.doors import Doors, Stream, until
from tests.protocol import wire


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    gate = Gate()
    found = Doors(Broker(gate))
    yield found
    await found.close()
    await gate.close()


def trusting(authority: Authority, device: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if device is not None:
        context.load_cert_chain(device.certificate, device.key)
    return context


def serial(stream: Stream) -> int:
    """Which certificate the server showed."""
    der = stream.writer.get_extra_info("ssl_object").getpeercert(True)
    return x509.load_der_x509_certificate(der).serial_number


def server(authority: Authority, **more: object) -> TlsFiles:
    pair = authority.issue("server", *LOCALHOST)
    return TlsFiles(pair.certificate, pair.key, **more)  # type: ignore[arg-type]


async def test_versions_below_1_2_are_refused(authority: Authority) -> None:
    doors = Doors(Broker())
    listener = await doors.open(tls=TlsListener(server(authority)))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(authority)
        context.minimum_version = context.maximum_version = version
        stream = await Stream.to(listener, ssl=context, server_hostname="localhost")
        assert (await stream.ask(wire.connect("c", 5))).reason == 0
        await stream.close()
    old = trusting(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Stream.to(listener, ssl=old, server_hostname="localhost")
    only = await doors.open(tls=TlsListener(server(authority, minimum="1.3")))
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Stream.to(only, ssl=context, server_hostname="localhost")
    await doors.close()


async def test_certificate_by_server_name(authority: Authority) -> None:
    doors = Doors(Broker())
    other = authority.issue("other", x509.DNSName("other.example"))
    files = server(authority, names={"Other.Example": (other.certificate, other.key)})
    listener = await doors.open(tls=TlsListener(files))
    for name, expected in (("other.example", other.serial), ("localhost", None)):
        stream = await Stream.to(listener, ssl=trusting(authority), server_hostname=name)
        assert (serial(stream) == expected) == (expected is not None)
        assert (await stream.ask(wire.connect("c", 5))).reason == 0
        await stream.close()
    await doors.close()


@pytest.mark.parametrize("identity", ["common_name", "alternative_name"])
async def test_client_certificate_is_who_the_client_is(
    authority: Authority, doors: Doors, identity: str
) -> None:
    files = server(authority, ca=authority.certificate, client_certificate="required")
    listener = await doors.open(tls=TlsListener(files), identity=identity)
    device = authority.issue("device-7", x509.UniformResourceIdentifier("urn:device:7"))
    stream = await Stream.to(listener, ssl=trusting(authority, device), server_hostname="localhost")
    assert (await stream.ask(wire.connect("c", 5))).reason == 0
    (connection,) = doors.broker.engine.roster.connections()
    assert connection.credentials is not None
    assert connection.credentials.username == ("device-7" if identity == "common_name" else "urn:device:7")
    await stream.close()


async def refused(listener: object, context: ssl.SSLContext) -> bool:
    """Whether the server ends the connection in the handshake: in TLS 1.3 the client sees it a little later."""
    try:
        stream = await Stream.to(listener, ssl=context, server_hostname="localhost")  # type: ignore[arg-type]
        stream.writer.write(wire.connect("c", 5))
        await stream.answer()
    except (ssl.SSLError, OSError, EOFError):
        return True
    await stream.close()
    return False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_missing_foreign_expired_and_revoked_certificates(
    authority: Authority, doors: Doors, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    good, revoked = authority.issue("good"), authority.issue("revoked")
    crl = authority.revoke(revoked)
    files = server(authority, ca=authority.certificate, crl=crl, client_certificate="required")
    tls = TlsListener(files)
    notes = doors.broker.engine.audit.journal = Notes()
    listener = await doors.open(tls=tls, identity="common_name")
    (tmp_path / "foreign").mkdir()
    foreign = Authority(tmp_path / "foreign", "foreign").issue("good")
    expired = authority.issue("old", days=-5)
    for device in (None, foreign, expired, revoked):
        context = trusting(authority, device)
        context.maximum_version = version
        assert await refused(listener, context)
    refusal = "TLS: the client's certificate is refused"
    assert notes.notes == [
        ("refused", words)
        for words in (
            "TLS: the client showed no certificate, and this listener asks for one",
            f"{refusal}: unable to get local issuer certificate "
            f"(subject 'CN=good', issuer 'CN=foreign', serial {foreign.serial:x})",
            f"{refusal}: certificate has expired (subject 'CN=old', issuer 'CN=authority', serial {expired.serial:x})",
            f"{refusal}: certificate revoked (subject 'CN=revoked', issuer 'CN=authority', serial {revoked.serial:x})",
        )
    ], "one line each"
    assert set(notes.parties) == {Party(address="127.0.0.1", listener="test")}
    assert not await refused(listener, trusting(authority, good))
    authority.revoke(revoked, good)
    tls.refresh()
    assert await refused(listener, trusting(authority, good)), "the new list counts at once"
    assert doors.broker.engine.roster.connected == 0


async def test_revoked_client_does_not_come_back_by_resuming_its_session(
    authority: Authority, doors: Doors
) -> None:
    device = authority.issue("device")
    files = server(authority, ca=authority.certificate, crl=authority.revoke(), client_certificate="required")
    tls = TlsListener(files)
    listener = await doors.open(tls=tls, identity="common_name")
    host, port = listener.addresses[0]

    def converse(
        context: ssl.SSLContext, session: ssl.SSLSession | None
    ) -> tuple[ssl.SSLSession | None, bool]:
        with (
            socket.create_connection((host, int(port)), 10) as sock,
            context.wrap_socket(sock, server_hostname="localhost", session=session) as stream,
        ):
            stream.sendall(wire.connect("c", 5))
            assert stream.recv(1) == b"\x20"
            return stream.session, bool(stream.session_reused)

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(authority, device)
        context.maximum_version = version
        authority.revoke()
        tls.refresh()
        session, _ = await asyncio.to_thread(converse, context, None)
        session, resumed = await asyncio.to_thread(converse, context, session)
        assert resumed, "while nothing has changed, sessions are resumed"
        authority.revoke(device)
        tls.refresh()
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            await asyncio.to_thread(converse, context, session)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP was spoken to a listener with TLS"),
        (wire.connect("c", 5), "what came is no TLS"),
    ],
)
async def test_what_is_no_tls(authority: Authority, doors: Doors, first: bytes, words: str) -> None:
    notes = doors.broker.engine.audit.journal = Notes()
    listener = await doors.open(tls=TlsListener(server(authority)))
    stream = await Stream.to(listener)
    stream.writer.write(first)
    await stream.ended()
    assert notes.notes == [("refused", f"TLS: {words}")]


async def test_handshake_that_does_not_end(authority: Authority) -> None:
    doors = Doors(Broker(connect_timeout=0.1))
    listener = await doors.open(tls=TlsListener(server(authority)))
    silent = await Stream.to(listener)
    assert await silent.ended()
    assert doors.broker.engine.stats.limited_connect_timeout == 1
    assert doors.broker.notes.lines == [
        ("limited", "", "connect_timeout is 0.1: closed within the TLS handshake")
    ]
    await doors.close()


@pytest.mark.parametrize("websocket", [False, True])
@pytest.mark.parametrize(
    ("most", "limit", "silent"), [(5, "max_connections_per_address", 5), (0, "max_half_open", 10)]
)
async def test_silent_handshakes_of_one_address_leave_room_for_others(
    authority: Authority, most: int, limit: str, silent: int, websocket: bool
) -> None:
    broker = Broker(max_half_open=20, max_connections_per_address=most)
    doors = Doors(broker)
    listener = await doors.open(tls=TlsListener(server(authority)), websocket=websocket)
    hostile = [await Stream.to(listener) for _ in range(20)]
    await until(lambda: getattr(broker.engine.stats, f"limited_{limit}") == 20 - silent)
    assert len(broker.engine.admission.half_open) == silent
    secured = {"ssl": trusting(authority), "server_hostname": "localhost"}
    good = await Stream.to(listener, local_addr=("127.0.0.2", 0), **secured)
    if not websocket:
        assert (await good.ask(wire.connect("good", 5))).reason == 0
    for stream in (*hostile, good):
        await stream.close()
    await until(
        lambda: (
            not broker.engine.admission.half_open
            and not broker.engine.admission.per_address.count("127.0.0.1")
        )
    )
    await doors.close()


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_client_that_leaves_within_the_handshake(
    authority: Authority, doors: Doors, first: bytes
) -> None:
    notes = doors.broker.engine.audit.journal = Notes()
    listener = await doors.open(tls=TlsListener(server(authority)))
    stream = await Stream.to(listener)
    stream.writer.write(first)
    stream.writer.transport.abort()
    async with asyncio.timeout(10):
        while not notes.notes:
            await asyncio.sleep(0.005)
    assert notes.notes == [("refused", "the client was gone before its first packet")]


async def test_certificates_are_read_again(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geomq.tls")
    doors = Doors(Broker())
    files = server(authority)
    tls = TlsListener(files, "front")
    listener = await doors.open(tls=tls)
    old = await Stream.to(listener, ssl=trusting(authority), server_hostname="localhost")
    before = serial(old)
    renewed = authority.issue("server", *LOCALHOST)
    os.utime(renewed.certificate)
    tls.refresh()
    new = await Stream.to(listener, ssl=trusting(authority), server_hostname="localhost")
    assert serial(new) == renewed.serial != before
    assert (await old.ask(wire.connect("c", 5))).reason == 0, "open connections stay"
    files.key.write_text("nonsense")
    for _ in range(4):
        tls.refresh()
    third = await Stream.to(listener, ssl=trusting(authority), server_hostname="localhost")
    assert serial(third) == renewed.serial
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR"]
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith(f"listener front: read again, for new connections: {files.certificate}")
    assert second.startswith("listener front: certificates and lists stay as they were: tls.key: ")
    for stream in (old, new, third):
        await stream.close()
    await doors.close()


def test_certificate_and_key_that_are_replaced_one_after_the_other(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geomq.tls")
    files = server(authority)
    renewed = authority.issue("renewed", *LOCALHOST)
    tls = TlsListener(files, "front")
    before = tls.context
    files.certificate.write_bytes(renewed.certificate.read_bytes())
    os.utime(files.certificate, (1, 1))
    tls.refresh()
    assert tls.context is before
    assert caplog.records == [], "its key may be on its way"
    files.key.write_bytes(renewed.key.read_bytes())
    os.utime(files.key, (1, 1))
    tls.refresh()
    tls.refresh()
    assert tls.context is not before
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"listener front: read again, for new connections: {files.certificate}, {files.key}"]


def test_changed_revocation_list_is_told_as_what_it_is(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geomq.tls")
    crl = authority.revoke()
    tls = TlsListener(
        server(authority, ca=authority.certificate, crl=crl, client_certificate="required"), "devices"
    )
    authority.revoke(authority.issue("a"))
    tls.refresh()
    tls.refresh()
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"listener devices: read again, for new connections: {crl}"]


def test_files_that_cannot_be_used(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.issue("server"), authority.issue("other")
    (tmp_path / "empty").touch()
    asked: dict[str, Any] = {"ca": authority.certificate, "client_certificate": "required"}
    for files, key, complaint in (
        (TlsFiles(tmp_path / "missing", pair.key), "certificate", "missing: No such file"),
        (TlsFiles(pair.certificate, tmp_path / "missing"), "key", "missing: No such file"),
        (TlsFiles(pair.certificate, other.key), "key", f"is not the private key of {pair.certificate}"),
        (TlsFiles(tmp_path / "empty", pair.key), "certificate", "empty: holds no certificate: allowed: PEM"),
        (TlsFiles(pair.certificate, tmp_path / "empty"), "key", "allowed: the private key of"),
        (TlsFiles(pair.key, pair.key), "certificate", "holds no certificate"),
        (
            TlsFiles(pair.certificate, pair.key, **{**asked, "ca": tmp_path / "empty"}),
            "ca",
            "empty: holds no certificate: allowed: PEM with the certificates of the authorities",
        ),
        (
            TlsFiles(pair.certificate, pair.key, crl=authority.certificate, **asked),
            "crl",
            "authority.pem: holds no revocation list: allowed: PEM with the lists (X509 CRL)",
        ),
        (
            TlsFiles(pair.certificate, pair.key, names={"n": (pair.certificate, other.key)}),
            "key",
            "is not the private key of",
        ),
    ):
        with pytest.raises(TlsError) as caught:
            TlsListener(files)
        assert caught.value.key == key
        assert complaint in str(caught.value)
        (place, told), *_ = tls_problems(files, NOW)
        assert place == (("names", "n", "key") if files.names else (key,))
        assert complaint in told
    many = TlsFiles(
        tmp_path / "a", tmp_path / "b", {"n": (tmp_path / "c", tmp_path / "d")}, crl=tmp_path / "e"
    )
    assert [place for place, _ in tls_problems(many, NOW)] == [
        ("certificate",),
        ("key",),
        ("names", "n", "certificate"),
        ("names", "n", "key"),
        ("crl",),
    ]


def test_files_that_are_good_and_serve_nobody(authority: Authority) -> None:
    old = authority.issue("old", days=-5)
    crl = authority.revoke(old)
    files = server(authority, ca=authority.certificate, crl=crl, client_certificate="required")
    assert tls_problems(files, NOW) == []
    expired = tls_problems(replace(files, certificate=old.certificate, key=old.key), NOW)
    day = (NOW - timedelta(days=5)).date().isoformat()
    assert expired == [
        (("certificate",), f"{old.certificate}: has expired on {day}: a certificate that is valid is needed")
    ]
    later = tls_problems(files, NOW + timedelta(days=31))
    assert [place for place, _ in later] == [("certificate",), ("crl",)]
    assert "a list has expired on" in later[1][1]
    early = tls_problems(files, NOW - timedelta(days=21))
    assert "is valid from" in early[0][1]
