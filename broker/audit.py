"""What the engine tells operators about clients: who it was, and why, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.ports import Action, Authority, Credentials, Journal, Party, Peer

if TYPE_CHECKING:
    from broker.publisher import Publisher

SYSTEM = "topics below $SYS are the node's own"
"""Why nobody may publish there."""
_LONGEST = 256
"""Characters of a topic that are shown."""


class Audit:
    """The journal, as the engine writes to it; None keeps nothing."""

    def __init__(self, journal: Journal | None, authority: Authority) -> None:
        self.journal = journal
        self._authority = authority

    def note(self, event: str, connection: Publisher, detail: str) -> None:
        """Something about a connection; who the client says it is, where it has said so."""
        if self.journal is not None:
            self.journal.note(event, party_of(connection), detail)

    def client(self, event: str, credentials: Credentials, detail: str) -> None:
        """Something about a client that may be away."""
        if self.journal is not None:
            self.journal.note(event, party(credentials), detail)

    def stranger(self, address: str, listener: str, why: str) -> None:
        """A connection was refused before its first packet."""
        if self.journal is not None:
            self.journal.note("refused", Party(address=address, listener=listener), why)

    def denied(
        self,
        who: Credentials,
        action: Action,
        topic: str,
        qos: int,
        retain: bool = False,
        what: str = "",
    ) -> None:
        """A client may not do something; ``what`` is how that is called, where the action's name is not enough."""
        if self.journal is None:
            return
        if action is Action.PUBLISH and topic.split("/", 1)[0] == "$SYS":
            why = SYSTEM
        else:
            why = self._authority.why_not(who, action, topic, qos, retain)
        shown = repr(topic if len(topic) <= _LONGEST else topic[: _LONGEST - 1] + "…")
        flags = f"QoS {qos}, retain {int(retain)}" if action is Action.PUBLISH else f"QoS {qos}"
        self.journal.note("denied", party(who), f"{what or f'{action} to'} {shown}, {flags}: {why}")


def party_of(connection: Publisher) -> Party:
    """Who is at the other end, as far as it has said so."""
    shown = connection.credentials
    return party(shown) if shown is not None else stranger(connection.peer)


def stranger(peer: Peer) -> Party:
    """Whoever has not said yet who it is."""
    return Party(address=peer.address, listener=peer.listener)


def party(credentials: Credentials) -> Party:
    """Whoever has shown, or claimed, these credentials."""
    return Party(credentials.client_id, credentials.username, credentials.address, credentials.listener)
