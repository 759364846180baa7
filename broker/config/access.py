"""What a configuration may say about who may connect, and do what."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from broker.config.base import FilePath, Section
from broker.config.units import Duration


class AccessSection(Section):
    """Who may connect, and who may publish and subscribe to what."""

    anonymous: Literal["loopback", "everywhere", "nowhere"] = Field(
        "loopback",
        description="Where clients need no credentials: on listeners that only this machine reaches, on every "
        "listener, or on none.",
    )
    users: FilePath | None = Field(
        None, description="The users file, written by `geomq user`; a change counts within a second."
    )
    acl: FilePath | None = Field(
        None,
        description="The access list: without one, everybody may do everything; with one, only what it allows.",
    )
    amqtt: dict[str, dict[str, Any] | None] = Field(
        default_factory=dict,
        description="amqtt's authentication and topic plugins by their full name, with their own configuration "
        "beneath.",
    )
    amqtt_logins: Literal["all", "any"] = Field(
        "all",
        description="Which authentication plugins have to let a client in: all that have a say, or any: they are then "
        "asked in their order until one says yes.",
    )
    amqtt_topics: Literal["all", "any"] = Field(
        "all", description="Which topic plugins have to allow a topic: all, or any, as for `amqtt_logins`."
    )
    plugin_cache: Duration = Field(
        60.0, description="How long the decisions of topic plugins are kept for a login and topic."
    )

    @property
    def asks_for_credentials(self) -> bool:
        """Whether there is anybody who could know a user."""
        return self.users is not None or any(_knows_users(name) for name in self.amqtt)


def _knows_users(plugin: str) -> bool:
    """Whether a plugin of amqtt may refuse somebody for want of credentials."""
    return not plugin.endswith(".AnonymousAuthPlugin") and ".topic_checking." not in plugin
