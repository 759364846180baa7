"""A packet of each kind that a client sends after CONNECT, and what the tests of the decoder do with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from broker.protocol import packets
from broker.protocol.decode import Decoder
from broker.protocol.errors import ProtocolError
from tests.protocol import wire

MAX = 1 << 20
VERSIONS = (3, 4, 5)
CONNECTED = {version: wire.connect(version=version) for version in VERSIONS}


class Sample(NamedTuple):
    """A valid packet, and the lengths at which its body could end and be a valid one still."""

    version: int
    data: bytes
    ends: frozenset[int] = frozenset()

    @property
    def body(self) -> bytes:
        """What follows the fixed header, which takes two bytes in all samples."""
        assert self.data[1] == len(self.data) - 2
        return self.data[2:]


def connected(version: int, limit: int = MAX) -> Decoder:
    """A decoder behind a CONNECT."""
    wire.spoken.add(version)
    decoder = Decoder(limit)
    (connect,) = decoder.feed(CONNECTED[version])
    assert isinstance(connect, packets.Connect)
    return decoder


def decode(data: bytes, version: int = 5, limit: int = MAX) -> list[Any]:
    """What comes out of one chunk behind a CONNECT."""
    return connected(version, limit).feed(data)


def singles(found: Iterable[Any]) -> list[Any]:
    """Runs taken apart, one packet each; errors as (type, reason), which compare."""
    out: list[Any] = []
    for item in found:
        if isinstance(item, packets.PublishRun):
            assert len(item.frames) == item.count * item.size
            for start in range(0, len(item.frames), item.size):
                payload = item.frames[start + item.payload_at : start + item.size]
                out.append(packets.Publish(item.topic, payload, 0, False, False, 0, b"", None, 0))
        elif isinstance(item, packets.AckRun):
            out += [packets.Ack(item.kind, number, 0, {}) for number in item.packet_ids]
        elif isinstance(item, ProtocolError):
            out.append((type(item), item.reason))
        else:
            out.append(item)
    return out


def only(data: bytes, version: int = 5) -> Any:
    """The one packet in these bytes."""
    (found,) = singles(decode(data, version))
    return found


def refusal(data: bytes, version: int = 5, limit: int = MAX) -> int:
    """The reason code of the ProtocolError that these bytes end in."""
    found = decode(data, version, limit)
    assert isinstance(found[-1], ProtocolError), found
    return found[-1].reason


def _publish(version: int, topic: str, payload: bytes, qos: int = 0, **more: Any) -> Sample:
    data = wire.publish(topic, payload, qos, 7, version, **more)
    whole = len(data) - 2
    return Sample(version, data, frozenset(range(whole - len(payload), whole)))


def _subscribe(version: int, wanted: list[tuple[str, int]], properties: bytes = b"") -> Sample:
    whole, *cut = (wire.subscribe(1, wanted[:count], version, properties) for count in (len(wanted), 1))
    return Sample(version, whole, frozenset(len(data) - 2 for data in cut))


def _unsubscribe(version: int, filters: list[str], properties: bytes = b"") -> Sample:
    whole, *cut = (wire.unsubscribe(2, filters[:count], version, properties) for count in (len(filters), 1))
    return Sample(version, whole, frozenset(len(data) - 2 for data in cut))


USER = wire.props((0x26, ("k", "v")))
REASON = wire.props((0x1F, "because"))


def _of_every_version(version: int) -> list[Sample]:
    return [
        _publish(version, "t", b"payload"),
        _publish(version, "t", b"payload", retain=True),
        _publish(version, "t", b"payload", 1),
        _publish(version, "t/é", b"", 2, retain=True, dup=True),
        *(Sample(version, wire.ack(kind, 258)) for kind in (4, 5, 6, 7)),
        _subscribe(version, [("a/+", 1), ("b/#", 2)]),
        _unsubscribe(version, ["a/+", "b"]),
        Sample(version, wire.PINGREQ),
        Sample(version, wire.disconnect()),
    ]


_OF_5 = [
    _publish(5, "t", b"x", 1, properties=wire.props((0x02, 5), (0x23, 3), (0x26, ("a", "b")))),
    _publish(5, "", b"xyz", properties=wire.props((0x23, 3))),
    *(Sample(5, wire.ack(kind, 1, 0x97), frozenset({2})) for kind in (4, 5)),
    *(Sample(5, wire.ack(kind, 1, 0x92, REASON + USER), frozenset({2, 3})) for kind in (6, 7)),
    Sample(5, wire.ack(4, 1, 0, b""), frozenset({2, 3})),
    _subscribe(5, [("a/+", 1), ("$share/g/b/#", 0x2A)], wire.props((0x0B, 300)) + USER),
    _unsubscribe(5, ["a/+", "b"], USER),
    Sample(5, wire.disconnect(5, 4), frozenset({0})),
    Sample(5, wire.disconnect(5, 4, wire.props((0x11, 10)) + REASON + USER), frozenset({0, 1})),
    Sample(5, wire.auth(0x18, wire.props((0x15, "m"), (0x16, b"d")) + USER)),
]

SAMPLES = {version: _of_every_version(version) for version in (3, 4)} | {5: _of_every_version(5) + _OF_5}
EVERY = [sample for of_version in SAMPLES.values() for sample in of_version]
