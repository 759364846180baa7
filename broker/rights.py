"""What the authority has to say about subscriptions and deliveries, and what waits until it has said it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from broker.message import Message
from broker.ports import Action, Credentials
from broker.protocol.packets import Subscribe
from broker.protocol.topics import matches, split_share
from broker.session import Session
from broker.subscriptions import Held, Receiver, ShareGroup

if TYPE_CHECKING:
    from broker.connection import Connection
    from broker.engine import Engine


class Rights:
    """The authority, as the engine asks it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._deferred: dict[str, list[tuple[Receiver | ShareGroup, Message]]] = {}
        """Topic -> what waits for the authority's word on some of its receivers."""

    def permits(self, session: Session, topic: str) -> bool | None:
        """Whether a session may get a topic; None where the authority has to be asked."""
        credentials = session.credentials
        return credentials is not None and self._engine.authority.may_receive(credentials, topic)

    def must_ask(self, connection: Connection, packet: Subscribe, ask: Callable[[Action, str], None]) -> bool:
        """Whether the authority has to be asked about a filter first; ``ask`` is called for the first such."""
        assert connection.credentials is not None
        for asked in packet.subscriptions:
            topic_filter = connection.peer.mount_point + split_share(asked.topic_filter)[1]
            if self._engine.authority.may_subscribe(connection.credentials, topic_filter, asked.qos) is None:
                ask(Action.SUBSCRIBE, topic_filter)
                return True
        return False

    def must_wait(self, group: ShareGroup, topic: str) -> bool:
        """Whether a message has to wait: for word on a member, or behind others of its topic."""
        return topic in self._deferred or any(self.permits(member, topic) is None for member in group.members)

    def defer(self, receiver: Receiver | ShareGroup, message: Message) -> None:
        """Keep a message, behind those of its topic that wait already, until its receivers are decided on."""
        waiting = self._deferred.get(message.topic)
        if waiting is None:
            self._deferred[message.topic] = [(receiver, message)]
            self._ask_next(message.topic)
        else:
            waiting.append((receiver, message))

    def _ask_next(self, topic: str) -> None:
        """Ask about the first receiver of a topic that is undecided; when all are, deliver what waited."""
        for receiver, _ in self._deferred[topic]:
            for session in _sessions_of(receiver):
                if self.permits(session, topic) is None and session.credentials is not None:
                    answered = partial(self._ask_next, topic)
                    self._engine.authority.decide(session.credentials, Action.RECEIVE, topic, answered)
                    return
        waiting = self._deferred.pop(topic)
        self._engine.subscriptions.invalidate(topic)
        now = self._engine.roster.now + self._engine.wall_offset
        for receiver, message in waiting:
            for session in _sessions_of(receiver):
                if not self.permits(session, topic):
                    self._engine.stats.receive_denied += isinstance(receiver, Receiver)
                    self._doubt(session, topic)
            if isinstance(receiver, ShareGroup):
                self._engine.deliver_to_group(receiver, message, now)
            elif self.permits(receiver.session, topic):
                self._engine.deliver_to(receiver, message, now)
        self._engine.flush()

    def ask_for_retained(self, receiver: Receiver, message: Message) -> None:
        """Deliver a retained message to a new subscription if the authority then allows it."""
        session = receiver.session

        def answered() -> None:
            if self.permits(session, message.topic):
                qos = min(receiver.qos, message.qos)
                session.deliver(
                    message, qos, True, receiver.extra, self._engine.roster.now + self._engine.wall_offset
                )
                self._engine.flush()
            else:
                self._engine.stats.receive_denied += 1
                self._doubt(session, message.topic)

        if session.credentials is not None:
            self._engine.authority.decide(session.credentials, Action.RECEIVE, message.topic, answered)

    def _doubt(self, session: Session, topic: str) -> None:
        """End the subscriptions that brought a topic which may not be had, where they are no longer allowed either.

        A token that runs out tells nobody: what it no longer lets through is the first sign.
        """
        credentials = session.credentials
        if credentials is None:
            return
        for name, held in list(session.subscriptions.items()):
            if not matches(held.topic_filter, topic):
                continue
            if self._engine.authority.may_subscribe(credentials, held.topic_filter, held.qos) is None:
                answered = partial(self._end_if_revoked, session, name, held)
                self._engine.authority.decide(credentials, Action.SUBSCRIBE, held.topic_filter, answered)
            else:
                self._end_if_revoked(session, name, held)

    def _end_if_revoked(self, session: Session, name: str, held: Held) -> None:
        """End a subscription that the authority revokes, if the session has it still."""
        credentials = session.credentials
        if credentials is None or session.subscriptions.get(name) is not held:
            return
        if self._engine.authority.revokes(credentials, held.topic_filter, held.qos):
            del session.subscriptions[name]
            if session.disk is not None:
                session.disk.unsubscribe(name)
            self._engine.release(session, held)
            self.ended(credentials, held)

    def ended(self, credentials: Credentials, held: Held) -> None:
        """Tell operators that a subscription is no longer allowed."""
        self._engine.stats.subscribe_denied += 1
        what = "the subscription that it had to"
        self._engine.audit.denied(credentials, Action.SUBSCRIBE, held.topic_filter, held.qos, what=what)

    def changed(self) -> None:
        """The authority answers otherwise than before: forget its answers, and end what is no longer allowed.

        Sessions whose right to a filter is not known at once keep it until a delivery, which is asked about, is denied.
        """
        for connection in self._engine.roster.connections():
            connection.forget_rights()
        for session in self._engine.roster:
            for name, held in list(session.subscriptions.items()):
                self._end_if_revoked(session, name, held)
        self._engine.subscriptions.invalidate_all()


def _sessions_of(receiver: Receiver | ShareGroup) -> list[Session]:
    """Those that a message may go to."""
    return list(receiver.members) if isinstance(receiver, ShareGroup) else [receiver.session]
