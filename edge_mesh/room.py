"""Whether the outbox takes what has to wait for a node that is away (``mesh.outbox_full: refuse``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from broker.ports import Outbound
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
        """Whether there is no room for a message of ``size``, and it would be dropped for that, or have others dropped.

        Where it is not refused it has a part of the room from now on: it comes later, with others of its chunk, or by
        way of the disk.
        """
        if self.settings.outbox_full != "refuse":
            return False
        names = self._known(nodes, retain)
        if not names:
            return False
        if self._is_tight_with(self._promised) and self._is_at_risk(names):
            return True
        self._promised += size
        return False

    def handed_over(self, batch: Sequence[Outbound]) -> None:
        """What of these was promised room is in the outbox now, or rules see to it."""
        if self._promised:
            size = sum(
                len(message.payload)
                for message, nodes in batch
                if message.qos and self._known(nodes, message.retain)
            )
            self._promised = max(0, self._promised - size)

    def _known(self, nodes: Iterable[str], retain: bool) -> list[str]:
        peers = self._peers
        return list(peers) if retain else [name for name in nodes if name in peers]

    def _is_at_risk(self, names: Sequence[str]) -> bool:
        """Whether one of these is away, or has the longest queue, which loses messages at the bound."""
        peers, outbox = self._peers, self._outbox
        if not all(peers[name].alive for name in names):
            return True
        busy = [name for name in names if not peers[name].lane.is_resting]
        # Most of the time nothing waits for who is there.
        longest = max(outbox.ledger(name).queued for name in peers) if busy else 0
        return any(outbox.ledger(name).queued == longest for name in busy)

    def hold(self, on_safe: Callable[[], None]) -> Callable[[], None]:
        """``on_safe`` for a publisher who cannot be refused: called when there is room again, too."""
        return lambda: self._held.append(on_safe) if self.tight else on_safe()

    def _is_tight_with(self, more: int) -> bool:
        outbox = self._outbox
        return outbox.bytes + outbox.uncommitted + more > _TIGHT * self.settings.outbox_bytes

    def look(self) -> None:
        """Let those go on who were held, where there is room again."""
        # What ingress rules have dropped is never handed over. What is still on its way has the last tenth.
        self._promised = 0
        if self._held and not self.tight:
            held, self._held = self._held, []
            for on_safe in held:
                on_safe()
