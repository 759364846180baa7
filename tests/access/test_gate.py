"""A node with a users file: real passwords, real threads, a file that changes while the node runs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from scramp import ScramClient

from broker.access.bans import NO_BANS, Bans, BanTerms
from broker.access.gate import Gate
from broker.access.gates import Gates
from broker.access.users import SCRAM, UsersError, make_user, write_users
from broker.ports import Peer as Origin
from broker.stats import Stats
from tests.engine.harness import Broker, Peer
from tests.protocol import wire

JOE = make_user("secret")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    write_users(path, {"joe": JOE})
    return path


@pytest.fixture
async def gate(file: Path) -> AsyncIterator[Gate]:
    found = Gate(file, anonymous=["open"])
    yield found
    await found.close()


async def answered(peer: Peer) -> int:
    """The reason code of CONNACK, once it has come."""
    async with asyncio.timeout(10):
        while not peer.transport.written:
            await asyncio.sleep(0.005)
    return peer.take()[0].reason


@pytest.mark.parametrize(
    ("username", "password", "reasons"),
    [
        ("joe", b"secret", (0, 0)),
        ("joe", b"wrong", (4, 0x86)),
        ("joe", b"", (4, 0x86)),
        ("joe", None, (4, 0x86)),
        ("nobody", b"secret", (4, 0x86)),
        (None, None, (5, 0x87)),
    ],
)
@pytest.mark.parametrize("version", [4, 5])
async def test_passwords(
    gate: Gate, version: int, username: str | None, password: bytes | None, reasons: tuple[int, int]
) -> None:
    peer = Broker(gate).peer()
    peer.version = version
    peer.send(wire.connect("c", version, username=username, password=password))
    assert await answered(peer) == reasons[version == 5]
    assert peer.closed == (reasons[0] != 0)


async def test_listener_that_asks_for_no_credentials(gate: Gate) -> None:
    peer = Broker(gate).peer()
    peer.connection.peer = peer.connection.peer._replace(listener="open")
    assert peer.ask(wire.connect("c", 5)).reason == 0
    stranger = Broker(gate).peer()
    stranger.connection.peer = stranger.connection.peer._replace(listener="open")
    stranger.send(wire.connect("d", 5, username="joe", password=b"wrong"))
    assert await answered(stranger) == 0x86


async def test_no_more_clients_than_there_is_room_for_when_many_come_at_once(gate: Gate) -> None:
    broker = Broker(gate, max_connections=2)
    peers = [broker.peer() for _ in range(5)]
    for number, peer in enumerate(peers):
        peer.send(wire.connect(f"c{number}", 5, username="joe", password=b"secret"))
    assert sorted([await answered(peer) for peer in peers]) == [0, 0, 0x97, 0x97, 0x97]
    assert broker.engine.roster.connected == 2
    assert broker.engine.stats.limited_max_connections == 3


async def test_what_follows_connect_waits_for_the_password(gate: Gate) -> None:
    peer = Broker(gate).peer()
    peer.send(wire.connect("c", 5, username="joe", password=b"secret"), wire.PINGREQ)
    assert peer.transport.paused
    assert await answered(peer) == 0
    assert not peer.transport.paused


async def test_client_that_is_gone_before_the_answer(gate: Gate) -> None:
    broker = Broker(gate)
    peer = broker.peer()
    peer.send(wire.connect("c", 5, username="joe", password=b"secret"))
    peer.drop()
    other = broker.peer()
    other.send(wire.connect("d", 5, username="joe", password=b"secret"))
    assert await answered(other) == 0
    assert broker.engine.roster.connected == 1


async def test_users_change_while_the_node_runs(
    file: Path, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "geomq.access")
    write_users(file, {"ann": make_user("hers", scram=True)})
    assert gate.exchange(SCRAM, Peer(Broker(gate)).connection.credentials) is None  # type: ignore[arg-type]
    gate.refresh()
    assert list(gate.users) == ["ann"]
    assert gate.exchange("PLAIN", Peer(Broker(gate)).connection.credentials) is None  # type: ignore[arg-type]
    assert gate.exchange(SCRAM, Peer(Broker(gate)).connection.credentials) is not None  # type: ignore[arg-type]
    file.write_text("joe:secret")
    gate.refresh()
    gate.refresh()
    os.unlink(file)
    gate.refresh()
    assert list(gate.users) == ["ann"], "a broken file takes nobody's access away"
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "users:1: neither" in errors[0]
    assert "cannot be read" in errors[1]
    assert "secret" not in caplog.text


async def test_file_that_is_wrong_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsersError, match="cannot be read"):
        Gate(tmp_path / "missing")


async def test_guessing_locks_out(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate(file, anonymous=["open"], bans=Bans(BanTerms(3, 60.0, 0.5)))
    broker = Broker(gate)

    async def login(password: bytes, address: str = "192.0.2.1", name: str = "joe") -> int:
        peer = broker.peer(Origin(address, "test"))
        peer.send(wire.connect("c", 5, username=name, password=password))
        return await answered(peer)

    assert [await login(b"wrong") for _ in range(3)] == [0x86] * 3
    assert await login(b"secret") == 0x8A
    assert await login(b"secret", "192.0.2.2") == 0x8A, "the user name is locked out everywhere"
    assert await login(b"x", name="ann") == 0x8A, "the address is locked out for everybody"
    assert await login(b"x", "192.0.2.2", "ann") == 0x86
    assert caplog.text.count("is locked out") == 2
    async with asyncio.timeout(10):
        while await login(b"secret") != 0:
            await asyncio.sleep(0.05)
    await gate.close()


async def test_guessing_with_many_connections_at_once_locks_out(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stats = Stats()
    gate = Gate(file, bans=Bans(BanTerms(3, 60.0, 60.0), stats=stats))
    broker = Broker(gate)
    peers = [broker.peer() for _ in range(8)]
    for number, peer in enumerate(peers):
        password = b"secret" if number == 7 else b"wrong"
        peer.send(wire.connect(f"c{number}", 5, username="joe", password=password))
    assert [await answered(peer) for peer in peers] == [0x86] * 3 + [0x8A] * 5
    assert stats.lockouts == 2, "of the address and of the user, once"
    assert caplog.text.count("is locked out") == 2
    await gate.close()


async def test_scram_counts_as_a_login(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "users"
    write_users(file, {"joe": make_user("secret", scram=True)})
    gate = Gate(file, bans=Bans(BanTerms(2, 60.0, 60.0)))
    broker = Broker(gate)

    def login(password: str) -> int:
        client = ScramClient([SCRAM], "joe", password)
        first = wire.props((0x15, SCRAM), (0x16, client.get_client_first().encode()))
        peer = broker.peer()
        challenge = peer.ask(wire.connect("c", 5, properties=first))
        client.set_server_first(challenge.get(0x16).decode())
        proof = wire.props((0x15, SCRAM), (0x16, client.get_client_final().encode()))
        return peer.ask(wire.auth(0x18, proof)).reason

    assert [login("secret"), login("wrong"), login("wrong"), login("secret")] == [0, 0x87, 0x87, 0x8A]
    assert "user 'joe' is locked out" in caplog.text
    assert "address 192.0.2.1 is locked out" in caplog.text
    await gate.close()


def test_failures_are_forgiven_forgotten_and_bounded() -> None:
    bans = Bans(BanTerms(2, 10.0, 5.0))
    assert bans.failed(["a"], "l", 0.0) == []
    bans.succeeded(["a"])
    assert bans.failed(["a"], "l", 1.0) == []
    assert bans.failed(["a"], "l", 20.0) == [], "the first was too long ago"
    assert bans.failed(["a"], "l", 21.0) == ["a"]
    assert bans.banned(["b", "a"], "l", 25.0)
    assert not bans.banned(["a"], "l", 26.5)
    for number in range(30_000):
        bans.failed([f"user {number}"], "l", 30.0)
    assert len(bans._failures) <= 10_000
    assert Bans(NO_BANS).failed(["a"], "l", 0.0) == []


async def test_address_is_locked_out_at_all_listeners_and_a_user_where_its_access_section_holds(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = tmp_path / "others"
    write_users(others, {"joe": make_user("hers")})
    stats = Stats()
    bans = Bans(BanTerms(2, 60.0, 60.0), {"strict": BanTerms(1, 60.0, 60.0), "lax": NO_BANS}, stats)
    gate, other = Gate(file, bans=bans), Gate(others, bans=bans, scope=" of listener strict")
    broker = Broker(Gates({"plain": gate, "lax": gate, "strict": other}))
    broker.engine.stats = stats

    async def login(listener: str, password: bytes, address: str) -> int:
        peer = broker.peer(Origin(address, listener))
        peer.send(wire.connect("c", 5, username="joe", password=password))
        return await answered(peer)

    assert await login("plain", b"wrong", "192.0.2.1") == 0x86
    assert await login("strict", b"wrong", "192.0.2.1") == 0x86
    assert await login("plain", b"secret", "192.0.2.1") == 0x8A, "the address is locked out everywhere"
    assert await login("plain", b"secret", "192.0.2.2") == 0, "the user failed here once only"
    assert await login("strict", b"hers", "192.0.2.3") == 0x8A, "and there often enough"
    assert await login("lax", b"secret", "192.0.2.1") == 0, "nobody is locked out here"
    assert [await login("lax", b"wrong", "192.0.2.4") for _ in range(3)] == [0x86] * 3
    assert await login("plain", b"secret", "192.0.2.4") == 0
    assert "user 'joe' of listener strict is locked out" in caplog.text
    assert (stats.lockouts, stats.limited_bans) == (2, 2)
    for each in (gate, other):
        await each.close()


def test_terms_change_while_lock_outs_last() -> None:
    bans = Bans(BanTerms(3, 60.0, 60.0))
    assert [bans.failed(["a"], "l", at) for at in (0.0, 1.0)] == [[], []]
    bans.change(BanTerms(5, 60.0, 10.0), {})
    assert [bans.failed(["a"], "l", at) for at in (2.0, 3.0, 4.0)] == [[], [], ["a"]]
    bans.change(BanTerms(1, 60.0, 99.0), {})
    assert bans.banned(["a"], "l", 13.0)
    assert not bans.banned(["a"], "l", 15.0)
    assert bans.failed(["b"], "l", 20.0) == ["b"]
