"""What a module remembers between batches, kept by the host, bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple


class StateChange(NamedTuple):
    """A key as it is to be on disk; ``value`` None: it is gone. ``until`` as in :meth:`State.restore`."""

    key: bytes
    value: bytes | None
    until: float


class State:
    """Values by key, with a lifetime; when it is full, what was written longest ago goes first.

    ``now`` is in seconds of any clock that does not jump. May be used by several threads: a rule's worker writes while
    the disk's thread collects.
    """

    def __init__(self, max_keys: int = 10_000, max_bytes: int = 4 << 20) -> None:
        self._values: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._changed: dict[bytes, None] = {}
        self._saved: set[bytes] = set()
        """What was collected, or restored: keys that have never been on disk are forgotten without a trace."""
        self._saved_before: set[bytes] = set()
        self._lock = threading.Lock()
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        self.bytes = 0
        """Of the keys and values that are kept."""

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: bytes, value: bytes, lifetime_ms: int, now: float) -> None:
        """Remember a value; a lifetime of 0 is for ever."""
        with self._lock:
            self._put(key, value, now + lifetime_ms / 1000 if lifetime_ms else 0.0)
            self._changed[key] = None
            self._make_room()

    def get(self, key: bytes, now: float) -> bytes | None:
        """The value, None where there is none or its lifetime is over."""
        found = self._values.get(key)
        if found is None:
            return None
        value, until = found
        return None if until and until <= now else value

    def bound(self, max_keys: int, max_bytes: int) -> None:
        """From now on keep no more than this."""
        with self._lock:
            self._max_keys, self._max_bytes = max_keys, max_bytes
            self._make_room()

    def restore(self, values: Iterable[tuple[bytes, bytes, float]]) -> None:
        """Take (key, value, until) back, those written longest ago first; ``until`` 0.0 is for ever."""
        with self._lock:
            for key, value, until in values:
                self._put(key, value, until)
                self._saved.add(key)
            self._make_room()

    def collect(self, now: float) -> list[StateChange]:
        """What has changed since the last time, the expired included, which are forgotten."""
        with self._lock:
            for key in [key for key, (_, until) in self._values.items() if until and until <= now]:
                self._forget(key)
            changed, self._changed = self._changed, {}
            self._saved_before = self._saved.intersection(changed)
            self._saved.difference_update(changed)
            self._saved.update(key for key in changed if key in self._values)
            return [StateChange(key, *self._values.get(key, (None, 0.0))) for key in changed]

    def give_back(self, changes: Iterable[StateChange]) -> None:
        """What was collected last could not be written: collect it again."""
        with self._lock:
            keys = [change.key for change in changes]
            self._saved.difference_update(keys)
            self._saved |= self._saved_before
            again = dict.fromkeys(key for key in keys if key in self._values or key in self._saved)
            self._changed = again | self._changed

    def _put(self, key: bytes, value: bytes, until: float) -> None:
        self._drop(key)
        self._values[key] = (value, until)
        self.bytes += len(key) + len(value)

    def _make_room(self) -> None:
        while len(self._values) > self._max_keys or self.bytes > self._max_bytes:
            self._forget(next(iter(self._values)))

    def _forget(self, key: bytes) -> None:
        self._drop(key)
        if key in self._saved:
            self._changed[key] = None
        else:
            # Without a disk nobody would ever collect it.
            self._changed.pop(key, None)

    def _drop(self, key: bytes) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self.bytes -= len(key) + len(found[0])
