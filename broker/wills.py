"""Will messages: from what CONNECT carried to the message that is published."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from broker.message import Message, once
from broker.ports import Action, StoredWill, right
from broker.protocol.packets import Will
from broker.timers import Agenda

if TYPE_CHECKING:
    from broker.connection import Connection
    from broker.engine import Engine


def will_message(stored: StoredWill, now: float) -> Message:
    """The will as a message published at ``now`` (wall-clock seconds), from when its expiry counts."""
    will = stored.will
    expires_at = now + will.expiry if will.expiry else 0.0
    client = stored.credentials
    message = Message(
        *(will.topic, will.payload, will.qos, will.retain, will.properties, expires_at),
        publisher=client.client_id,
        user=client.username or "",
    )
    # It ends as a will, and is on its way, in one transaction: a crash must not have it come twice, or never.
    return once(message, None, 0) if will.qos else message


def will_delay(will: Will, session_expiry: int) -> int:
    """Seconds to wait before publishing: the delay, or until the session ends if sooner [MQTT5 3.1.3.2.2]."""
    return min(will.delay, session_expiry)


class Wills:
    """The wills of clients, connected or gone. ``now`` is in seconds of the event loop's clock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: Agenda[str, StoredWill] = Agenda()
        self._given: dict[str, StoredWill] = {}
        """The wills of clients that are connected."""

    def given(self, client_id: str, will: Will | None, connection: Connection) -> None:
        """The client is here, with a will or without; one that still waited is not due any more [MQTT-3.1.3-9]."""
        waited = self._waiting.cancel(client_id)
        if will is None:
            if waited is not None:
                self._forget(client_id)
            return
        assert connection.credentials is not None
        assert connection.session is not None
        will = will._replace(topic=connection.peer.mount_point + will.topic)
        stored = StoredWill(will, connection.credentials, connection.session.expiry, 0.0)
        self._given[client_id] = stored
        self._keep(client_id, stored)

    def client_left(self, client_id: str, is_due: bool, session_expiry: int, now: float) -> None:
        """The connection ended; ``is_due`` unless the client took its leave [MQTT-3.1.2-8], [MQTT-3.1.2-10]."""
        stored = self._given.pop(client_id, None)
        if stored is None:
            return
        delay = will_delay(stored.will, session_expiry)
        if not is_due:
            self._forget(client_id)
        elif delay:
            stored = stored._replace(
                session_expiry=session_expiry, due=now + delay + self._engine.wall_offset
            )
            self._keep(client_id, stored)
            self._waiting.put(client_id, stored, now + delay)
        else:
            self._publish(client_id, stored, now)

    def session_ended(self, client_id: str, now: float) -> None:
        """The will of a session that is over has waited long enough [MQTT-3.1.3-9]."""
        stored = self._waiting.cancel(client_id)
        if stored is not None:
            self._publish(client_id, stored, now)

    def restore(self, client_id: str, stored: StoredWill, now: float) -> None:
        """Take back a will that an earlier process kept."""
        delay = will_delay(stored.will, stored.session_expiry)
        # However the clock was set meanwhile, it waits no longer than was agreed.
        left = min(stored.due - now - self._engine.wall_offset, delay)
        self._waiting.put(client_id, stored, now + left)

    def tick(self, now: float) -> None:
        """Publish what is due."""
        for stored in self._waiting.due(now):
            self._publish(stored.credentials.client_id, stored, now)

    def _publish(self, client_id: str, stored: StoredWill, now: float) -> None:
        will, credentials = stored.will, stored.credentials
        authority = self._engine.authority
        if will.topic.split("/", 1)[0] == "$SYS":
            rights: int | None = 0
        else:
            rights = authority.may_publish(credentials, will.topic)
        if rights is None:
            answered = partial(self._publish_if_allowed, client_id, stored)
            authority.decide(credentials, Action.PUBLISH, will.topic, answered)
            return
        self._forget(client_id)
        if rights & right(will.qos, will.retain):
            self._engine.publish_one(will_message(stored, now + self._engine.wall_offset), now)
        else:
            self._engine.audit.denied(
                credentials, Action.PUBLISH, will.topic, will.qos, will.retain, "the will on"
            )

    def _publish_if_allowed(self, client_id: str, stored: StoredWill) -> None:
        self._publish(client_id, stored, self._engine.roster.now)
        self._engine.flush()

    def _keep(self, client_id: str, stored: StoredWill) -> None:
        if self._engine.store is not None:
            self._engine.store.will(client_id, stored)

    def _forget(self, client_id: str) -> None:
        # A client that is back already may have given a new one.
        if self._engine.store is not None and client_id not in self._given:
            self._engine.store.will(client_id, None)
