"""One envelope for several nodes of a region, as its gateway takes it apart; pure.

Each target has sequences of its own, counted by the sender, which keeps the message until each of them has
acknowledged it: the gateway hands on and remembers nothing, so that nothing is lost or doubled when it dies.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

from edge_mesh import envelope
from edge_mesh.envelope import EnvelopeError

MAX_TARGETS = 64
"""As many as there are bits to name them by."""

_HEAD = Struct("<BBHI")
_STEP = Struct("<QQ")
_SHARE = Struct("<IQ")

_SHARES = 0x01
"""Not every target gets every record: which gets which stands before the envelope."""


class Target(NamedTuple):
    """A node that an envelope is for."""

    node: str
    after: int
    """As in :class:`edge_mesh.envelope.Header`, for this target; 0 on the live lane."""
    first: int
    bit: int
    """The target's bit in the masks of the records."""


def encode(data: bytes, targets: Sequence[Target], records: Sequence[bytes], masks: Sequence[int]) -> bytes:
    """A frame of an envelope whose ``records`` are for the targets whose bits are in their masks."""
    everybody = 0
    for target in targets:
        everybody |= target.bit
    shared = all(mask & everybody == everybody for mask in masks)
    parts = [_HEAD.pack(envelope.VERSION, 0 if shared else _SHARES, len(targets), len(records))]
    for node, after, first, bit in targets:
        name = node.encode()
        parts += (bytes((len(name),)), name, _STEP.pack(after, first), bit.to_bytes(8, "little"))
    if not shared:
        parts += (
            _SHARE.pack(len(record), mask & everybody) for record, mask in zip(records, masks, strict=True)
        )
    parts.append(data)
    return b"".join(parts)


def decode(frame: bytes) -> list[tuple[str, bytes]]:
    """(node, envelope) for each target.

    EnvelopeError where the bytes are not a frame; whether the records are any is for the targets to see.
    """
    try:
        version, flags, count, total = _HEAD.unpack_from(frame)
        if version != envelope.VERSION or flags & ~_SHARES or not 0 < count <= MAX_TARGETS:
            raise EnvelopeError("not a frame for a gateway")
        targets, at = _targets(frame, count)
        if flags & _SHARES:
            if total * _SHARE.size > len(frame) - at:
                raise EnvelopeError(f"{total} records cannot be in {len(frame) - at} bytes")
            shares = list(_SHARE.iter_unpack(frame[at : at + total * _SHARE.size]))
            return _split(frame[at + total * _SHARE.size :], targets, shares)
    except (struct_error, IndexError):
        raise EnvelopeError("a frame for a gateway is cut short") from None
    data = frame[at:]
    envelope.decode_header(data)
    return [(node, envelope.readdressed(data, after, first)) for node, after, first, _ in targets]


def _targets(frame: bytes, count: int) -> tuple[list[Target], int]:
    targets: list[Target] = []
    at = _HEAD.size
    for _ in range(count):
        end = at + 1 + frame[at]
        name = frame[at + 1 : end]
        if not name or not name.isascii():
            raise EnvelopeError("a target's name is not whole")
        after, first = _STEP.unpack_from(frame, end)
        at = end + _STEP.size + 8
        targets.append(Target(name.decode(), after, first, int.from_bytes(frame[at - 8 : at], "little")))
    return targets, at


def _split(data: bytes, targets: list[Target], shares: list[tuple[int, int]]) -> list[tuple[str, bytes]]:
    header = envelope.decode_header(data)
    at = header.offset
    records: list[tuple[bytes, int]] = []
    for length, mask in shares:
        records.append((data[at : at + length], mask))
        at += length
    if at != len(data) or len(records) != header.total:
        raise EnvelopeError("the shares are not those of the records")
    return [
        (
            node,
            envelope.encode(
                header.kind,
                header.sender,
                [record for record, mask in records if mask & bit],
                header.sent_at,
                epoch=header.epoch,
                after=after,
                first=first,
            ),
        )
        for node, after, first, bit in targets
    ]
