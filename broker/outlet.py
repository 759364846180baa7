"""The sending side of a connection while a chunk is worked on: collect now, write once at the end."""

from __future__ import annotations


class Outlet:
    """Bytes on their way to one client.

    ``dirty`` is the engine's list of outlets that hold unwritten bytes: an outlet enters it with its first
    byte, so that the end of a chunk costs one write per connection touched and nothing for the others.
    ``blocked`` is True while the client does not take what was written to it.
    """

    __slots__ = ("blocked", "dirty", "out")

    def __init__(self, dirty: list[Outlet]) -> None:
        self.dirty = dirty
        self.out: list[bytes] = []
        self.blocked = False

    def send(self, data: bytes) -> None:
        """Append bytes to what the next flush writes."""
        if not self.out:
            self.dirty.append(self)
        self.out.append(data)

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        raise NotImplementedError
