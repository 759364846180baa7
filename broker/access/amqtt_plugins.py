"""amqtt's authentication and topic plugins, unchanged: loaded by amqtt's own manager, asked as amqtt's broker asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from amqtt.contexts import Action as AmqttAction
from amqtt.contexts import BaseContext
from amqtt.events import BrokerEvents
from amqtt.plugins.manager import PluginManager
from amqtt.session import Session

from broker.ports import Action, Certificate, Credentials

logger = logging.getLogger("geomq.access")

T = TypeVar("T")

_LOGGER = "geomq.amqtt"
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
    """The plugins named in a configuration: class by its full name -> that class's own configuration.

    They live on a thread and an event loop of their own: what a plugin does without awaiting it (hashing a
    password, asking a directory) holds up other logins, and no message.
    """

    def __init__(self, plugins: dict[str, dict[str, Any] | None]) -> None:
        self._plugins = plugins
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="amqtt-plugins", daemon=True)
        self._manager: PluginManager[BaseContext]
        self.authenticates = False
        self.authorizes = False

    async def start(self) -> None:
        """Load the plugins and let them prepare themselves; PluginsError where one cannot be used."""
        # They write down lines of password files, and what was wrong with a password.
        logging.getLogger(_LOGGER).setLevel(logging.ERROR)
        logging.getLogger("amqtt").setLevel(logging.WARNING)
        self._thread.start()
        try:
            await self._call(self._load())
        except PluginsError:
            self._stop_thread()
            raise
        self.authenticates = bool(self._manager._auth_plugins)
        self.authorizes = bool(self._manager._topic_plugins)

    async def _load(self) -> None:
        context = BaseContext()
        context.config = {"plugins": {name: config or {} for name, config in self._plugins.items()}}
        try:
            self._manager = PluginManager(_LOGGER, context)
            await self._manager.fire_event(BrokerEvents.PRE_START, wait=True)
        except Exception as error:
            # Whatever a plugin raises while it starts, the operator should read it in one line.
            raise PluginsError(_reasons(error)) from None

    async def close(self) -> None:
        """Let the plugins clean up."""
        with contextlib.suppress(Exception):
            await self._call(self._unload())
        self._stop_thread()

    async def _unload(self) -> None:
        await self._manager.fire_event(BrokerEvents.PRE_SHUTDOWN, wait=True)
        await self._manager.close()

    def _stop_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT)
        if not self._thread.is_alive():
            self._loop.close()

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the plugins' loop; TimeoutError where that takes too long."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await asyncio.wait_for(asyncio.wrap_future(future), _TIMEOUT)

    async def authenticate(self, credentials: Credentials) -> tuple[bool | None, Session]:
        """(True, False, or None where no plugin has a say; what topic plugins are asked with later)."""
        session = _session(credentials)
        try:
            answers = await self._call(self._manager.map_plugin_auth(session=session))
        except Exception as error:
            # A plugin may fail in any way; whatever it is, it did not say yes.
            logger.error("an authentication plugin failed: %s", type(error).__name__)
            return False, session
        said = [answer for answer in answers.values() if answer is not None]
        return (all(said) if said else None), session

    async def allows(self, credentials: Credentials, action: Action, topic: str) -> bool:
        """Whether all topic plugins say yes."""
        session = credentials.context if isinstance(credentials.context, Session) else _session(credentials)
        question = self._manager.map_plugin_topic(session=session, topic=topic, action=_ACTIONS[action])
        try:
            answers = await self._call(question)
        except Exception as error:
            # As for authentication: an answer that did not come is a no.
            logger.error("a topic plugin failed: %s", type(error).__name__)
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
