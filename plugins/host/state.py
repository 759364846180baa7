"""What a module remembers between batches, kept by the host, bounded. Pure."""

from __future__ import annotations

from collections import OrderedDict

_MAX_KEYS = 10_000
_MAX_BYTES = 4 << 20


class State:
    """Values by key, with a lifetime; when it is full, what was written longest ago goes first.

    ``now`` is in seconds of any clock that does not jump.
    """

    def __init__(self, max_keys: int = _MAX_KEYS, max_bytes: int = _MAX_BYTES) -> None:
        self._values: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0
        self._max_keys = max_keys
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: bytes, value: bytes, lifetime_ms: int, now: float) -> None:
        """Remember a value; a lifetime of 0 is for ever."""
        self._forget(key)
        until = now + lifetime_ms / 1000 if lifetime_ms else 0.0
        self._values[key] = (value, until)
        self._bytes += len(key) + len(value)
        while len(self._values) > self._max_keys or self._bytes > self._max_bytes:
            self._forget(next(iter(self._values)))

    def get(self, key: bytes, now: float) -> bytes | None:
        """The value, None where there is none or its lifetime is over."""
        found = self._values.get(key)
        if found is None:
            return None
        value, until = found
        if until and until <= now:
            self._forget(key)
            return None
        return value

    def _forget(self, key: bytes) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._bytes -= len(key) + len(found[0])
