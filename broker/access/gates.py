"""Authorities of their own for some listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker.ports import Action, Authority, Credentials, Decision, Exchange


class Gates:
    """Asks the authority of the listener that a client came by."""

    def __init__(self, by_listener: Mapping[str, Authority]) -> None:
        self._by_listener = by_listener
        self.guards_delivery = any(authority.guards_delivery for authority in by_listener.values())

    def authenticate(self, credentials: Credentials, done: Callable[[Decision], None]) -> None:
        """See :class:`broker.ports.Authority`."""
        self._by_listener[credentials.listener].authenticate(credentials, done)

    def exchange(self, method: str, credentials: Credentials) -> Exchange | None:
        """See :class:`broker.ports.Authority`."""
        return self._by_listener[credentials.listener].exchange(method, credentials)

    def may_publish(self, credentials: Credentials, topic: str) -> int | None:
        """See :class:`broker.ports.Authority`."""
        return self._by_listener[credentials.listener].may_publish(credentials, topic)

    def may_subscribe(self, credentials: Credentials, topic_filter: str, qos: int) -> bool | None:
        """See :class:`broker.ports.Authority`."""
        return self._by_listener[credentials.listener].may_subscribe(credentials, topic_filter, qos)

    def revokes(self, credentials: Credentials, topic_filter: str, qos: int) -> bool:
        """See :class:`broker.ports.Authority`."""
        return self._by_listener[credentials.listener].revokes(credentials, topic_filter, qos)

    def may_receive(self, credentials: Credentials, topic: str) -> bool | None:
        """See :class:`broker.ports.Authority`."""
        return self._by_listener[credentials.listener].may_receive(credentials, topic)

    def why_not(self, credentials: Credentials, action: Action, topic: str, qos: int, retain: bool) -> str:
        """See :class:`broker.ports.Authority`."""
        return self._by_listener[credentials.listener].why_not(credentials, action, topic, qos, retain)

    def decide(self, credentials: Credentials, action: Action, topic: str, done: Callable[[], None]) -> None:
        """See :class:`broker.ports.Authority`."""
        self._by_listener[credentials.listener].decide(credentials, action, topic, done)
