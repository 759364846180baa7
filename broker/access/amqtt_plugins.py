"""amqtt's authentication and topic plugins, unchanged: loaded by amqtt's own manager, asked as amqtt's broker asks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from amqtt.contexts import Action as AmqttAction
from amqtt.contexts import BaseContext
from amqtt.errors import AMQTTError, PluginError
from amqtt.events import BrokerEvents
from amqtt.plugins.manager import PluginManager
from amqtt.session import Session

from broker.ports import Action, Certificate, Credentials

logger = logging.getLogger("geomq.access")

_TIMEOUT = 10.0
"""Seconds for which a plugin is waited for; then its answer is no."""

_ACTIONS = {
    Action.PUBLISH: AmqttAction.PUBLISH,
    Action.SUBSCRIBE: AmqttAction.SUBSCRIBE,
    Action.RECEIVE: AmqttAction.RECEIVE,
}


class PluginsError(Exception):
    """Why plugins cannot be used, in words for the operator."""


class AmqttPlugins:
    """The plugins named in a configuration: class by its full name -> that class's own configuration."""

    def __init__(self, plugins: dict[str, dict[str, Any] | None]) -> None:
        context = BaseContext()
        context.config = {"plugins": {name: config or {} for name, config in plugins.items()}}
        try:
            self._manager: PluginManager[BaseContext] = PluginManager("geomq.amqtt", context)
        except (PluginError, AMQTTError, TypeError, ValueError, OSError) as error:
            raise PluginsError(_reasons(error)) from None
        self.authenticates = bool(self._manager._auth_plugins)
        self.authorizes = bool(self._manager._topic_plugins)

    async def start(self) -> None:
        """Let the plugins prepare themselves."""
        await self._manager.fire_event(BrokerEvents.PRE_START, wait=True)

    async def close(self) -> None:
        """Let the plugins clean up."""
        await self._manager.fire_event(BrokerEvents.PRE_SHUTDOWN, wait=True)
        await self._manager.close()

    async def authenticate(self, credentials: Credentials) -> tuple[bool | None, Session]:
        """(True, False, or None where no plugin has a say; what topic plugins are asked with later)."""
        session = _session(credentials)
        try:
            async with asyncio.timeout(_TIMEOUT):
                answers = await self._manager.map_plugin_auth(session=session)
        except Exception as error:
            # A plugin may fail in any way; whatever it is, it did not say yes.
            logger.error("an authentication plugin failed: %s: %s", type(error).__name__, error)
            return False, session
        said = [answer for answer in answers.values() if answer is not None]
        return (all(said) if said else None), session

    async def allows(self, credentials: Credentials, action: Action, topic: str) -> bool:
        """Whether all topic plugins say yes."""
        session = credentials.context if isinstance(credentials.context, Session) else _session(credentials)
        try:
            async with asyncio.timeout(_TIMEOUT):
                answers = await self._manager.map_plugin_topic(
                    session=session, topic=topic, action=_ACTIONS[action]
                )
        except Exception as error:
            # As for authentication: an answer that did not come is a no.
            logger.error("a topic plugin failed: %s: %s", type(error).__name__, error)
            return False
        return all(answers.values())


class _ShownCertificate:
    """The part of an SSL object that plugins look at."""

    def __init__(self, certificate: Certificate) -> None:
        self._der = certificate.der

    def getpeercert(self, binary_form: bool = False) -> bytes | dict[str, Any]:
        """The client's certificate, DER."""
        return self._der if binary_form else {}


def _session(credentials: Credentials) -> Session:
    session = Session()
    session.client_id = credentials.client_id
    session.username = credentials.username
    if credentials.password is not None:
        session.password = credentials.password.decode("utf-8", "surrogateescape")
    session.remote_address = credentials.address
    session.is_anonymous = credentials.username is None
    if credentials.certificate is not None:
        session.ssl_object = _ShownCertificate(credentials.certificate)  # type: ignore[assignment]
    return session


def _reasons(error: BaseException) -> str:
    """What an error says, and what caused it: amqtt's own says the class only."""
    parts = [str(error) or type(error).__name__]
    cause = error.__cause__
    if cause is not None:
        parts.append(str(cause) or type(cause).__name__)
    return ": ".join(parts)
