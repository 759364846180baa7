"""A node with a users file: real passwords, real threads, a file that changes while the node runs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.access.gate import Gate
from broker.access.users import SCRAM, UsersError, make_user, write_users
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
