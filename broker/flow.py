"""Where a connection stands, and why nothing is read from it."""

from __future__ import annotations

from enum import Enum, IntFlag

from broker.ports import Transport


class State(Enum):
    """Where a connection stands."""

    NEW = "not yet accepted"
    OPEN = "open"
    HELD = "open, and its next packet waits for the authority"
    CLOSED = "closed"


class Pause(IntFlag):
    """Why nothing is read from a client."""

    AUTHENTICATION = 1
    ACKNOWLEDGEMENTS = 2
    RIGHTS = 4
    RATE = 8


class Valve:
    """Whether anything is read from a client: not as long as there is a reason against it."""

    __slots__ = ("_reasons", "_transport")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reasons = 0

    @property
    def is_shut(self) -> bool:
        """Whether nothing is read now: the client's silence says nothing."""
        return bool(self._reasons)

    def pause(self, reason: Pause) -> None:
        """Read nothing more until the reason is gone."""
        if not self._reasons:
            self._transport.pause_reading()
        self._reasons |= reason

    def resume(self, reason: Pause) -> None:
        """The reason is gone; there may be others."""
        if self._reasons & reason:
            self._reasons &= ~reason
            if not self._reasons:
                self._transport.resume_reading()
