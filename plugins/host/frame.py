"""The frames of the interface `geomq-plugin-1` (docs/plugins.md): a batch out, verdicts and effects back. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from plugins.host.limits import Limits

REQUEST_MAGIC = 0x31514D47
RESULT_MAGIC = 0x31524D47

PASS, DROP, REPLACE, REJECT = range(4)
EMIT, STORE, STATE_PUT, METRIC, LOG, ALERT = range(1, 7)
NO_MESSAGE = 0xFFFFFFFF
ANSWER = 1
"""The flag of a message that was published before, and is told again to a node that asks for it."""
_WITH_TOPIC = (EMIT, STORE, ALERT)
_WITH_TEXT = (LOG, ALERT)

_TOPIC, _PAYLOAD, _PROPERTIES, _QOS, _RETAIN = 1, 2, 4, 8, 16
_EVERYTHING = _TOPIC | _PAYLOAD | _PROPERTIES | _QOS | _RETAIN

_REQUEST = struct.Struct("<IIQQIIIi4I")
_ENTRY = struct.Struct("<8IBBHI2I")
_RESULT = struct.Struct("<8I")
_CHANGE = struct.Struct("<8IBB6x")
_EFFECT = struct.Struct("<6IQ")

_FEW = 16
"""Messages whose table is made anew each time."""
LONGEST_KEY = 65_535
"""Bytes of what a module remembers something by."""
LONGEST_TEXT = 1000
"""Characters of what it says; the others are not looked at."""
_LONGEST_TOPIC = 65_535
_ROOM = Limits().output_bytes
_SHOWN = 60
"""Bytes of a topic in an error."""

_new_tuple = tuple.__new__


class FrameError(ValueError):
    """A result that breaks the rules of the interface; ``gist`` says how, without what a message may have brought."""

    def __init__(self, gist: str, found: bytes | None = None) -> None:
        super().__init__(gist if found is None else f"{gist}: {_shown(found)}")
        self.gist = gist


class Fields(NamedTuple):
    """A message as a plugin sees it."""

    topic: bytes
    payload: bytes
    properties: bytes = b""
    client_id: bytes = b""
    qos: int = 0
    retain: bool = False
    user: bytes = b""


class Whole(NamedTuple):
    """Messages of one client, topic and length at QoS 0, in the packets in which they came: ``size`` bytes each."""

    topic: bytes
    packets: bytes
    number: int
    """How many they are."""
    size: int
    payload_at: int
    """Where the payload begins in each packet; it goes to the packet's end."""
    client_id: bytes
    user: bytes

    def payloads(self) -> list[bytes]:
        """Those of the messages, in order."""
        _, packets, count, size, payload_at, _, _ = self
        return [packets[at + payload_at : at + size] for at in range(0, count * size, size)]

    def fields(self) -> list[Fields]:
        """The messages, one by one."""
        return [
            Fields(self.topic, payload, b"", self.client_id, 0, False, self.user)
            for payload in self.payloads()
        ]


class Place(NamedTuple):
    """Where a batch is worked on: the node, its region, and how many seconds its local time is east of UTC."""

    node: bytes = b""
    region: bytes = b""
    utc_offset: int = 0


NOWHERE = Place()


class Effect(NamedTuple):
    """Something that a plugin wants done, for a message of the batch (its index) or none (:data:`NO_MESSAGE`).

    ``number`` has the bits of docs/plugins.md's last column.
    """

    kind: int
    message: int
    first: bytes
    second: bytes
    number: int


class Result(NamedTuple):
    """What a plugin made of a batch."""

    verdicts: bytes
    changes: dict[int, Fields]
    """The messages as they are to be, by index, for the verdict REPLACE."""
    effects: list[Effect]


class Payloads(NamedTuple):
    """What a plugin made of messages, where it changed nothing but payloads."""

    verdicts: bytes
    payloads: list[bytes | None]
    """As they are to be, None for a message that is dropped; empty where all pass as they are."""


def encode_request(
    batch: Sequence[Fields], now_ns: int, batch_id: int, stage: int, place: Place = NOWHERE, flags: int = 0
) -> bytes:
    """The request frame of a batch, all of whose messages have these flags."""
    count = len(batch)
    at = _REQUEST.size + count * _ENTRY.size
    node, region, utc_offset = place
    head = bytearray(
        _REQUEST.pack(
            REQUEST_MAGIC,
            count,
            now_ns,
            batch_id,
            _REQUEST.size,
            stage,
            _ENTRY.size,
            utc_offset,
            at,
            len(node),
            at + len(node),
            len(region),
        )
    )
    at += len(node) + len(region)
    parts: list[bytes] = [b"", node, region]
    pack = _ENTRY.pack
    for topic, payload, properties, client_id, qos, retain, user in batch:
        topic_size, payload_size = len(topic), len(payload)
        properties_size, client_size, user_size = len(properties), len(client_id), len(user)
        payload_at = at + topic_size
        properties_at = payload_at + payload_size
        client_at = properties_at + properties_size
        user_at = client_at + client_size
        head += pack(
            at,
            topic_size,
            payload_at,
            payload_size,
            properties_at,
            properties_size,
            client_at,
            client_size,
            qos,
            retain,
            flags,
            0,
            user_at,
            user_size,
        )
        parts += (topic, payload, properties, client_id, user)
        at = user_at + user_size
    parts[0] = bytes(head)
    return b"".join(parts)


def encode_whole(whole: Whole, now_ns: int, batch_id: int, stage: int, place: Place = NOWHERE) -> bytes:
    """The request frame of messages that have all but the payload in common: with the packets as they came."""
    node, region, utc_offset = place
    topic, packets, count, size, payload_at, client_id, user = whole
    region_at = _REQUEST.size + len(node)
    topic_at = region_at + len(region)
    client_at = topic_at + len(topic)
    user_at = client_at + len(client_id)
    packets_at = user_at + len(user)
    end = packets_at + len(packets)
    gap = -end % 8
    head = _REQUEST.pack(
        REQUEST_MAGIC,
        count,
        now_ns,
        batch_id,
        end + gap,
        stage,
        _ENTRY.size,
        utc_offset,
        _REQUEST.size,
        len(node),
        region_at,
        len(region),
    )
    shape = (
        topic_at,
        len(topic),
        packets_at + payload_at,
        size - payload_at,
        size,
        client_at,
        len(client_id),
    )
    if count < _FEW:
        table = _table(shape, user_at, len(user), count)
    else:
        # With a few lengths, so that few are made.
        rounded = 1 << (count - 1).bit_length()
        table = _known_table(shape, user_at, len(user), rounded)[: count * _ENTRY.size]
    return b"".join((head, node, region, topic, client_id, user, packets, bytes(gap), table))


def _table(shape: tuple[int, ...], user_at: int, user_size: int, count: int) -> bytes:
    """The entries of ``count`` messages that stand one behind the other."""
    topic_at, topic_size, payload_at, payload_size, step, client_at, client_size = shape
    pack = _ENTRY.pack
    return b"".join(
        [
            pack(
                topic_at,
                topic_size,
                at,
                payload_size,
                0,
                0,
                client_at,
                client_size,
                0,
                0,
                0,
                0,
                user_at,
                user_size,
            )
            for at in range(payload_at, payload_at + count * step, step)
        ]
    )


_known_table = lru_cache(maxsize=32)(_table)


def decode_whole(frame: bytes, whole: Whole, room: int = _ROOM) -> Payloads | None:
    """A result that is about payloads only; None where it says more. FrameError as by :func:`decode_result`."""
    count = whole.number
    verdicts, change_count, changes_at, effect_count, _ = _head(frame, count)
    if effect_count or REJECT in verdicts:
        return None
    payloads: list[bytes | None] = [None] * count
    if change_count < count:
        payloads[:] = whole.payloads()
    end = len(frame)
    last = -1
    left = room
    for index, what, _, _, start, length, _, _, _, _ in _CHANGE.iter_unpack(
        _slice(frame, changes_at, change_count * _CHANGE.size)
    ):
        if what != _PAYLOAD:
            return None
        if index <= last or index >= count or verdicts[index] != REPLACE:
            raise FrameError(f"a changed record for message {index} is out of place")
        last = index
        stop = start + length
        left -= length
        if stop > end:
            raise FrameError("an offset is outside the frame")
        if left < 0:
            raise _too_much(room)
        payloads[index] = frame[start:stop]
    if DROP in verdicts:
        for index, verdict in enumerate(verdicts):
            if verdict == DROP:
                payloads[index] = None
    return Payloads(verdicts, payloads)


def decode_result(
    frame: bytes, batch: Sequence[Fields], emits: int | None = None, room: int = _ROOM
) -> Result:
    """What the frame says about the batch; FrameError where it breaks a rule, or adds more messages than ``emits``.

    ``room`` is how many bytes the fields of all changed messages may have, and those of all effects: what many refer to
    is copied for each.
    """
    count = len(batch)
    verdicts, change_count, changes_at, effect_count, effects_at = _head(frame, count)
    changes = _changes(frame, _slice(frame, changes_at, change_count * _CHANGE.size), verdicts, batch, room)
    if not effect_count:
        return Result(verdicts, changes, [])
    table = _slice(frame, effects_at, effect_count * _EFFECT.size)
    if emits is not None:
        _check_emits(table, emits)
    return Result(verdicts, changes, _effects(frame, table, count, room))


def _check_emits(table: bytes, allowed: int) -> None:
    """Before the effects are looked at one by one, for that takes its time where they are too many."""
    kinds = table[:: _EFFECT.size]
    emits = kinds.count(EMIT) + kinds.count(STORE)
    if emits > allowed:
        raise FrameError(f"a result with {emits} messages more, {allowed} are allowed")


def _head(frame: bytes, expected: int) -> tuple[bytes, int, int, int, int]:
    """(verdicts, count of changes, their offset, count of effects, their offset) of a result for so many messages."""
    if len(frame) < _RESULT.size:
        raise FrameError("the result is shorter than its header")
    magic, count, verdicts_at, change_count, changes_at, effect_count, effects_at, _ = _RESULT.unpack_from(
        frame
    )
    if magic != RESULT_MAGIC:
        raise FrameError(f"the result begins with 0x{magic:08x}")
    if count != expected:
        raise FrameError(f"{count} verdicts for {expected} messages")
    verdicts = _slice(frame, verdicts_at, count)
    if verdicts and max(verdicts) > REJECT:
        raise FrameError(f"unknown verdict {max(verdicts)}")
    if change_count != verdicts.count(REPLACE):
        raise FrameError(f"{change_count} changed records for {verdicts.count(REPLACE)} verdicts REPLACE")
    return verdicts, change_count, changes_at, effect_count, effects_at


def rejections(result: Result) -> tuple[dict[int, str], list[Effect]]:
    """Why the plugin rejects messages, by their indices, and the effects without those that say so."""
    reasons = {index: "" for index, verdict in enumerate(result.verdicts) if verdict == REJECT}
    others: list[Effect] = []
    for effect in result.effects:
        if effect.kind != LOG or effect.message not in reasons:
            others.append(effect)
        else:
            # What it said last, when it gave up.
            reasons[effect.message] = text(effect.second)
    return {index: reason or "rejected by the module" for index, reason in reasons.items()}, others


def _slice(frame: bytes, offset: int, length: int) -> bytes:
    if offset + length > len(frame):
        raise FrameError("an offset is outside the frame")
    return frame[offset : offset + length]


def _too_much(room: int) -> FrameError:
    return FrameError(f"fields of more than {room} bytes in all")


def _changes(
    frame: bytes, table: bytes, verdicts: bytes, batch: Sequence[Fields], room: int
) -> dict[int, Fields]:
    end, count = len(frame), len(batch)
    left = room
    changes: dict[int, Fields] = {}
    last = -1
    for row in _CHANGE.iter_unpack(table):
        index = row[0]
        if index <= last or index >= count or verdicts[index] != REPLACE:
            raise FrameError(f"a changed record for message {index} is out of place")
        last = index
        topic, payload, properties, client_id, qos, retain, user = batch[index]
        if row[1] == _PAYLOAD:
            # What rules do most.
            start, length = row[4], row[5]
            stop = start + length
            left -= length
            if stop > end:
                raise FrameError("an offset is outside the frame")
            if left < 0:
                raise _too_much(room)
            payload = frame[start:stop]
        else:
            left -= _bytes_changed(row)
            if left < 0:
                raise _too_much(room)
            topic, payload, properties, qos, retain = _changed(frame, row, batch[index])
        # Past the named tuple's own constructor, which takes twice as long.
        changes[index] = _new_tuple(Fields, (topic, payload, properties, client_id, qos, retain, user))
    return changes


def _bytes_changed(row: tuple[int, ...]) -> int:
    """How many bytes the fields have that a changed record is about."""
    what = row[1]
    return (
        (row[3] if what & _TOPIC else 0)
        + (row[5] if what & _PAYLOAD else 0)
        + (row[7] if what & _PROPERTIES else 0)
    )


def _changed(frame: bytes, row: tuple[int, ...], old: Fields) -> tuple[bytes, bytes, bytes, int, bool]:
    """(topic, payload, properties, QoS, retain) of a changed record."""
    _, what, topic_at, topic_size, payload_at, payload_size, properties_at, properties_size, qos, retain = row
    if what & ~_EVERYTHING:
        raise FrameError(f"unknown change {what}")
    if what & _QOS and qos > 2:
        raise FrameError(f"QoS {qos}")
    return (
        _check_topic(_slice(frame, topic_at, topic_size)) if what & _TOPIC else old.topic,
        _slice(frame, payload_at, payload_size) if what & _PAYLOAD else old.payload,
        _slice(frame, properties_at, properties_size) if what & _PROPERTIES else old.properties,
        qos if what & _QOS else old.qos,
        bool(retain) if what & _RETAIN else old.retain,
    )


def _effects(frame: bytes, table: bytes, count: int, room: int) -> list[Effect]:
    end = len(frame)
    left = room
    effects: list[Effect] = []
    for kind, index, first_at, first_size, second_at, second_size, number in _EFFECT.iter_unpack(table):
        if not EMIT <= kind <= ALERT:
            raise FrameError(f"unknown effect {kind}")
        if index >= count and index != NO_MESSAGE:
            raise FrameError(f"an effect of message {index}, which is not there")
        first_end, second_end = first_at + first_size, second_at + second_size
        if first_end > end or second_end > end:
            raise FrameError("an offset is outside the frame")
        if kind in _WITH_TEXT:
            # Each character is four bytes at most.
            second_end = min(second_end, second_at + 4 * LONGEST_TEXT)
        left -= first_size + second_end - second_at
        if left < 0:
            raise _too_much(room)
        if kind == STATE_PUT and first_size > LONGEST_KEY:
            raise FrameError(f"a key of {first_size} bytes, {LONGEST_KEY} are allowed")
        first = frame[first_at:first_end]
        if kind in _WITH_TOPIC:
            _check_topic(first)
            if kind == EMIT and (number > 6 or number & 3 == 3):
                raise FrameError("an emitted message with unknown flags")
        effects.append(_new_tuple(Effect, (kind, index, first, frame[second_at:second_end], number)))
    return effects


def text(said: bytes, longest: int = LONGEST_TEXT) -> str:
    """What a module says, as so many characters at most."""
    # Each is four bytes at most. To replace megabytes that are no UTF-8 takes long, and nobody else runs meanwhile.
    return said[: 4 * longest].decode("utf-8", "replace")[:longest]


def _check_topic(topic: bytes) -> bytes:
    """A topic name as MQTT has it [MQTT-4.7.3-1], [MQTT-4.7.3-2]."""
    if not topic or len(topic) > _LONGEST_TOPIC or b"\0" in topic or b"+" in topic or b"#" in topic:
        raise FrameError("a topic that is none", topic)
    try:
        topic.decode("utf-8")
    except UnicodeDecodeError:
        raise FrameError("a topic that is not UTF-8", topic) from None
    return topic


def _shown(topic: bytes) -> str:
    text = repr(topic[:_SHOWN].decode("utf-8", "backslashreplace"))
    return text if len(topic) <= _SHOWN else f"{text}..., {len(topic)} bytes"


def metric_value(number: int) -> float:
    """The f64 that an effect METRIC carries."""
    (value,) = struct.unpack("<d", number.to_bytes(8, "little"))
    return float(value)
