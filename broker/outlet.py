"""The sending side of a connection while a chunk is worked on: collect now, write once at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.stats import Stats

if TYPE_CHECKING:
    from broker.ports import SessionStore


class Outlet:
    """Bytes on their way to one client.

    ``dirty`` is the engine's list of outlets that hold unwritten bytes: an outlet enters it with its first
    byte, so that the end of a chunk costs one write per connection touched and nothing for the others.
    ``blocked`` is True while the client does not take what was written to it.
    """

    __slots__ = ("blocked", "dirty", "out", "stats")

    def __init__(self, dirty: list[Outlet], stats: Stats) -> None:
        self.dirty = dirty
        self.stats = stats
        self.out: list[bytes] = []
        self.blocked = False

    def send(self, data: bytes) -> None:
        """Append one packet that is no PUBLISH to what the next flush writes."""
        self.stats.control_sent += 1
        if not self.out:
            self.dirty.append(self)
        self.out.append(data)

    def send_when_safe(self, packets: list[bytes], disk: SessionStore) -> None:
        """Send packets, in order, once all that the session handed to its store is safe."""
        raise NotImplementedError

    def overflow(self) -> None:
        """The client's queue is full, and the client should go."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        raise NotImplementedError
