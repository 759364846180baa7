"""One line for each refusal and denial: who, by which listener, why in words, and which line of the list decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from scramp import ScramClient

from broker.access.gate import Gate
from broker.access.users import SCRAM, make_user, write_users
from broker.observe.journal import AuditLog
from broker.ports import Certificate
from broker.ports import Peer as Origin
from tests.access.test_gate import answered
from tests.engine.harness import Broker, Peer
from tests.protocol import wire

SECRET = "correct horse battery staple"
ACL = """
deny  user=joe      publish    plant/secret/#
allow user=joe      qos=0 all  plant/#
allow user=joe      subscribe  $SYS/#
"""
HERE = Origin("192.0.2.7", "front")
WHO = "client='c' user={} address=192.0.2.7 listener='front'"


@pytest.fixture
async def broker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Broker]:
    write_users(tmp_path / "users", {"joe": make_user(SECRET, scram=True), "ann": make_user(SECRET, True)})
    (tmp_path / "acl.txt").write_text(ACL)
    gate = Gate(tmp_path / "users", tmp_path / "acl.txt")
    found = Broker(gate)
    found.engine.audit.journal = AuditLog()
    yield found
    await gate.close()
    assert SECRET not in caplog.text, "no secret is in a log"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING, "geomq.audit")

    def found() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "geomq.audit"]

    return found


async def joe(broker: Broker, **connect: Any) -> Peer:
    peer = broker.peer(HERE)
    peer.send(wire.connect("c", 5, username="joe", password=SECRET.encode(), **connect))
    assert await answered(peer) == 0
    return peer


@pytest.mark.parametrize(
    ("username", "password", "line"),
    [
        ("joe", b"wrong", f"refused: {WHO.format(repr('joe'))}: 0x86, wrong password"),
        ("eve", SECRET.encode(), f"refused: {WHO.format(repr('eve'))}: 0x86, unknown user"),
        (
            None,
            None,
            f"refused: {WHO.format('-')}: 0x87, no user name, and this listener asks for one",
        ),
    ],
)
async def test_login(
    broker: Broker, lines: Any, username: str | None, password: bytes | None, line: str
) -> None:
    peer = broker.peer(HERE)
    peer.send(wire.connect("c", 5, username=username, password=password))
    assert await answered(peer) >= 0x80
    assert lines() == [line]


def scram(peer: Peer, client: ScramClient, begin: Any) -> int:
    challenge = peer.ask(begin(wire.props((0x15, SCRAM), (0x16, client.get_client_first().encode()))))
    client.set_server_first(challenge.get(0x16).decode())
    proof = wire.props((0x15, SCRAM), (0x16, client.get_client_final().encode()))
    return peer.ask(wire.auth(0x18, proof)).reason


def connecting(properties: bytes) -> bytes:
    return wire.connect("c", 5, properties=properties)


@pytest.mark.parametrize(("name", "password"), [("joe", "wrong"), ("eve", SECRET)])
async def test_scram(broker: Broker, lines: Any, name: str, password: str) -> None:
    assert scram(broker.peer(HERE), ScramClient([SCRAM], name, password), connecting) == 0x87
    assert lines() == [
        f"refused: {WHO.format(repr(name))}: 0x87, SCRAM-SHA-256: wrong password, or a user without a SCRAM verifier"
    ]


async def test_scram_that_is_none_and_another_method(broker: Broker, lines: Any) -> None:
    nonsense = wire.props((0x15, SCRAM), (0x16, b"n,,nonsense"))
    assert broker.peer(HERE).ask(connecting(nonsense)).reason == 0x87
    assert broker.peer(HERE).ask(connecting(wire.props((0x15, "KERBEROS")))).reason == 0x8C
    assert lines() == [
        f"refused: {WHO.format('-')}: 0x87, SCRAM-SHA-256: not a message of SCRAM-SHA-256",
        f"refused: {WHO.format('-')}: 0x8c, there is no method 'KERBEROS' here",
    ]


async def test_re_authentication_as_somebody_else(broker: Broker, lines: Any) -> None:
    peer = broker.peer(HERE)
    assert scram(peer, ScramClient([SCRAM], "joe", SECRET), connecting) == 0
    assert scram(peer, ScramClient([SCRAM], "ann", SECRET), lambda said: wire.auth(0x19, said)) == 0x87
    assert lines() == [
        f"refused: {WHO.format(repr('joe'))}: 0x87, re-authentication by SCRAM-SHA-256: this time as user 'ann'"
    ]


async def test_denials_name_the_line(broker: Broker, lines: Any, tmp_path: Path) -> None:
    peer = await joe(broker)
    acl = tmp_path / "acl.txt"
    peer.publish("plant/secret/x", qos=1)
    peer.publish("plant/x", qos=1, packet_id=2)
    peer.publish("$SYS/x", qos=1, packet_id=3)
    assert [answer.reason for answer in peer.take_kind(wire.PUBACK)] == [0x87] * 3
    assert peer.subscribe(("office/#", 1)) == [0x87]
    assert lines() == [
        f"denied: {WHO.format(repr('joe'))}: {told}"
        for told in (
            f"publish to 'plant/secret/x', QoS 1, retain 0: {acl}:2: deny  user=joe      publish    plant/secret/#",
            f"publish to 'plant/x', QoS 1, retain 0: no line of {acl} fits",
            "publish to '$SYS/x', QoS 1, retain 0: topics below $SYS are the node's own",
            f"subscribe to 'office/#', QoS 1: no line of {acl} fits",
        )
    ]


async def test_long_topics_are_cut(broker: Broker, lines: Any) -> None:
    peer = await joe(broker)
    peer.publish("x" * 60_000, qos=1)
    (line,) = lines()
    assert len(line) < 600
    assert "xxx…', QoS 1" in line


async def test_certificate_without_the_name_that_is_read(broker: Broker, lines: Any) -> None:
    peer = broker.peer(HERE._replace(certificate=Certificate(b"der", None)))
    peer.send(wire.connect("c", 5))
    assert await answered(peer) == 0x87
    (line,) = lines()
    assert line.endswith("asks for one (the client's certificate has none that is read here)")


async def test_wills_and_subscriptions_that_end(broker: Broker, lines: Any, tmp_path: Path) -> None:
    peer = await joe(broker, will=("plant/secret/will", b"x", 0, False))
    assert peer.subscribe(("plant/a", 0)) == [0]
    acl = tmp_path / "acl.txt"
    acl.write_text("# closed\ndeny all plant/a\n" + ACL)
    gate = broker.engine.authority
    assert isinstance(gate, Gate)
    assert gate.refresh()
    broker.engine.rights.changed()
    peer.drop()
    broker.advance(2)
    who = WHO.format(repr("joe"))
    assert lines() == [
        f"denied: {who}: the subscription that it had to 'plant/a', QoS 0: {acl}:2: deny all plant/a",
        f"denied: {who}: the will on 'plant/secret/will', QoS 0, retain 0: "
        f"{acl}:4: deny  user=joe      publish    plant/secret/#",
    ]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "spoke TLS to a listener without TLS"),
        (b"GET / HTTP/1.1\r\n", "spoke HTTP to a listener without WebSocket"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "sent a PROXY header to a listener without `proxies`"),
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", "sent a PROXY header to a listener without `proxies`"),
        (wire.publish("a", b"x"), "0x82, the first packet is not CONNECT"),
        (b"\x10\x04\x00\x04MQ", "0x81, "),
    ],
)
async def test_what_is_no_connect(broker: Broker, lines: Any, first: bytes, words: str) -> None:
    peer = broker.peer(HERE)
    peer.send(first)
    assert peer.closed
    (line,) = lines()
    assert line.startswith(f"refused: client='' user=- address=192.0.2.7 listener='front': {words}")


async def test_client_without_an_identifier(broker: Broker, lines: Any) -> None:
    peer = Peer(broker, 4, HERE)
    assert peer.ask(wire.connect("", 4, clean=False)).reason == 2
    await asyncio.sleep(0)
    (line,) = lines()
    assert "0x85, no client identifier" in line
