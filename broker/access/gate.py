"""Who may connect, and who may do what: users, SCRAM, certificates, amqtt's plugins, the access list, lock-outs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from broker.access.acl import Acl, AclError, read_acl
from broker.access.amqtt_plugins import AmqttPlugins, Objection
from broker.access.bans import NO_BANS, Bans
from broker.access.files import Watched
from broker.access.scram import ScramExchange
from broker.access.users import SCRAM, User, UsersError, read_users, verify
from broker.ports import ALL_RIGHTS, LOCAL, Action, Credentials, Decision, Exchange, Step
from broker.protocol.constants import Reason

logger = logging.getLogger("geomq.access")

_WORKERS = 1
"""Passwords that are checked at a time: each takes 20 MB and some 20 ms of a core."""

_NICE = 10
"""By how much messages come before passwords."""

_MANY_ANSWERS = 100_000
_LOCKED = "locked out after too many failed logins"
_LOCKED_OUT = Decision(Reason.BANNED, why=_LOCKED)

Question = tuple[Credentials, Action, str]
"""Who asks, action, topic. The credentials are those of one login: what was allowed to a token is for no other."""


class Gate:
    """The authority of a node.

    ``anonymous`` are the listeners that ask for no credentials. A certificate's name, where the listener reads
    one, is who the client is. Else a user of the users file is known by its password; anybody else is up to
    amqtt's plugins. Files that are wrong raise UsersError or AclError at the start; later they are told in the
    log, and everything stays as it was. ``bans`` may be shared with other gates; ``scope`` tells this one's users
    from theirs, in lock-outs.
    """

    def __init__(
        self,
        users: Path | None = None,
        acl: Path | None = None,
        plugins: AmqttPlugins | None = None,
        anonymous: Collection[str] = (),
        bans: Bans | None = None,
        plugin_cache: float = 60.0,
        scope: str = "",
    ) -> None:
        self._anonymous = anonymous
        self._plugins = plugins
        self._bans = bans or Bans(NO_BANS)
        self._scope = scope
        self._users: dict[str, User] = read_users(users) if users is not None else {}
        self._users_file = Watched(users) if users is not None else None
        self._acl: Acl | None = read_acl(acl) if acl is not None else None
        self._acl_file = Watched(acl) if acl is not None else None
        self._workers = ThreadPoolExecutor(_WORKERS, "password", initializer=_yield_to_messages)
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Semaphore(_WORKERS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._objections: dict[Question, Objection] = {}
        """What plugins have been asked -> what speaks against it."""
        self._cache = plugin_cache
        self._forget_at = self._loop.time() + plugin_cache
        self._asks_plugins = plugins is not None and plugins.authorizes
        self.guards_delivery = self._acl is not None or self._asks_plugins

    # -- time --------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read changed files again, and forget old answers; whether rights may have changed. About once a second."""
        changed = False
        if self._users_file is not None and self._users_file.changed():
            self._read_users(self._users_file.path)
        if self._acl_file is not None and self._acl_file.changed():
            changed = self._read_acl(self._acl_file.path)
        if self._asks_plugins and self._loop.time() >= self._forget_at:
            self._forget_at = self._loop.time() + self._cache
            changed = changed or bool(self._objections)
            self._objections.clear()
        return changed

    def _read_users(self, path: Path) -> None:
        try:
            self._users = read_users(path)
        except UsersError as error:
            logger.error("the users stay as they were: %s", error)
        else:
            logger.info("%s: %d users", path, len(self._users))

    def _read_acl(self, path: Path) -> bool:
        try:
            self._acl = read_acl(path)
        except AclError as error:
            logger.error("the access list stays as it was: %s", error)
            return False
        logger.info("%s: %d rules", path, len(self._acl.rules))
        return True

    async def close(self) -> None:
        """Check no more passwords, ask no more plugins."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        for task in self._tasks:
            task.cancel()
        if self._plugins is not None:
            await self._plugins.close()

    # -- who may connect ---------------------------------------------------------------------------------

    def authenticate(self, credentials: Credentials, done: Callable[[Decision], None]) -> None:
        """Decide on a CONNECT; passwords and plugins are asked off the data path."""
        certificate = credentials.certificate
        if certificate is not None and certificate.name is not None:
            done(Decision(0, certificate.name))
            return
        if self._is_locked_out(credentials):
            done(_LOCKED_OUT)
            return
        if credentials.username is None and not self._asks_plugins_for_logins():
            done(self._as_anonymous(credentials))
            return
        task = self._loop.create_task(self._authenticate(credentials, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _authenticate(self, credentials: Credentials, done: Callable[[Decision], None]) -> None:
        decision = await self._verdict(credentials)
        # Many at once are all asked about before the first has failed: what comes behind tells a guesser nothing.
        locked = self._is_locked_out(credentials)
        done(_LOCKED_OUT if locked else self._noted(credentials, decision))

    def _is_locked_out(self, credentials: Credentials) -> bool:
        return self._bans.banned(self._keys(credentials), credentials.listener, self._loop.time())

    async def _verdict(self, credentials: Credentials) -> Decision:
        name = credentials.username
        if name is not None and (name in self._users or not self._asks_plugins_for_logins()):
            user = self._users.get(name)
            password = credentials.password or b""
            async with self._turn:
                if self._is_locked_out(credentials):
                    return _LOCKED_OUT
                is_right = await self._loop.run_in_executor(self._workers, verify, user, password)
            if is_right:
                return Decision(0)
            # The client cannot tell these apart, neither by the answer nor by the time it takes.
            why = "unknown user" if user is None else "wrong password"
            return Decision(Reason.BAD_USER_NAME_OR_PASSWORD, why=why)
        assert self._plugins is not None
        login = await self._plugins.authenticate(credentials)
        if login.answer:
            return Decision(0, context=login.session)
        if name is None and login.answer is None:
            return self._as_anonymous(credentials)
        if login.failed:
            return Decision(Reason.SERVER_UNAVAILABLE, why=login.why)
        reason = Reason.NOT_AUTHORIZED if name is None else Reason.BAD_USER_NAME_OR_PASSWORD
        return Decision(reason, why=login.why)

    def _asks_plugins_for_logins(self) -> bool:
        return self._plugins is not None and self._plugins.authenticates

    def _as_anonymous(self, credentials: Credentials) -> Decision:
        if credentials.listener in self._anonymous:
            return Decision(0)
        unread = " (the client's certificate has none that is read here)" if credentials.certificate else ""
        return Decision(Reason.NOT_AUTHORIZED, why=f"no user name, and this listener asks for one{unread}")

    def _noted(self, credentials: Credentials, decision: Decision) -> Decision:
        """Remember how a login ended."""
        keys = self._keys(credentials)
        if decision.reason == 0:
            self._bans.succeeded(keys)
        elif decision.reason != Reason.SERVER_UNAVAILABLE:
            # Nobody has guessed wrongly where nobody could tell: else a directory's outage would lock everybody out.
            for key in self._bans.failed(keys, credentials.listener, self._loop.time()):
                logger.warning("too many failed logins: %s is locked out", key)
        return decision

    def _keys(self, credentials: Credentials) -> list[str]:
        """What failed logins are counted by: the address for all gates together, the user for this one's."""
        # All clients of a Unix socket have the same address: none of them should be locked out by another.
        keys = [] if credentials.address == LOCAL else [f"address {credentials.address}"]
        if credentials.username is not None:
            keys.append(f"user {credentials.username!r}{self._scope}")
        return keys

    def exchange(self, method: str, credentials: Credentials) -> Exchange | None:
        """SCRAM-SHA-256, where any user has a verifier for it and the address is not locked out."""
        if method != SCRAM or not any(user.scram for user in self._users.values()):
            return None
        return _Watched(self, credentials, ScramExchange(self._users))

    def exchanged(self, credentials: Credentials, step: Step) -> Step:
        """An exchange ended, rightly or not."""
        keys = self._keys(credentials._replace(username=step.username))
        if self._bans.banned(keys, credentials.listener, self._loop.time()):
            return Step(b"", reason=Reason.BANNED, username=step.username, why=_LOCKED)
        self._noted(credentials._replace(username=step.username), Decision(step.reason))
        return step

    @property
    def users(self) -> dict[str, User]:
        """The users as they are known now."""
        return self._users

    # -- who may do what ---------------------------------------------------------------------------------

    def may_publish(self, credentials: Credentials, topic: str) -> int | None:
        """See :class:`broker.ports.Authority`."""
        rights = self._acl.rights(credentials, topic) if self._acl is not None else ALL_RIGHTS
        if rights and self._asks_plugins:
            objection = self._objections.get((credentials, Action.PUBLISH, topic))
            return None if objection is None else 0 if objection.why else rights
        return rights

    def may_subscribe(self, credentials: Credentials, topic_filter: str, qos: int) -> bool | None:
        """See :class:`broker.ports.Authority`."""
        return self._may(credentials, Action.SUBSCRIBE, topic_filter, qos)

    def revokes(self, credentials: Credentials, topic_filter: str, qos: int) -> bool:
        """See :class:`broker.ports.Authority`. A plugin that fails, as its server is down, ends no subscription."""
        action = Action.SUBSCRIBE
        if self._acl is not None and not self._acl.verdict(credentials, action, topic_filter, qos).allowed:
            return True
        objection = self._objections.get((credentials, action, topic_filter))
        return objection is not None and bool(objection.why) and not objection.failed

    def may_receive(self, credentials: Credentials, topic: str) -> bool | None:
        """See :class:`broker.ports.Authority`."""
        return self._may(credentials, Action.RECEIVE, topic, 0)

    def _may(self, credentials: Credentials, action: Action, topic: str, qos: int) -> bool | None:
        if self._acl is not None and not self._acl.verdict(credentials, action, topic, qos).allowed:
            return False
        if not self._asks_plugins:
            return True
        objection = self._objections.get((credentials, action, topic))
        return None if objection is None else not objection.why

    def why_not(self, credentials: Credentials, action: Action, topic: str, qos: int, retain: bool) -> str:
        """See :class:`broker.ports.Authority`."""
        if self._acl is not None:
            verdict = self._acl.verdict(credentials, action, topic, qos, retain)
            if not verdict.allowed:
                return self._acl.told(verdict)
        objection = self._objections.get((credentials, action, topic))
        return (objection and objection.why) or "no longer denied"

    def decide(self, credentials: Credentials, action: Action, topic: str, done: Callable[[], None]) -> None:
        """Ask amqtt's topic plugins."""
        task = self._loop.create_task(self._decide(credentials, action, topic, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _decide(
        self, credentials: Credentials, action: Action, topic: str, done: Callable[[], None]
    ) -> None:
        assert self._plugins is not None
        objection = await self._plugins.objection(credentials, action, topic)
        if len(self._objections) >= _MANY_ANSWERS:
            del self._objections[next(iter(self._objections))]
        self._objections[(credentials, action, topic)] = objection
        done()


class _Watched:
    """An exchange whose end the gate takes note of."""

    def __init__(self, gate: Gate, credentials: Credentials, exchange: Exchange) -> None:
        self._gate = gate
        self._credentials = credentials
        self._exchange = exchange

    def answer(self, data: bytes) -> Step:
        """See :class:`broker.ports.Exchange`."""
        step = self._exchange.answer(data)
        return self._gate.exchanged(self._credentials, step) if step.done or step.reason else step


def _yield_to_messages() -> None:
    """Let a thread run where the event loop needs no core; where threads have no priority, nothing."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
