"""What the fuzzers feed, and the contract that every input has to keep: a packet, or a documented protocol error."""

from __future__ import annotations

from typing import Any

from broker.access.anonymous import Anonymous
from broker.access.scram import ScramExchange
from broker.access.users import SCRAM, ScramVerifier, User
from broker.ports import Credentials, Exchange
from broker.protocol import packets
from broker.protocol.decode import Decoder
from broker.protocol.errors import ProtocolError
from tests.engine.harness import Broker
from tests.protocol import wire
from tests.protocol.samples import singles

LIMIT = 1 << 16
PACKETS = (
    *(packets.Connect, packets.Publish, packets.PublishRun, packets.Ack, packets.AckRun, packets.Subscribe),
    *(packets.Unsubscribe, packets.PingReq, packets.Disconnect, packets.Auth),
)
HELLO = {
    3: wire.connect("fuzz", 3),
    4: wire.connect("fuzz", 4, clean=False, will=("will", b"gone", 1, True)),
    5: wire.connect(
        "fuzz", 5, clean=False, properties=wire.props((0x11, 60), (0x21, 3), (0x22, 3), (0x27, 500))
    ),
    6: wire.connect("fuzz", 5, properties=wire.props((0x15, SCRAM))),
}
"""How a conversation may begin, by the low bits of the input's first byte; else as the input says."""


def _prefixed(data: bytes) -> bytes:
    return HELLO.get(data[0] & 7, b"") + data[1:] if data else b""


def decoder(data: bytes) -> None:
    """One stream, whole and cut into pieces, gives the same packets, and at most one error, the last."""
    stream = _prefixed(data)
    whole = singles(Decoder(LIMIT).feed(stream))
    size = (data[0] >> 3) + 1 if data else 1
    cut = Decoder(LIMIT)
    found: list[Any] = []
    for at in range(0, len(stream), size):
        found += singles(cut.feed(stream[at : at + size]))
    assert found == whole
    for item in whole[:-1]:
        assert isinstance(item, PACKETS), item
    if whole and isinstance(whole[-1], tuple) and not isinstance(whole[-1], PACKETS):
        kind, reason = whole[-1]
        assert issubclass(kind, ProtocolError)
        assert reason >= 0x80


class Door(Anonymous):
    """Lets everyone in, by SCRAM too."""

    def exchange(self, method: str, credentials: Credentials) -> Exchange | None:
        users = {"joe": User(scram=ScramVerifier(b"salt", bytes(32), bytes(32), 4096))}
        return ScramExchange(users) if method == SCRAM else None


def connection(data: bytes) -> None:
    """A whole conversation: the answers are packets, an error ends this connection, and nobody else notices."""
    broker = Broker(Door(), check_payload_format=True, retained_max_messages=10)
    other = broker.client("other")
    other.subscribe(("#", 2))
    peer = broker.peer()
    stream = _prefixed(data)
    size = (data[0] >> 3) * 8 + 1 if data else 1
    for at in range(0, len(stream), size):
        if peer.closed:
            break
        peer.send(stream[at : at + size])
        broker.now += 0.1
    peer.version = peer.connection.version if peer.connection.is_open else peer.connection.spoken_version or 4
    answers = wire.answers(bytes(peer.transport.written), peer.version)
    if answers:
        assert answers[0].kind in (wire.CONNACK, wire.AUTH)
    if not peer.closed:
        peer.drop()
    broker.advance(3)
    assert not other.closed
    assert other.take_kind(wire.PINGRESP) == []
    other.send(wire.PINGREQ)
    assert len(other.take_kind(wire.PINGRESP)) == 1


TARGETS = {"decoder": decoder, "connection": connection}
