"""An engine without sockets: bytes in, bytes out, and a clock that is told what time it is."""

from __future__ import annotations

from typing import Any

from broker.access.anonymous import Anonymous
from broker.connection import Connection
from broker.engine import Engine
from broker.limits import Limits
from broker.ports import Authority, Party
from broker.ports import Peer as Origin
from tests.protocol import wire
from tests.protocol.wire import Answer

PLAIN = Origin("192.0.2.1", "test")
WALL = 1_700_000_000.0


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.writes = 0
        self.closed = False
        self.paused = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        self.writes += 1
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Notes:
    """A journal that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []
        """Event, client, detail."""
        self.parties: list[Party | None] = []

    def note(self, event: str, who: Party | None, detail: str) -> None:
        self.lines.append((event, who.client_id if who is not None else "", detail))
        self.parties.append(who)

    @property
    def notes(self) -> list[tuple[str, str]]:
        """Event, detail."""
        return [(event, detail) for event, _, detail in self.lines]


class Broker:
    """An engine and its clock, in seconds."""

    def __init__(self, authority: Authority | None = None, pipeline: Any = None, **limits: Any) -> None:
        self.now = 100.0
        self.jumped = 0.0
        self.notes = Notes()
        self.engine = Engine(
            Limits(**limits), authority or Anonymous(), pipeline, self.now, WALL, journal=self.notes
        )

    def advance(self, seconds: float) -> None:
        """Let time pass, with a tick each second."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self.engine.tick(self.now, WALL + self.jumped + self.now - 100.0)
            self.take_turns()

    def jump(self, by: float) -> None:
        """The wall clock is set."""
        self.jumped += by
        self.engine.tick(self.now, WALL + self.jumped + self.now - 100.0)

    def take_turns(self) -> None:
        """Let everything be done that one turn was too short for."""
        turns = self.engine.turns
        while turns._waiting:
            self.engine.take_turns(self.now)

    def peer(self, origin: Origin | None = None) -> Peer:
        """A network connection that has said nothing yet."""
        return Peer(self, origin=origin)

    def client(self, client_id: str = "c", version: int = 5, **connect: Any) -> Peer:
        """A client that was accepted; its CONNACK is in ``connack``."""
        peer = Peer(self, version)
        peer.send(wire.connect(client_id, version, **connect))
        (peer.connack,) = peer.take_kind(wire.CONNACK)
        assert peer.connack.reason == 0
        return peer


class Peer:
    """The client's side of a connection."""

    def __init__(self, broker: Broker, version: int = 5, origin: Origin | None = None) -> None:
        self.broker = broker
        self.version = version
        self.transport = FakeTransport()
        self.connection = Connection(broker.engine, self.transport, broker.now, origin or PLAIN)
        broker.engine.roster.greet(self.connection, broker.now)
        self.connack = Answer(0)
        self._seen: list[Answer] = []

    def send(self, *data: bytes) -> None:
        """One chunk arrives at the broker."""
        self.connection.receive(b"".join(data), self.broker.now)
        self.broker.engine.flush()
        self.broker.take_turns()

    def take(self) -> list[Answer]:
        """What the broker sent since the last time."""
        found = self._seen + wire.answers(bytes(self.transport.written), self.version)
        self.transport.written.clear()
        self._seen = []
        return found

    def take_kind(self, kind: int) -> list[Answer]:
        """The packets of one type; the others stay for later."""
        found = self.take()
        self._seen = [answer for answer in found if answer.kind != kind]
        return [answer for answer in found if answer.kind == kind]

    def ask(self, *data: bytes) -> Answer:
        """Send, and have the one answer."""
        self.send(*data)
        (answer,) = self.take()
        return answer

    @property
    def closed(self) -> bool:
        return self.transport.closed

    def drop(self) -> None:
        """The network connection breaks."""
        self.transport.closed = True
        self.connection.lost(self.broker.now)
        self.broker.engine.flush()

    def block(self) -> None:
        """The client reads no more."""
        self.connection.blocked = True

    def unblock(self) -> None:
        self.connection.unblocked(self.broker.now)
        self.broker.engine.flush()

    # -- what most tests do ------------------------------------------------------------------------------

    def subscribe(self, *wanted: tuple[str, int], identifier: int = 0) -> list[int]:
        """The reason codes of SUBACK."""
        properties = wire.props((0x0B, identifier)) if identifier else b""
        self.send(wire.subscribe(10, wanted, self.version, properties))
        (answer,) = self.take_kind(wire.SUBACK)
        assert answer.packet_id == 10
        return answer.reasons

    def publish(
        self, topic: str, payload: bytes = b"x", qos: int = 0, packet_id: int = 1, **more: Any
    ) -> None:
        self.send(wire.publish(topic, payload, qos, packet_id, self.version, **more))

    def heard(self) -> list[tuple[str, bytes]]:
        """The messages that came."""
        return [(answer.topic, answer.payload) for answer in self.take_kind(wire.PUBLISH)]
