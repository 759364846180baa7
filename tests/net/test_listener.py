"""Listeners: Unix sockets, IPv6, mount points, limits, and proxies in front."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.net.proxy import V2_SIGNATURE, ProxyError, parse_v1, parse_v2
from broker.net.tls import TlsFiles, TlsListener
from broker.ports import Party
from tests.engine.harness import Broker, Notes
from tests.net.certificates import LOCALHOST, Authority
from tests.net.doors import TIMEOUT, Doors, Stream, until
from tests.net.test_tls import trusting
from tests.protocol import wire


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    found = Doors(Broker())
    yield found
    await found.close()


async def test_unix_socket(doors: Doors, tmp_path: Path) -> None:
    path = tmp_path / "geomq.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    listener = await doors.open(path, mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    stream = await Stream.to(listener)
    assert (await stream.ask(wire.connect("c", 5))).reason == 0
    (connection,) = doors.broker.engine.roster.connections()
    assert connection.peer.address == "local"
    with pytest.raises(OSError, match="another process"):
        await doors.open(path)
    await stream.close()
    listener.close()
    assert not path.exists()


async def test_unix_socket_where_a_file_is(doors: Doors, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError):  # noqa: PT011
        await doors.open(path)
    assert path.read_text() == "precious"


async def test_ipv6(doors: Doors) -> None:
    try:
        listener = await doors.open(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    stream = await Stream.to(listener)
    assert (await stream.ask(wire.connect("c", 5))).reason == 0
    (connection,) = doors.broker.engine.roster.connections()
    assert connection.peer.address == "::1"
    await stream.close()


async def test_listener_that_is_full(doors: Doors) -> None:
    listener = await doors.open(max_connections=1)
    other = await doors.open()
    first = await Stream.to(listener)
    assert (await first.ask(wire.connect("a", 5))).reason == 0
    assert await (await Stream.to(listener)).ended()
    elsewhere = await Stream.to(other)
    assert (await elsewhere.ask(wire.connect("b", 5))).reason == 0
    await first.close()
    await until(lambda: listener.door.open == 0)
    again = await Stream.to(listener)
    assert (await again.ask(wire.connect("a", 5))).reason == 0
    for stream in (elsewhere, again):
        await stream.close()


# -- the PROXY protocol ------------------------------------------------------------------------------------


def v2(command: int = 1, family: int = 0x11, body: bytes | None = None) -> bytes:
    if body is None:
        body = (
            socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 1000, 1883)
        )
    return V2_SIGNATURE + bytes([0x20 | command, family]) + len(body).to_bytes(2, "big") + body


V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 1000, 1883)

HEADERS = [
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 1000 1883\r\n", "203.0.113.7"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 1000 1883\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    (b"PROXY UNKNOWN ffff:f... anything\r\n", "127.0.0.1"),
    (v2(), "203.0.113.7"),
    (v2(body=socket.inet_aton("203.0.113.7") * 2 + b"\0\1\0\2" + b"\x04\x00\x03tlv"), "203.0.113.7"),
    (v2(family=0x21, body=V6), "2001:db8::7"),
    (v2(command=0, family=0, body=b""), "127.0.0.1"),
]


@pytest.mark.parametrize(("header", "address"), HEADERS)
async def test_address_behind_a_proxy(doors: Doors, header: bytes, address: str) -> None:
    listener = await doors.open(trusted=[ipaddress.ip_network("127.0.0.0/8")])
    stream = await Stream.to(listener)
    stream.writer.write(header + wire.connect("c", 5))
    assert (await stream.answer()).reason == 0
    (connection,) = doors.broker.engine.roster.connections()
    assert connection.peer.address == address
    await stream.close()


async def test_silent_clients_behind_a_proxy_count_for_their_own_address() -> None:
    broker = Broker(max_half_open=10, max_connections_per_address=2)
    doors = Doors(broker)
    listener = await doors.open(trusted=[ipaddress.ip_network("127.0.0.0/8")])
    hostile = [await Stream.to(listener) for _ in range(3)]
    for stream in hostile:
        stream.writer.write(v2())
    await until(lambda: broker.engine.stats.limited_max_connections_per_address == 1)
    # What has sent no header counts for nobody, but is half open.
    headless = [await Stream.to(listener) for _ in range(4)]
    await until(lambda: len(broker.engine.admission.half_open) == 6)
    good = await Stream.to(listener)
    assert (await good.ask(HEADERS[1][0], wire.connect("c", 5))).reason == 0
    for stream in (*hostile, *headless, good):
        await stream.close()
    await until(lambda: len(broker.engine.admission.half_open) == 0)
    await doors.close()


async def test_tls_behind_a_proxy(doors: Doors, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", *LOCALHOST)
    listener = await doors.open(
        tls=TlsListener(TlsFiles(pair.certificate, pair.key)), trusted=[ipaddress.ip_network("127.0.0.1")]
    )
    sock = socket.create_connection(listener.addresses[0], TIMEOUT)
    await asyncio.to_thread(sock.sendall, v2())
    sock.setblocking(False)
    opened = asyncio.open_connection(sock=sock, ssl=trusting(authority), server_hostname="localhost")
    stream = Stream(*await asyncio.wait_for(opened, TIMEOUT))
    assert (await stream.ask(wire.connect("c", 5))).reason == 0
    (connection,) = doors.broker.engine.roster.connections()
    assert connection.peer.address == "203.0.113.7"
    await stream.close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (wire.connect("c", 5), "no header of the PROXY protocol"),
        (b"\x16\x03\x01" + bytes(20), "no header of the PROXY protocol"),
        (b"PROXY TCP4 203.0.113.7\r\n", "not PROXY TCP4|TCP6 source destination port port"),
        (b"PROXY TCP4 203.0.113.7 x 1 2\r\n", "not an address"),
        (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "addresses and ports do not fit the protocol"),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 99999\r\n", "addresses and ports do not fit the protocol"),
        (b"PROXY " + b"x" * 200, "a header of version 1 without an end"),
        (v2(command=2), "not version 2, LOCAL or PROXY"),
        (v2(body=b"short"), "the addresses are cut"),
        (V2_SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12), "not version 2, LOCAL or PROXY"),
    ],
)
async def test_headers_that_are_none(doors: Doors, data: bytes, words: str) -> None:
    notes = doors.broker.engine.audit.journal = Notes()
    listener = await doors.open(trusted=[ipaddress.ip_network("127.0.0.1")])
    stream = await Stream.to(listener)
    stream.writer.write(data)
    assert await stream.ended()
    assert doors.broker.engine.roster.connected == 0
    assert notes.notes == [("refused", f"PROXY header: {words}")]
    assert notes.parties == [Party(address="127.0.0.1", listener="test")]


async def test_proxy_that_is_not_trusted(doors: Doors) -> None:
    notes = doors.broker.engine.audit.journal = Notes()
    listener = await doors.open(trusted=[ipaddress.ip_network("192.0.2.0/24")])
    stream = await Stream.to(listener)
    stream.writer.write(HEADERS[0][0] + wire.connect("c", 5))
    assert await stream.ended()
    assert notes.notes == [("refused", "PROXY header: the connection comes from none of `proxies`")]


async def test_proxy_that_says_nothing(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.listener._HEADER_TIMEOUT", 0.05)
    notes = doors.broker.engine.audit.journal = Notes()
    listener = await doors.open(trusted=[ipaddress.ip_network("127.0.0.1")])
    stream = await Stream.to(listener)
    assert await stream.ended()
    assert notes.notes == [("refused", "PROXY header: none within 0.05 s")]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"\x16\x03\x01\x00\xf8" + bytes(0xF8), "spoke TLS to a listener without TLS"),
        (b"GET /mqtt HTTP/1.1\r\n\r\n", "spoke HTTP to a listener without WebSocket"),
    ],
)
async def test_other_protocols_at_a_plain_port(doors: Doors, first: bytes, words: str) -> None:
    notes = doors.broker.engine.audit.journal = Notes()
    listener = await doors.open()
    stream = await Stream.to(listener)
    stream.writer.write(first)
    assert await stream.ended()
    assert notes.notes == [("refused", words)]
    assert notes.parties == [Party(address="127.0.0.1", listener="test")]
    assert doors.broker.engine.stats.connections_refused == 1


@given(st.binary(max_size=120))
def test_any_header_is_an_address_or_an_error(data: bytes) -> None:
    for parse in (parse_v1, lambda raw: parse_v2(raw[:4].ljust(4, b"\0"), raw[4:])):
        try:
            address = parse(data)
        except ProxyError:
            continue
        assert address is None or ipaddress.ip_address(address)
