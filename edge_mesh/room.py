"""Whether the outbox takes what has to wait for a node that is away (``mesh.outbox_full: refuse``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from edge_mesh.outbox import Outbox
from edge_mesh.peers import Peer
from edge_mesh.settings import MeshSettings

_TIGHT = 0.9
"""The part of the bound from which on publishers are refused. The rest is for what nobody can be refused, such
as messages of MQTT 3.1.1 that are on their way already; at the bound itself the oldest are dropped."""


class Room:
    """``peers`` is the mesh's own, living table; ``settings`` may be set anew at any time."""

    def __init__(self, outbox: Outbox, peers: Mapping[str, Peer], settings: MeshSettings) -> None:
        self._outbox = outbox
        self._peers = peers
        self.settings = settings
        self._held: list[Callable[[], None]] = []
        self._promised = 0

    @property
    def tight(self) -> bool:
        """Whether publishers are to be refused, and the outbox is that full; what is not committed counts, too."""
        return self.settings.outbox_full == "refuse" and self._is_tight_with(0)

    def refuses(self, nodes: Iterable[str], retain: bool, size: int) -> bool:
        """Whether a message of ``size`` would have to wait for a node that is away, without room for it.

        Where it is not refused it has a part of the room from now on: it comes with others of its chunk, later.
        """
        if self.settings.outbox_full != "refuse":
            return False
        peers = self._peers
        names = peers if retain else nodes
        if not any(name in peers and not peers[name].alive for name in names):
            return False
        if self._is_tight_with(self._promised):
            return True
        self._promised += size
        return False

    def handed_over(self) -> None:
        """What was promised room is in the outbox now."""
        self._promised = 0

    def hold(self, on_safe: Callable[[], None]) -> Callable[[], None]:
        """``on_safe`` for a publisher who cannot be refused: called when there is room again, too."""
        return lambda: self._held.append(on_safe) if self.tight else on_safe()

    def _is_tight_with(self, more: int) -> bool:
        outbox = self._outbox
        return outbox.bytes + outbox.uncommitted + more > _TIGHT * self.settings.outbox_bytes

    def look(self) -> None:
        """Let those go on who were held, where there is room again."""
        # What ingress rules have dropped is never handed over.
        self._promised = 0
        if self._held and not self.tight:
            held, self._held = self._held, []
            for on_safe in held:
                on_safe()
