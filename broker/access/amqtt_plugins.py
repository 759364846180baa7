"""amqtt's authentication and topic plugins, unchanged: each loaded by amqtt's own manager, asked as its broker asks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from amqtt.contexts import Action as AmqttAction
from amqtt.contexts import BaseContext
from amqtt.events import BrokerEvents
from amqtt.plugins.manager import PluginManager
from amqtt.session import Session

from broker.access.amqtt_loading import PluginsError, check_plugin, reason_of
from broker.access.amqtt_special import (
    CERT,
    JWT,
    LDAP,
    expired_token,
    stay_bound,
    unfit_for_cert,
    unfit_for_ldap,
)
from broker.ports import Action, Certificate, Credentials

logger = logging.getLogger("geomq.access")

T = TypeVar("T")
Combine = Literal["all", "any"]
Ask = Callable[["_Plugin"], Awaitable[bool | None]]

_LOGGER = "geomq.amqtt"
_TIMEOUT = 10.0
"""Seconds for which a plugin is waited for; then its answer is no."""
_GRACE = 1.0

_ACTIONS = {
    Action.PUBLISH: AmqttAction.PUBLISH,
    Action.SUBSCRIBE: AmqttAction.SUBSCRIBE,
    Action.RECEIVE: AmqttAction.RECEIVE,
}


class Login(NamedTuple):
    """What the plugins say about a client: None where none has a say. ``why`` tells the operator of a no."""

    answer: bool | None
    session: Session
    """What topic plugins are asked with later."""
    why: str = ""
    failed: bool = False
    """Whether the no is none of a plugin's own: those that had a say have failed."""


class Objection(NamedTuple):
    """Why not, in words for the operator, empty for no objection; ``failed`` as for :class:`Login`."""

    why: str
    failed: bool = False


class _Answer(NamedTuple):
    """What one plugin says, or all of them together: None for no say; ``failed`` as for :class:`Login`."""

    said: bool | None
    why: str = ""
    failed: bool = False


class _Plugin:
    """One plugin, and whether it works."""

    def __init__(self, name: str, manager: PluginManager[BaseContext]) -> None:
        self.name = name
        self.manager = manager
        (self.loaded,) = manager.plugins
        modules = {kind.__module__ for kind in type(self.loaded).__mro__}
        self.is_ldap = LDAP in modules
        self.is_jwt = JWT in modules
        self.is_cert = CERT in modules
        self._failure = ""

    def unfit(self, session: Session, login: bool) -> str:
        """Why it must not be asked about a client; empty where it may."""
        if self.is_ldap:
            return unfit_for_ldap(session, login)
        return unfit_for_cert(session) if self.is_cert else ""

    async def authenticate(self, session: Session) -> bool | None:
        (answer,) = (await self.manager.map_plugin_auth(session=session)).values()
        return None if answer is None else bool(answer)

    async def allows(self, session: Session, topic: str, action: AmqttAction) -> bool | None:
        question = self.manager.map_plugin_topic(session=session, topic=topic, action=action)
        (answer,) = (await question).values()
        return bool(answer)

    def failed(self, failure: str) -> None:
        """Tell when it begins to fail, and when it is over: not at each question."""
        if failure != self._failure:
            self._failure = failure
            if failure:
                logger.error("the plugin %s fails, which is a no: %s", self.name, failure)
            else:
                logger.warning("the plugin %s answers again", self.name)


class AmqttPlugins:
    """The plugins named in a configuration: class by its full name -> that class's own configuration.

    ``logins`` and ``topics`` say whether all authentication or topic plugins have to agree, or any is enough: then
    they are asked in their order until one says yes.

    They live on a thread and an event loop of their own: what a plugin does without awaiting it (hashing a
    password, asking a directory) holds up other logins, and no message.
    """

    def __init__(
        self,
        plugins: Mapping[str, dict[str, Any] | None],
        logins: Combine = "all",
        topics: Combine = "all",
    ) -> None:
        self._configured = plugins
        self._logins_need = logins
        self._topics_need = topics
        self._plugins: list[_Plugin] = []
        self._for_logins: list[_Plugin] = []
        self._for_topics: list[_Plugin] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="amqtt-plugins", daemon=True)

    @property
    def authenticates(self) -> bool:
        """Whether any of them is asked who a client is."""
        return bool(self._for_logins)

    @property
    def authorizes(self) -> bool:
        """Whether any of them is asked what a client may do."""
        return bool(self._for_topics)

    async def start(self) -> None:
        """Load the plugins and let them prepare themselves; PluginsError names the one that cannot be used."""
        # They write down lines of password files, and what was wrong with a password.
        logging.getLogger(_LOGGER).setLevel(logging.ERROR)
        logging.getLogger("amqtt").setLevel(logging.ERROR)
        self._thread.start()
        try:
            for name, config in self._configured.items():
                fitting = check_plugin(name, config)
                try:
                    await self._call(self._load(name, fitting), _TIMEOUT)
                except Exception as error:
                    # Whatever a plugin raises while it starts, the operator should read it in one line.
                    raise PluginsError(f"{name}: {reason_of(error, config)}") from None
        except PluginsError:
            self._stop_thread()
            raise

    async def _load(self, name: str, config: dict[str, Any]) -> None:
        context = BaseContext()
        context.config = {"plugins": {name: config}}
        plugin = _Plugin(name, PluginManager(_LOGGER, context))
        if plugin.is_ldap and hasattr(plugin.loaded, "conn"):
            stay_bound(plugin.loaded)
        await plugin.manager.fire_event(BrokerEvents.PRE_START, wait=True)
        self._plugins.append(plugin)
        if plugin.manager._auth_plugins:
            self._for_logins.append(plugin)
        if plugin.manager._topic_plugins:
            self._for_topics.append(plugin)

    async def close(self) -> None:
        """Let the plugins clean up."""
        with contextlib.suppress(Exception):
            await self._call(self._unload(), _TIMEOUT)
        self._stop_thread()

    async def _unload(self) -> None:
        for plugin in self._plugins:
            with contextlib.suppress(Exception):
                await plugin.manager.fire_event(BrokerEvents.PRE_SHUTDOWN, wait=True)
                await plugin.manager.close()

    def _stop_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT)
        if not self._thread.is_alive():
            self._loop.close()

    async def _call(self, work: Coroutine[Any, Any, T], patience: float) -> T:
        """Run something on the plugins' loop; TimeoutError where that takes longer than ``patience`` seconds."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await asyncio.wait_for(asyncio.wrap_future(future), patience)

    # -- asking ------------------------------------------------------------------------------------------

    async def authenticate(self, credentials: Credentials) -> Login:
        """Ask who a client is."""
        session = _session(credentials)

        async def ask(plugin: _Plugin) -> bool | None:
            return await plugin.authenticate(session)

        answer = await self._combined(self._for_logins, self._logins_need, session, ask, login=True)
        return Login(answer.said, session, answer.why, answer.failed)

    async def objection(self, credentials: Credentials, action: Action, topic: str) -> Objection:
        """Why a client may not do something."""
        session = credentials.context if isinstance(credentials.context, Session) else _session(credentials)
        # At the login the node had not given the client its identifier yet, if it brought none.
        session.client_id = credentials.client_id

        async def ask(plugin: _Plugin) -> bool | None:
            return await plugin.allows(session, topic, _ACTIONS[action])

        answer = await self._combined(self._for_topics, self._topics_need, session, ask, login=False)
        return Objection("") if answer.said else Objection(answer.why, answer.failed)

    async def _combined(
        self, asked: list[_Plugin], need: Combine, session: Session, ask: Ask, login: bool
    ) -> _Answer:
        """What they say together, and what speaks against it."""
        questions = (self._answer(plugin, session, ask, login) for plugin in asked)
        # One after the other may take each of them its time; a bit more, so that the one that is late is named.
        patience = _TIMEOUT * (len(asked) if need == "any" else 1) + _GRACE
        try:
            answers = await self._call(
                _until_yes(questions) if need == "any" else _every(questions), patience
            )
        except TimeoutError:
            # Only one that does not await what it waits for comes to this.
            return _Answer(False, f"no answer of {_names(asked)} within {patience:g} s", failed=True)
        said = [answer for answer in answers if answer.said is not None]
        if not said:
            return _Answer(None, f"no plugin knows the client: {_names(asked)}")
        verdict = (any if need == "any" else all)(answer.said for answer in said)
        against = [answer for answer in said if not answer.said]
        failed = not verdict and all(answer.failed for answer in against)
        return _Answer(verdict, "; ".join(answer.why for answer in against), failed)

    @staticmethod
    async def _answer(plugin: _Plugin, session: Session, ask: Ask, login: bool) -> _Answer:
        """One plugin's answer, and the words for a no."""
        unfit = plugin.unfit(session, login)
        if unfit:
            return _Answer(False, f"{plugin.name} is not asked: {unfit}")
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await ask(plugin)
        except Exception as error:
            # A plugin may fail in any way; whatever it is, it did not say yes. Its text may tell a secret.
            plugin.failed(type(error).__name__)
            return _Answer(False, f"{plugin.name} failed: {type(error).__name__}", failed=True)
        plugin.failed("")
        return _Answer(answer, "" if answer else plugin.name + " says no" + _more(plugin, session))


async def _every(questions: Any) -> list[_Answer]:
    return list(await asyncio.gather(*questions))


async def _until_yes(questions: Any) -> list[_Answer]:
    """The answers up to the first yes; who comes behind is not asked."""
    answers: list[_Answer] = []
    for question in questions:
        answers.append(await question)
        if answers[-1].said:
            break
    return answers


def _more(plugin: _Plugin, session: Session) -> str:
    expired = expired_token(session.password or "", time.time()) if plugin.is_jwt else ""
    return expired and f": {expired}"


def _names(plugins: list[_Plugin]) -> str:
    return ", ".join(plugin.name for plugin in plugins)


class _Session(Session):
    """A login as plugins see it: none equals another, whatever it holds, so that no answer is kept for the next one."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class _ShownCertificate:
    """The part of an SSL object that plugins look at."""

    def __init__(self, certificate: Certificate) -> None:
        self._der = certificate.der

    def getpeercert(self, binary_form: bool = False) -> bytes | dict[str, Any]:
        """The client's certificate, DER."""
        return self._der if binary_form else {}


def _session(credentials: Credentials) -> Session:
    session = _Session()
    session.client_id = credentials.client_id
    session.username = credentials.username
    if credentials.password is not None:
        session.password = credentials.password.decode("utf-8", "surrogateescape")
    session.remote_address = credentials.address
    session.is_anonymous = credentials.username is None
    if credentials.certificate is not None:
        session.ssl_object = _ShownCertificate(credentials.certificate)  # type: ignore[assignment]
    return session
