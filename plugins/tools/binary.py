"""CBOR and MessagePack as people read them, close to the diagnostic notation of RFC 8949, section 8. Pure.

Libraries make objects of dates, big numbers and sets; here a value is shown as it was sent, and what they would
forgive, such as a name that stands twice, is not read at all.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

_DEEPEST = 64
_SIMPLE = {20: False, 21: True, 22: None}
_FLOATS = {2: ">e", 4: ">f", 8: ">d"}
_END = object()


class AsWritten(str):
    """What is no text: a number in its own digits, h'00ff', 24(h'01'), undefined."""

    __slots__ = ()


def read(payload: bytes) -> tuple[str, Any] | None:
    """(name of the format, value) of a payload that is a map or an array of just one of the two formats; else None."""
    found = []
    for name, reader in (("CBOR", _Cbor), ("MessagePack", _MessagePack)):
        source = reader(payload)
        try:
            value = source.value(0)
        except (ValueError, IndexError, struct.error, RecursionError):
            continue
        if source.is_through() and isinstance(value, (dict, list)):
            found.append((name, value))
    return found[0] if len(found) == 1 else None


def written(value: Any) -> str:
    """A value on one line, as JSON writes it where JSON has it."""
    if isinstance(value, AsWritten):
        return value
    if isinstance(value, dict):
        members = (f"{json.dumps(name, ensure_ascii=False)}: {written(item)}" for name, item in value.items())
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    return json.dumps(value, ensure_ascii=False)


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of an object; ValueError where a name stands twice, of which a dictionary would show one."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _float(raw: bytes) -> AsWritten:
    (number,) = struct.unpack(_FLOATS[len(raw)], raw)
    if not math.isfinite(number):
        return AsWritten("NaN" if math.isnan(number) else "-Infinity" if number < 0 else "Infinity")
    if len(raw) == 8:
        return AsWritten(repr(number))
    # The shortest decimal of those that are this number, not the double's: 0.1 instead of 0.10000000149011612.
    texts = (f"{number:.{digits}g}" for digits in range(1, 10))
    return AsWritten(
        next((text for text in texts if struct.pack(_FLOATS[len(raw)], float(text)) == raw), repr(number))
    )


def _bytes(raw: bytes) -> AsWritten:
    return AsWritten(f"h'{raw.hex()}'")


class _Source:
    """Bytes that are read one after the other; ValueError or IndexError where they are not of the format."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def is_through(self) -> bool:
        return self._at == len(self._raw)

    def take(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._raw):
            raise IndexError
        return self._raw[self._at - count : self._at]

    def whole(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "big", signed=signed)

    def value(self, depth: int) -> Any:
        raise NotImplementedError

    def items(self, count: int | None, depth: int) -> list[Any]:
        """So many values, or as many as come before the end mark."""
        if depth > _DEEPEST:
            raise ValueError("too deep")
        found: list[Any] = []
        while count is None or len(found) < count:
            item = self.value(depth + 1)
            if item is _END:
                if count is None:
                    return found
                raise ValueError("an end that belongs to nothing")
            found.append(item)
        return found

    def members(self, count: int | None, depth: int) -> dict[str, Any]:
        flat = self.items(None if count is None else 2 * count, depth)
        if len(flat) % 2:
            raise ValueError("a name without a value")
        names = (name if type(name) is str else written(name) for name in flat[::2])
        return without_repeats(list(zip(names, flat[1::2], strict=True)))


class _Cbor(_Source):
    """RFC 8949."""

    def value(self, depth: int) -> Any:
        first = self.whole(1)
        major, more = first >> 5, first & 31
        if major == 7:
            return self._simple(more)
        if more == 31:
            return self._open(major, depth)
        if more > 27:
            raise ValueError("reserved")
        argument = more if more < 24 else self.whole(1 << (more - 24))
        if major < 2:
            return AsWritten(-1 - argument if major else argument)
        if major == 2:
            return _bytes(self.take(argument))
        if major == 3:
            return self.take(argument).decode()
        if major == 6:
            (inner,) = self.items(1, depth)
            return AsWritten(f"{argument}({written(inner)})")
        return self.items(argument, depth) if major == 4 else self.members(argument, depth)

    def _open(self, major: int, depth: int) -> Any:
        """Of a length that is not said before."""
        if major in (4, 5):
            return self.items(None, depth) if major == 4 else self.members(None, depth)
        if major not in (2, 3):
            raise ValueError("cannot be in pieces")
        pieces = self.items(None, depth)
        if major == 3 and all(type(piece) is str for piece in pieces):
            return "".join(pieces)
        if major == 2 and all(isinstance(piece, AsWritten) and piece[:2] == "h'" for piece in pieces):
            return AsWritten(f"h'{''.join(piece[2:-1] for piece in pieces)}'")
        raise ValueError("pieces of another kind")

    def _simple(self, more: int) -> Any:
        if more in _SIMPLE:
            return _SIMPLE[more]
        if more == 31:
            return _END
        if more in (25, 26, 27):
            return _float(self.take(1 << (more - 24)))
        number = self.whole(1) if more == 24 else more
        return AsWritten("undefined" if number == 23 else f"simple({number})")


class _MessagePack(_Source):
    """The specification of msgpack.org."""

    def value(self, depth: int) -> Any:
        first = self.whole(1)
        if first < 0x80 or first >= 0xE0:
            return AsWritten(first if first < 0x80 else first - 256)
        if first < 0xA0:
            count = first & 15
            return self.members(count, depth) if first < 0x90 else self.items(count, depth)
        if first < 0xC0:
            return self.take(first & 31).decode()
        if first in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[first]
        if 0xCC <= first <= 0xD3:
            return AsWritten(self.whole(1 << (first & 3), signed=first >= 0xD0))
        if first in (0xCA, 0xCB):
            return _float(self.take(4 if first == 0xCA else 8))
        if 0xD4 <= first <= 0xD8:
            return self._extension(1 << (first - 0xD4))
        return self._long(first, depth)

    def _long(self, first: int, depth: int) -> Any:
        """With the length in bytes of its own."""
        if 0xC4 <= first <= 0xC6:
            return _bytes(self.take(self.whole(1 << (first - 0xC4))))
        if 0xC7 <= first <= 0xC9:
            return self._extension(self.whole(1 << (first - 0xC7)))
        if 0xD9 <= first <= 0xDB:
            return self.take(self.whole(1 << (first - 0xD9))).decode()
        if first < 0xDC:
            raise ValueError("0xc1 is never used")
        count = self.whole(2 if first in (0xDC, 0xDE) else 4)
        return self.items(count, depth) if first < 0xDE else self.members(count, depth)

    def _extension(self, length: int) -> AsWritten:
        kind = self.whole(1, signed=True)
        return AsWritten(f"ext({kind}, {_bytes(self.take(length))})")
