"""The small frames between two nodes: acknowledgements and pings (docs/mesh-protocol.md); pure."""

from __future__ import annotations

from math import isfinite
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from edge_mesh.envelope import MAX_SEQUENCE

_ACK = Struct("<BB6sQQ")
_PING = Struct("<B7sdQQQ")
_PONG = Struct("<BB6sdd")
_ZEROS = bytes(6)

_KIND_ACK = 1
_KIND_PING = 2
_KIND_PONG = 3


class ControlError(ValueError):
    """The bytes are not a control frame."""


class Ack(NamedTuple):
    """The receiver of a durable lane has everything up to ``mark``; ``again`` asks for all that follows."""

    epoch: int
    mark: int
    again: bool

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _ACK.pack(_KIND_ACK, self.again, bytes(6), self.epoch, self.mark)


class Ping(NamedTuple):
    """Asks for a pong, and tells which version of the sender's interest the receiver should know, and how."""

    sent_at: float
    """On a clock of the sender's choice; comes back in the pong."""
    incarnation: int
    interest_version: int
    interest_digest: int
    """Of the filters told up to that version (:func:`edge_mesh.filter_set.digest`)."""

    def encode(self) -> bytes:
        """The frame's bytes."""
        return _PING.pack(
            _KIND_PING, bytes(7), self.sent_at, self.incarnation, self.interest_version, self.interest_digest
        )


class Pong(NamedTuple):
    """The answer to a ping."""

    sent_at: float
    wall: float
    """The answering node's wall clock, seconds."""
    version: str
    """The GeoMQ version of the answering node; ASCII, what is beyond 255 characters is cut off."""

    def encode(self) -> bytes:
        """The frame's bytes."""
        version = self.version.encode("ascii", "replace")[:255]
        return _PONG.pack(_KIND_PONG, len(version), _ZEROS, self.sent_at, self.wall) + version


def decode(data: bytes) -> Ack | Ping | Pong:
    """ControlError where the bytes are not exactly one known frame."""
    kind = data[0] if data else 0
    try:
        if kind == _KIND_ACK:
            return _decode_ack(data)
        if kind == _KIND_PING:
            return _decode_ping(data)
        if kind == _KIND_PONG:
            return _decode_pong(data)
    except struct_error:
        raise ControlError(f"{len(data)} bytes are not a frame of kind {kind}") from None
    raise ControlError(f"unknown kind {kind}")


def _decode_ack(data: bytes) -> Ack:
    _, again, zeros, epoch, mark = _ACK.unpack(data)
    if again > 1 or any(zeros):
        raise ControlError("an acknowledgement says what is not known")
    if max(epoch, mark) >= MAX_SEQUENCE:
        raise ControlError("these are not sequences")
    return Ack(epoch, mark, bool(again))


def _decode_ping(data: bytes) -> Ping:
    _, zeros, sent_at, incarnation, version, digest = _PING.unpack(data)
    if any(zeros) or not isfinite(sent_at):
        raise ControlError("a ping says what is not known")
    if max(incarnation, version) >= MAX_SEQUENCE:
        raise ControlError("this is not a version")
    return Ping(sent_at, incarnation, version, digest)


def _decode_pong(data: bytes) -> Pong:
    _, length, zeros, sent_at, wall = _PONG.unpack_from(data)
    version = data[_PONG.size :]
    if len(version) != length:
        raise ControlError(f"{len(data)} bytes are not a pong with {length} characters of a version")
    if zeros != _ZEROS or not (isfinite(sent_at) and isfinite(wall)):
        raise ControlError("a pong has times and nothing else in its head")
    if not (version.isascii() and version.decode("ascii").isprintable()):
        raise ControlError("a version is of printable characters")
    return Pong(sent_at, wall, version.decode("ascii"))
