"""What goes to disk in one transaction, while it is gathered."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from broker.message import Delivery, Message
from broker.ports import SessionTerms, Stored, StoredWill
from broker.subscriptions import Held

CROSSINGS = 0
"""The key of what is on its way to other nodes: deliveries like those of a session, of which there is none."""
LOAD_BYTES = 1 << 20
"""Payload bytes after which no more messages are read at a time, however many are asked for."""


class Load(NamedTuple):
    """A request for deliveries of a session, from a number on."""

    session: int
    first: int
    at_most: int
    done: Callable[[Stored], None]


class Group:
    """Changes by what they are about, so that what undoes another takes its place: all together or none.

    A delivery is known by (session's key, number in the session), a packet identifier by (session's key, identifier).
    """

    __slots__ = (
        "adds",
        "dones",
        "ended",
        "incoming",
        "loads",
        "marks",
        "matters",
        "releasing",
        "retained",
        "sent",
        "sessions",
        "shift",
        "subscriptions",
        "waiting",
        "wills",
    )

    def __init__(self) -> None:
        self.retained: dict[str, Message] = {}
        self.adds: dict[tuple[int, int], Delivery] = {}
        self.dones: dict[tuple[int, int], Message] = {}
        """Deliveries that are on disk and are not needed any more."""
        self.sent: set[tuple[int, int]] = set()
        self.incoming: dict[tuple[int, int], bool] = {}
        """QoS 2 packet identifiers of publishers: received (True) or released."""
        self.releasing: dict[tuple[int, int], int | None] = {}
        """QoS 2 packet identifiers of receivers between PUBREC and PUBCOMP: the delivery's number, None at the end."""
        self.sessions: dict[int, tuple[SessionTerms, float]] = {}
        """Terms, and when the client went."""
        self.subscriptions: dict[tuple[int, str], Held | None] = {}
        self.ended: set[int] = set()
        self.wills: dict[str, StoredWill | None] = {}
        self.marks: dict[str, tuple[int, int]] = {}
        self.shift = 0.0
        """Seconds by which the wall clock was set: all that was on disk before keeps its time to live."""
        self.waiting: list[Callable[[], None]] = []
        self.loads: list[Load] = []
        self.matters = False
        """Whether there is more than live deliveries that somebody may have to wait for."""

    def __bool__(self) -> bool:
        return bool(
            self.adds
            or self.dones
            or self.retained
            or self.incoming
            or self.releasing
            or self.sessions
            or self.subscriptions
            or self.ended
            or self.wills
            or self.marks
            or self.sent
            or self.loads
            or self.shift
        )
