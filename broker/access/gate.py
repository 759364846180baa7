"""Who may connect: users with passwords, SCRAM, and where it is allowed clients that show nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from broker.access.scram import ScramExchange
from broker.access.users import SCRAM, User, UsersError, read_users, verify
from broker.ports import Credentials, Decision, Exchange
from broker.protocol.constants import Reason

logger = logging.getLogger("geomq.access")

_WORKERS = 2
"""Passwords that are checked at a time: each takes 20 MB and some 20 ms of a core."""


class Gate:
    """The authority of a node with a users file. ``anonymous`` are the listeners that ask for no credentials.

    Everyone who is let in may publish and subscribe. UsersError where the file cannot be used at the start;
    later, a file that is wrong is told in the log and the users stay as they were.
    """

    def __init__(self, users: Path, anonymous: Collection[str]) -> None:
        self._path = users
        self._anonymous = anonymous
        self._users = read_users(users)
        self._stamp = _stamp(users)
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="password")

    def refresh(self) -> None:
        """Read the file again where it has changed. Called about once a second."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._users = read_users(self._path)
        except UsersError as error:
            logger.error("the users stay as they were: %s", error)
        else:
            logger.info("%s: %d users", self._path, len(self._users))

    def close(self) -> None:
        """Check no more passwords."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def authenticate(self, credentials: Credentials, done: Callable[[Decision], None]) -> None:
        """Check a password off the event loop; who shows none is welcome where that is allowed."""
        username, password = credentials.username, credentials.password
        if username is None:
            welcome = credentials.listener in self._anonymous
            done(Decision(0 if welcome else Reason.NOT_AUTHORIZED))
            return
        loop = asyncio.get_running_loop()
        checked = loop.run_in_executor(self._workers, verify, self._users.get(username), password or b"")
        checked.add_done_callback(lambda future: _tell(future, done))

    def exchange(self, method: str, credentials: Credentials) -> Exchange | None:
        """SCRAM-SHA-256, where any user has a verifier for it."""
        offered = method == SCRAM and any(user.scram for user in self._users.values())
        return ScramExchange(self._users) if offered else None

    def may_publish(self, credentials: Credentials, topic: str) -> bool:
        """Any topic."""
        return True

    def may_subscribe(self, credentials: Credentials, topic_filter: str, qos: int) -> bool:
        """Any filter."""
        return True

    @property
    def users(self) -> dict[str, User]:
        """The users as they are known now."""
        return self._users


def _tell(future: asyncio.Future[bool], done: Callable[[Decision], None]) -> None:
    if future.cancelled():
        return
    right = future.exception() is None and future.result()
    done(Decision(0 if right else Reason.BAD_USER_NAME_OR_PASSWORD))


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written or replaced."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)
