"""Where a connection stands, and why nothing is read from it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntFlag
from typing import Protocol

from broker.ports import Transport


class State(Enum):
    """Where a connection stands."""

    NEW = "not yet accepted"
    OPEN = "open"
    HELD = "open, and its next packet waits for the authority, or for room"
    CLOSED = "closed"


class Pause(IntFlag):
    """Why nothing is read from a client."""

    AUTHENTICATION = 1
    ACKNOWLEDGEMENTS = 2
    RIGHTS = 4
    RATE = 8
    TURN = 16


class Turn(Protocol):
    """Something that goes on with its work when its turn comes."""

    def take_turn(self, now: float) -> None:
        """Do a part of what is left."""


class Valve:
    """Whether anything is read from a client: not as long as there is a reason against it."""

    __slots__ = ("_reasons", "_transport")

    def __init__(self, transport: Transport) -> None:
        self._transport: Transport | None = transport
        self._reasons = 0

    def let_go(self) -> None:
        """The transport is gone: there is nothing to read from any more."""
        self._transport = None

    @property
    def is_shut(self) -> bool:
        """Whether nothing is read now: the client's silence says nothing."""
        return bool(self._reasons)

    @property
    def throttled(self) -> bool:
        """Whether the client has sent more than its rate allows."""
        return bool(self._reasons & Pause.RATE)

    def pause(self, reason: Pause) -> None:
        """Read nothing more until the reason is gone."""
        if not self._reasons and self._transport is not None:
            self._transport.pause_reading()
        self._reasons |= reason

    def resume(self, reason: Pause) -> None:
        """The reason is gone; there may be others."""
        if self._reasons & reason:
            self._reasons &= ~reason
            if not self._reasons and self._transport is not None:
                self._transport.resume_reading()


class Turns:
    """Connections that have more to do than one turn allows, in the order in which they come to it.

    ``wake`` is called when there is something to do and nobody has been told: it should have
    :meth:`broker.engine.Engine.take_turns` called soon, after what else has happened meanwhile.
    """

    __slots__ = ("_told", "_waiting", "wake")

    def __init__(self) -> None:
        self._waiting: dict[Turn, None] = {}
        self._told = False
        self.wake: Callable[[], None] | None = None

    def put(self, connection: Turn) -> None:
        """Have a connection's turn come."""
        self._waiting[connection] = None
        if not self._told and self.wake is not None:
            self._told = True
            self.wake()

    def take(self) -> list[Turn]:
        """Those whose turn it is; more may come to it meanwhile."""
        found = list(self._waiting)
        self._waiting.clear()
        self._told = False
        return found


class Nowhere:
    """The transport of a connection that is gone (:class:`broker.ports.Transport`)."""

    def write(self, data: bytes) -> None:
        """Nobody takes it."""

    def close(self) -> None:
        """It is closed."""

    def abort(self) -> None:
        """It is closed."""

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""


NOWHERE = Nowhere()
