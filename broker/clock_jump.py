"""What to do when the system's clock is set: expiry is a span of time, and the span stays what it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.message import Message
from broker.session import Session

JUMP = 5.0
"""Seconds by which the wall clock and a clock that never jumps have to part at once to make it a jump."""


def shift(messages: Iterable[Message], by: float) -> None:
    """Move the expiry of each message once, however often it is met."""
    seen: set[int] = set()
    for message in messages:
        if message.expires_at and id(message) not in seen:
            seen.add(id(message))
            message.expires_at += by


def owed(sessions: Iterable[Session]) -> Iterator[Message]:
    """The messages that sessions have in memory."""
    for session in sessions:
        for delivery in session.inflight.values():
            if delivery is not None:
                yield delivery[0]
        for delivery in session.queue.in_memory():
            yield delivery[0]
