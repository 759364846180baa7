"""The authority of a node without users: whoever reaches a listener is let in."""

from __future__ import annotations

from collections.abc import Callable

from broker.ports import ALL_RIGHTS, Action, Credentials, Decision, Exchange


class Anonymous:
    """Everyone may connect, publish and subscribe.

    What keeps strangers out is the configuration: a listener that other machines reach is refused unless
    ``access.anonymous: everywhere`` asks for it.
    """

    def authenticate(self, credentials: Credentials, done: Callable[[Decision], None]) -> None:
        """Welcome every client at once."""
        done(Decision(0))

    def exchange(self, method: str, credentials: Credentials) -> Exchange | None:
        """No method: nobody has anything to prove."""
        return None

    guards_delivery = False

    def may_publish(self, credentials: Credentials, topic: str) -> int | None:
        """Any topic, in any way."""
        return ALL_RIGHTS

    def may_subscribe(self, credentials: Credentials, topic_filter: str, qos: int) -> bool | None:
        """Any filter."""
        return True

    def revokes(self, credentials: Credentials, topic_filter: str, qos: int) -> bool:
        """No subscription has to end."""
        return False

    def may_receive(self, credentials: Credentials, topic: str) -> bool | None:
        """Any topic."""
        return True

    def why_not(self, credentials: Credentials, action: Action, topic: str, qos: int, retain: bool) -> str:
        """Nothing is ever denied."""
        return "nothing denies this"

    def decide(self, credentials: Credentials, action: Action, topic: str, done: Callable[[], None]) -> None:
        """Nothing is ever undecided."""
        done()
