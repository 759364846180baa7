"""Puts that may be lost, but not for their size alone.

What the event loop puts itself is dropped where the link's queue is full, and a large envelope fills that by itself. So
large ones are put by a thread, which waits, and what comes after them too, in order, until the thread has caught up.
"""

from __future__ import annotations

from collections import deque

from edge_mesh.link import LIVE, Link, Sender

_LARGE = 256 << 10
"""Bytes beyond which the loop does not put an envelope itself: well below what the link's queue holds."""
_MOST_WAITING = 4 << 20
"""Bytes that wait for the thread; what is beyond is dropped, as it would be late. One envelope alone may be larger."""


class LivePuts:
    """Puts in order to one place; ``name`` is for the thread. Called on the event loop."""

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._sender: Sender | None = None
        self._sizes: deque[int] = deque()
        self._waiting = 0

    def put(self, key: str, data: bytes) -> bool:
        """False where it is dropped because too much waits already."""
        if not self._sizes and len(data) <= _LARGE:
            self._link.put_soon(key, data, LIVE)
            return True
        return self._put_later(key, data)

    def close(self) -> None:
        """Nothing more is put."""
        if self._sender is not None:
            self._sender.stop()

    def _put_later(self, key: str, data: bytes) -> bool:
        sender = self._sender
        if sender is None:
            sender = self._sender = self._link.sender(self._name)
        sizes = self._sizes
        for _ in range(len(sizes) - sender.waiting):
            self._waiting -= sizes.popleft()
        if not sizes and len(data) <= _LARGE:
            self._link.put_soon(key, data, LIVE)
            return True
        if sizes and self._waiting + len(data) > _MOST_WAITING:
            return False
        sizes.append(len(data))
        self._waiting += len(data)
        self._link.put_surely(sender, key, data, LIVE)
        return True
