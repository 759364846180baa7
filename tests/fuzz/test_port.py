"""Ten thousand connections that send anything at all: the node stays up, leaks nothing, and others never notice."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.nodes import Client, NodeProcess, wait_for
from tests.protocol import wire

ATTACKS = 10_000
SEED = 20261124

PACKETS = {
    version: [
        wire.publish("a/b", b"payload", 0, 1, version),
        wire.publish("a/b", b"payload", 1, 7, version, retain=True),
        wire.publish("a/b", b"payload", 2, 8, version),
        wire.ack(4, 7),
        wire.ack(5, 7),
        wire.ack(6, 8),
        wire.ack(7, 8),
        wire.subscribe(3, [("a/+", 1), ("$share/g/a/#", 2)], version),
        wire.unsubscribe(4, ["a/+"], version),
        wire.PINGREQ,
        wire.disconnect(version),
    ]
    for version in (4, 5)
}
PACKETS[5] += [
    wire.publish("a/b", b"x", 1, 9, 5, properties=wire.props((0x02, 5), (0x23, 3), (0x26, ("a", "b")))),
    wire.disconnect(5, 4, wire.props((0x11, 10), (0x1F, "why"))),
    wire.auth(0x18, wire.props((0x15, "m"), (0x16, b"d"))),
]


def attack(chance: random.Random) -> bytes:
    """Random bytes, or a conversation with some of its bytes changed, cut or doubled."""
    kind = chance.random()
    if kind < 0.2:
        return chance.randbytes(chance.randint(1, 200))
    version = chance.choice((4, 5))
    properties = wire.props((0x11, 1), (0x21, 5)) if version == 5 else b""
    hello = wire.connect(f"fuzz{chance.randint(0, 50)}", version, chance.random() < 0.5, 10, properties)
    rest = b"".join(chance.choices(PACKETS[version], k=chance.randint(1, 8)))
    if kind < 0.3:
        return hello + chance.randbytes(chance.randint(1, 100))
    data = bytearray(hello + rest if kind < 0.6 else rest)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(data))
        what = chance.random()
        if what < 0.6:
            data[at] = chance.randrange(256)
        elif what < 0.8:
            del data[at : at + chance.randint(1, 4)]
        else:
            data[at:at] = data[at : at + chance.randint(1, 8)]
        if not data:
            data = bytearray(b"\0")
    return bytes(data) if kind < 0.6 else hello + bytes(data)


def talk(port: int, data: bytes) -> None:
    """Send everything, say no more, and read until the node closes."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass


@pytest.mark.spec("MQTT-4.13.1-1")
@pytest.mark.spec311("MQTT-4.8.0-1")
def test_port_takes_anything(tmp_path: Path) -> None:
    # What clients may leave behind is bounded tightly: what grows nevertheless is a leak.
    bounds = {
        "session_expiry_max": "1s",
        "retained_max_messages": 100,
        "queue_max_messages": 100,
        "sys_interval": "1s",
    }
    node = NodeProcess(tmp_path, "fuzz", "fuzz", mesh={"enabled": False}, mqtt=bounds)
    node.start()
    process = psutil.Process(node.pid)
    witness = Client(node, "witness")
    witness.subscribe("witness", 1)
    watcher = Client(node, "watcher")
    watcher.subscribe("$SYS/broker/geomq/status")
    chance = random.Random(SEED)
    for _ in range(500):
        talk(node.mqtt_port, attack(chance))
    settled = process.memory_info().rss
    for number in range(ATTACKS):
        talk(node.mqtt_port, attack(chance))
        if number % 100 == 0:
            witness.publish("witness", b"%d" % number, 1)
    expected = [("witness", b"%d" % number) for number in range(0, ATTACKS, 100)]
    wait_for(lambda: witness.received == expected, "the witness heard all of its own messages, in order")
    assert not witness.disconnected
    assert process.is_running()

    def figure(name: str) -> int:
        return int(json.loads(watcher.received[-1][1])[name]) if watcher.received else -1

    wait_for(lambda: figure("clients") == 2, "no connection is left behind")
    wait_for(lambda: figure("sessions") == 2, "no session is left behind")
    assert len(process.net_connections("tcp")) <= 4
    assert process.memory_info().rss - settled < 8 << 20
    assert "Traceback" not in node.log.read_text()
    witness.close()
    watcher.close()
    assert node.stop() == 0
