"""Rows from what the node knows, and back."""

from __future__ import annotations

from typing import Any

from broker.message import Delivery, Message
from broker.ports import Credentials, SessionTerms, StoredWill
from broker.protocol.packets import Will
from broker.subscriptions import Held

Row = tuple[Any, ...]


def retained_row(message: Message) -> Row:
    """A retained message, or its deletion."""
    m = message
    return (m.topic, m.payload, m.qos, m.properties, m.expires_at, m.publisher, m.origin, m.stamp, m.user)


def retained_of(row: Row) -> Message:
    """See :func:`retained_row`."""
    topic, payload, qos, properties, expires_at, publisher, origin, stamp, user = row
    return Message(topic, payload, qos, True, properties, expires_at, publisher, origin, stamp, user)


def message_row(message: Message) -> Row:
    """A message that sessions are owed."""
    m = message
    return (
        *(m.key, m.topic, m.payload, m.qos, m.retain, m.properties, m.expires_at),
        *(m.publisher, m.origin, m.stamp, m.user),
    )


def message_of(row: Row) -> Message:
    """See :func:`message_row`."""
    key, topic, payload, qos, retain, properties, expires_at, publisher, origin, stamp, user = row
    message = Message(
        topic, payload, qos, bool(retain), properties, expires_at, publisher, origin, stamp, user
    )
    message.key = key
    return message


def delivery_row(session: int, delivery: Delivery) -> Row:
    """What a session is owed."""
    message, qos, retain, identifiers, number = delivery
    return (session, number, message.key, qos, retain, identifiers, len(message.payload), False)


def session_row(key: int, terms: SessionTerms, left_at: float) -> Row:
    """A session."""
    shown = terms.credentials
    return (
        *(key, terms.client_id, terms.version, terms.expiry, terms.window),
        *(shown.username, shown.address, shown.listener, terms.mount_point, left_at),
    )


def session_of(row: Row) -> tuple[int, SessionTerms, float]:
    """See :func:`session_row`."""
    key, client_id, version, expiry, window, username, address, listener, mount_point, left_at = row
    shown = Credentials(client_id, username, None, address, listener)
    return key, SessionTerms(client_id, version, expiry, window, shown, mount_point), left_at


def subscription_row(session: int, name: str, held: Held) -> Row:
    """A subscription."""
    return (
        *(session, name, held.topic_filter, held.qos, held.no_local),
        *(held.retain_as_published, held.identifier, held.group),
    )


def subscription_of(row: Row) -> tuple[str, Held]:
    """See :func:`subscription_row`."""
    _, name, topic_filter, qos, no_local, as_published, identifier, group = row
    return name, Held(topic_filter, qos, bool(no_local), bool(as_published), identifier, group)


def will_row(client_id: str, stored: StoredWill) -> Row:
    """A will whose time has not come."""
    will, shown, session_expiry, due = stored
    return (
        *(
            client_id,
            will.topic,
            will.payload,
            will.qos,
            will.retain,
            will.properties,
            will.delay,
            will.expiry,
        ),
        *(session_expiry, shown.username, shown.address, shown.listener, due),
    )


def will_of(row: Row) -> tuple[str, StoredWill]:
    """See :func:`will_row`."""
    client_id, topic, payload, qos, retain, properties, delay, expiry = row[:8]
    session_expiry, username, address, listener, due = row[8:]
    will = Will(topic, payload, qos, bool(retain), properties, delay, expiry)
    shown = Credentials(client_id, username, None, address, listener)
    return client_id, StoredWill(will, shown, session_expiry, due)
