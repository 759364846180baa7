"""Clients that are connected and cannot take what comes as fast as it comes: what waits at another node waits there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from broker.session import Session

_PATIENCE = 5.0
"""Seconds after which nobody waits any more for a client that takes nothing at all."""


class _Progress(NamedTuple):
    least: int
    """The shortest that the queue has been."""
    at: float


class Crowd:
    """Sessions whose queue is more than half full. ``now`` is in seconds of any clock that does not jump.

    A client that is away is not waited for: its queue is there for that, within its bounds.
    """

    def __init__(self) -> None:
        self._sessions: dict[Session, _Progress] = {}

    def note(self, sessions: Iterable[Session], now: float) -> None:
        """These have just been given messages."""
        for session in sessions:
            if session not in self._sessions and _is_crowded(session):
                self._sessions[session] = _Progress(len(session.queue), now)

    def is_waited_for(self, now: float) -> bool:
        """Whether one of them is taking what it has."""
        waited_for = False
        for session, (least, at) in list(self._sessions.items()):
            if not _is_crowded(session):
                del self._sessions[session]
                continue
            length = len(session.queue)
            if length < least:
                self._sessions[session] = _Progress(length, now)
            waited_for = waited_for or length < least or now - at < _PATIENCE
        return waited_for


def _is_crowded(session: Session) -> bool:
    if session.connection is None:
        return False
    queue, limits = session.queue, session.limits
    return 2 * len(queue) > limits.queue_max_messages or 2 * queue.bytes > limits.queue_max_bytes
