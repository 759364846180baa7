"""Many messages in one byte string, as docs/mesh-protocol.md describes; pure.

A record is the part that is the same for all receivers and at all times: it is encoded once, kept in the
outbox and sent under any number of headers. Times in it are those of the sender's wall clock; the header says
what that clock showed when it was sent, so that receivers count down with their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

from broker.message import Message, Run

VERSION = 1
LIVE = 1
DURABLE = 2
ANSWER = 3
"""A part of the answer to a query: ``first`` is its number from 1, ``after`` how many there are."""

RUN_BYTES = 48 << 10
"""Bytes of payloads that one record of a run holds at most, if there are several: it fits into a batch of Zenoh's."""

MAX_SEQUENCE = 1 << 62
"""Sequences and epochs are below."""

_HEADER = Struct("<BBBxIQQQd")
_STEP = Struct("<QQ")
_STEP_AT = 16
_RECORD = Struct("<BHI")
_U32 = Struct("<I")
_F64 = Struct("<d")
_U64 = Struct("<Q")

_RUN = 3
_RETAIN = 0x04
_PROPERTIES = 0x08
_EXPIRY = 0x10
_STAMP = 0x20
_ORIGIN = 0x40
_UNKNOWN = 0x80

_FAR = 1e15
_LONG_AGO = 1e-9


class EnvelopeError(ValueError):
    """The bytes are not an envelope of this version."""


class Header(NamedTuple):
    """What stands in front of the records."""

    kind: int
    sender: str
    epoch: int
    """Which outbox of the sender counted the sequences; 0 where nothing is counted."""
    after: int
    """The sequence before ``first``: what lies between the two does not exist (any more)."""
    first: int
    """The sequence of the first record; the others follow without a gap."""
    total: int
    """How many records follow."""
    sent_at: float
    """The sender's wall clock."""
    offset: int
    """Where the records begin."""


def encode_record(message: Message, origin: str = "", stamp: int | None = None) -> bytes:
    """A message without what must not leave the node (the publisher).

    ``origin`` names the node that accepted it where that is not the sender. ``stamp`` replaces the message's.
    """
    topic = message.topic.encode()
    payload = message.payload
    if stamp is None:
        stamp = message.stamp
    if not (stamp or origin or message.retain or message.properties or message.expires_at):
        return _RECORD.pack(message.qos, len(topic), len(payload)) + topic + payload
    flags = message.qos
    tail = b""
    if message.retain:
        flags |= _RETAIN
    if message.properties:
        flags |= _PROPERTIES
        tail += _U32.pack(len(message.properties)) + message.properties
    if message.expires_at:
        flags |= _EXPIRY
        tail += _F64.pack(message.expires_at)
    if stamp:
        flags |= _STAMP
        tail += _U64.pack(stamp)
    if origin:
        flags |= _ORIGIN
        name = origin.encode()
        tail += bytes((len(name),)) + name
    return _RECORD.pack(flags, len(topic), len(payload)) + topic + payload + tail


def encode_run(run: Run) -> Iterator[tuple[bytes, int]]:
    """Messages of one topic as (record, how many of them are in it), for the live lane only."""
    topic = run.topic.encode()
    payloads, size = run.payloads, run.size
    step = max(1, RUN_BYTES // size) * size
    for at in range(0, len(payloads), step):
        part = payloads[at : at + step] if len(payloads) > step else payloads
        count = len(part) // size
        head = _RECORD.pack(0 if count == 1 else _RUN, len(topic), size)
        yield (head + topic + part if count == 1 else head + _U32.pack(count) + topic + part), count


def messages_in(record: bytes) -> int:
    """How many messages a record holds."""
    return int(_U32.unpack_from(record, _RECORD.size)[0]) if record[0] == _RUN else 1


def encode(
    kind: int,
    sender: str,
    records: Sequence[bytes],
    now: float,
    *,
    epoch: int = 0,
    after: int = 0,
    first: int = 0,
) -> bytes:
    """Records under a header; ``now`` is the sender's wall clock in seconds."""
    name = sender.encode()
    header = _HEADER.pack(VERSION, kind, len(name), len(records), epoch, after, first, now)
    return b"".join((header, name, *records))


def readdressed(data: bytes, after: int, first: int) -> bytes:
    """The same envelope under other sequences."""
    return b"".join((data[:_STEP_AT], _STEP.pack(after, first), data[_STEP_AT + _STEP.size :]))


def decode_header(data: bytes) -> Header:
    """EnvelopeError where the bytes do not begin with a header of this version."""
    if len(data) < _HEADER.size:
        raise EnvelopeError(f"{len(data)} bytes are too few for a header")
    version, kind, length, count, epoch, after, first, sent_at = _HEADER.unpack_from(data)
    if version != VERSION:
        raise EnvelopeError(f"version {version} is not {VERSION}")
    if not LIVE <= kind <= ANSWER:
        raise EnvelopeError(f"unknown kind {kind}")
    offset = _HEADER.size + length
    name = data[_HEADER.size : offset]
    if not length or len(name) != length or not name.isascii():
        raise EnvelopeError("the sender's name is not whole")
    if epoch >= MAX_SEQUENCE or first + count >= MAX_SEQUENCE or (kind == DURABLE and first <= after):
        raise EnvelopeError("these are not sequences")
    # Every record has at least its fixed part and a topic of one byte: a greater count is a lie.
    if count * (_RECORD.size + 1) > len(data) - offset:
        raise EnvelopeError(f"{count} records cannot be in {len(data) - offset} bytes")
    return Header(kind, name.decode(), epoch, after, first, count, sent_at, offset)


@lru_cache(maxsize=8192)
def _topic(data: bytes) -> str:
    # Topics recur: the cache saves the checks, and one string a topic saves memory and hashing.
    try:
        topic = data.decode()
    except UnicodeDecodeError:
        raise EnvelopeError("a topic is not UTF-8") from None
    # Topics that begin with $ are each node's own and never travel.
    if not topic or topic[0] == "$" or "+" in topic or "#" in topic or "\0" in topic:
        raise EnvelopeError(f"{topic!r} is not a topic that travels")
    return topic


def decode_live(data: bytes, header: Header, now: float) -> list[Message | Run]:
    """As :func:`decode_records`, for a live envelope: it alone may hold runs, and it holds nothing retained."""
    return _decode(data, header, now, 0)


def decode_records(data: bytes, header: Header, now: float, skip: int = 0) -> list[Message]:
    """The messages but for the first ``skip``, with ``origin`` set and expiries on the receiver's clock.

    What has expired on the way is left out.
    ``now`` is the receiver's wall clock. EnvelopeError where the bytes are not exactly the header's records.
    """
    return _decode(data, header, now, skip)


def _decode(data: bytes, header: Header, now: float, skip: int) -> list[Any]:
    messages: list[Message | Run] = []
    append = messages.append
    unpack = _RECORD.unpack_from
    at = header.offset
    end = len(data)
    origin = header.sender
    try:
        for index in range(header.total):
            flags, topic_length, payload_length = unpack(data, at)
            at += 7
            payload_at = at + topic_length
            after = payload_at + payload_length
            if after > end:
                raise EnvelopeError("a record is cut short")
            if flags < 3:
                if index >= skip:
                    append(
                        Message(
                            _topic(data[at:payload_at]),
                            data[payload_at:after],
                            flags,
                            False,
                            b"",
                            0.0,
                            "",
                            origin,
                        )
                    )
                at = after
            elif flags == _RUN:
                run, at = _decode_run(data, at, topic_length, payload_length, header)
                append(run)
            else:
                message, at = _decode_rich(data, flags, (at, payload_at, after), header, now)
                if index >= skip and not 0.0 < message.expires_at <= now:
                    append(message)
    except Exception as error:
        if isinstance(error, EnvelopeError):
            raise
        raise EnvelopeError(f"a record is cut short: {error}") from None
    if at != end:
        raise EnvelopeError(f"{end - at} bytes follow the last record")
    return messages


def _decode_run(data: bytes, at: int, topic_length: int, size: int, header: Header) -> tuple[Run, int]:
    """Messages of one topic and ``size``, and where the next record begins; ``at`` is where their count stands."""
    if header.kind != LIVE:
        raise EnvelopeError("a run is not on the live lane")
    (count,) = _U32.unpack_from(data, at)
    topic_at = at + _U32.size
    payload_at = topic_at + topic_length
    if not size or not count:
        raise EnvelopeError("a run is empty")
    payloads = _exactly(data, payload_at, count * size)
    run = Run(_topic(data[topic_at:payload_at]), payloads, size, "", "", header.sender)
    return run, payload_at + len(payloads)


def _decode_rich(
    data: bytes, flags: int, bounds: tuple[int, int, int], header: Header, now: float
) -> tuple[Message, int]:
    """A message that has more than topic and payload, and where the next record begins.

    ``bounds`` are where its topic begins, where its payload does, and where that ends.
    """
    topic_at, payload_at, at = bounds
    qos = flags & 3
    if qos == 3 or flags & _UNKNOWN:
        raise EnvelopeError(f"flags {flags:#04x} are not known")
    if flags & _RETAIN and header.kind == LIVE:
        raise EnvelopeError("a retained message is on the live lane")
    properties = b""
    expires_at = 0.0
    stamp = 0
    origin = header.sender
    payload_end = at
    if flags & _PROPERTIES:
        (length,) = _U32.unpack_from(data, at)
        properties = _exactly(data, at + 4, length)
        at += 4 + length
    if flags & _EXPIRY:
        (expires_at,) = _F64.unpack_from(data, at)
        expires_at += now - header.sent_at
        # Comparisons with what is not a number are false: it would never expire.
        if not -_FAR < expires_at < _FAR:
            raise EnvelopeError("an expiry is not a time")
        # 0 would mean that it never expires.
        expires_at = max(expires_at, _LONG_AGO)
        at += 8
    if flags & _STAMP:
        (stamp,) = _U64.unpack_from(data, at)
        at += 8
    if flags & _ORIGIN:
        name = _exactly(data, at + 1, data[at])
        if not name or not name.isascii():
            raise EnvelopeError("an origin is not a name")
        origin = name.decode()
        at += 1 + len(name)
    return (
        Message(
            _topic(data[topic_at:payload_at]),
            data[payload_at:payload_end],
            qos,
            bool(flags & _RETAIN),
            properties,
            expires_at,
            "",
            origin,
            stamp,
        ),
        at,
    )


def _exactly(data: bytes, at: int, length: int) -> bytes:
    part = data[at : at + length]
    if len(part) != length:
        raise EnvelopeError("a record is cut short")
    return part
