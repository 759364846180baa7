"""The gates that a configuration asks for."""

from __future__ import annotations

from pathlib import Path

from broker.access.bans import Bans, BanTerms
from broker.access.gate import Gate
from broker.access.opening import open_gates
from broker.access.users import make_user, write_users
from broker.config import load_text
from broker.ports import Peer as Origin
from tests.access.test_gate import answered
from tests.engine.harness import Broker
from tests.protocol import wire


async def test_users_of_one_access_section_are_not_those_of_another(tmp_path: Path) -> None:
    write_users(tmp_path / "all", {"joe": make_user("his")})
    write_users(tmp_path / "strict", {"joe": make_user("hers")})
    config = load_text(
        """
access: {users: all}
listeners:
  - {name: plain, bind: "127.0.0.1:20001"}
  - {name: strict, bind: "127.0.0.1:20002", access: {users: strict}}
""",
        folder=tmp_path,
    )
    gates: list[Gate] = []
    broker = Broker(await open_gates(config, Bans(BanTerms(1, 60.0, 60.0)), gates))

    async def login(listener: str, password: bytes, address: str) -> int:
        peer = broker.peer(Origin(address, listener))
        peer.send(wire.connect("c", 5, username="joe", password=password))
        return await answered(peer)

    assert await login("strict", b"wrong", "192.0.2.1") == 0x86
    assert await login("strict", b"hers", "192.0.2.2") == 0x8A
    assert await login("plain", b"his", "192.0.2.2") == 0, "another joe"
    assert len(gates) == 2
    for gate in gates:
        await gate.close()
