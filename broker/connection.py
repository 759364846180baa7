"""One client's connection: takes the bytes that arrived, does what its packets ask, collects the answers.

No I/O: the transport is a port, and the time (``now``, seconds of the event loop's clock) is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from broker.bucket import Meter
from broker.flow import NOWHERE, Pause, State
from broker.handshake import Handshake
from broker.ports import Action, Peer, Transport
from broker.protocol import encode, packets
from broker.protocol.constants import PUBACK, PUBCOMP, PUBREC, PUBREL, V5, Prop, Reason
from broker.protocol.decode import Decoder
from broker.protocol.errors import ProtocolError
from broker.protocol.properties import Properties
from broker.publisher import Publisher
from broker.session import Session

if TYPE_CHECKING:
    from broker.engine import Engine


_TURN = 512
"""Packets after which others come first; runs of equal packets count as one."""


class Connection(Publisher):
    """The server's side of one network connection."""

    __slots__ = (
        "_decoder",
        "_handshake",
        "_held",
        "_meter",
        "keep_alive",
        "slot",
        "will",
    )

    def __init__(self, engine: Engine, transport: Transport, now: float, peer: Peer) -> None:
        super().__init__(engine, transport, now, peer)
        self.slot = 0
        """Where the roster watches this connection's time."""
        self.will: packets.Will | None = None
        self.keep_alive = 0
        self._meter: Meter | None = None
        self.squeeze(0.0, now)
        self._decoder = Decoder(self.limits.max_packet_size, self.limits.max_connect_size)
        self._handshake: Handshake | None = None
        self._held: list[Any] | None = None
        """What was read and has to wait: for the authority, or for the next turn."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        self.transport.write(data)

    # -- the beginning -----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether CONNECT was accepted, and the connection has not ended."""
        return self.state is State.OPEN or self.state is State.HELD

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self.state is State.CLOSED

    @property
    def spoken_version(self) -> int:
        """The protocol level that the first packet named, 0 before it did."""
        return self._decoder.version

    def opened(
        self, packet: packets.Connect, terms: Properties, handshake: Handshake | None, now: float
    ) -> None:
        """The client is who it claims to be: give it its session. ``terms`` go with CONNACK."""
        self._handshake = handshake
        self.user = (self.credentials.username if self.credentials is not None else None) or ""
        self._decoder.trust()
        self.state = State.OPEN
        self.engine.roster.admit(self, packet, terms, now)

    def squeeze(self, rate: float, now: float) -> None:
        """Take so many messages a second at most, 0 for what the limits say."""
        limits = self.limits
        messages = rate or limits.message_rate
        self._meter = Meter(messages, limits.byte_rate, now) if messages or limits.byte_rate else None

    # -- what arrives ------------------------------------------------------------------------------------

    def receive(self, chunk: bytes, now: float) -> None:
        """Work on bytes from the client. The caller flushes the engine afterwards."""
        self.last_seen = now
        self.engine.stats.bytes_received += len(chunk)
        arrived = self._decoder.feed(chunk)
        if self._held is not None:
            self._held += arrived
        elif self.state is State.OPEN:
            self.handle(arrived, now)
        elif arrived and self.state is State.NEW:
            if self._handshake is None:
                self._handshake = Handshake(self)
            self._handshake.receive(arrived, now)
        if self._meter is not None:
            self._spend(0, len(chunk), now)

    def handle(self, arrived: list[Any], now: float) -> None:
        """Do what packets on an open connection ask for, in order, as far as this turn goes."""
        before = self.stats.publish_received
        self.effort = 0
        left = _TURN
        for packet in arrived:
            kind = packet.__class__
            if kind is packets.PublishRun:
                self.on_publish_run(packet, now)
            elif kind is packets.Publish:
                self.on_publish(packet, now)
            elif kind is packets.AckRun:
                self.stats.control_received += len(packet.packet_ids)
                assert self.session is not None
                _ON_ACKS[packet.kind](self.session, packet.packet_ids, now + self.engine.wall_offset)
            else:
                self.stats.control_received += 1
                if self._batch or self._acks:
                    self.publish_batch(now)
                _HANDLERS.get(kind, Connection._on_error)(self, packet, now)
            left -= 1
            if self.state is not State.OPEN:
                break
            if left <= self.effort:
                self._keep(arrived, packet, now)
                break
        else:
            if self._batch or self._acks:
                self.publish_batch(now)
        if self.state is State.HELD:
            self._hold(arrived, packet, now)
        if self._meter is not None:
            self._spend(self.stats.publish_received - before, 0, now)

    def _spend(self, messages: int, size: int, now: float) -> None:
        """Read nothing more for as long as the client's rate asks for."""
        assert self._meter is not None
        wait = self._meter.spend(messages, size, now)
        if wait and self.is_open:
            self.stats.throttled += 1
            self.valve.pause(Pause.RATE)
            self.engine.roster.wake_later(self, now + wait)

    def _keep(self, arrived: list[Any], last: Any, now: float) -> None:
        """The turn is over with this packet: others come first before what is behind it."""
        at = next(index for index, one in enumerate(arrived) if one is last)
        if self._batch or self._acks:
            self.publish_batch(now)
        rest = arrived[at + 1 :]
        if rest and self.state is State.OPEN:
            self._held = rest
            self.valve.pause(Pause.TURN)
            self.engine.turns.put(self)

    def take_turn(self, now: float) -> None:
        """Go on with what was kept."""
        if self.state is not State.OPEN or self.valve.throttled:
            # The authority, or the roster once the client's rate allows, sees to it.
            return
        held, self._held = self._held, None
        if held is not None:
            self.handle(held, now)
        if self._held is None:
            self.valve.resume(Pause.TURN)

    def _hold(self, arrived: list[Any], packet: Any, now: float) -> None:
        """Keep a packet that waits for the authority, and all behind it."""
        at = next(index for index, one in enumerate(arrived) if one is packet)
        self._held = arrived[at:]
        self.state = State.OPEN
        if self._batch or self._acks:
            self.publish_batch(now)
        self.state = State.HELD
        self.valve.pause(Pause.RIGHTS)

    def ask(self, action: Action, topic: str) -> None:
        """Have the authority decide before the packet at hand is worked on."""
        assert self.credentials is not None
        self.state = State.HELD
        self.engine.authority.decide(self.credentials, action, topic, self._go_on)

    def _go_on(self) -> None:
        """The authority has decided."""
        held, self._held = self._held, None
        if self.state is not State.HELD:
            return
        self.state = State.OPEN
        self.valve.resume(Pause.RIGHTS)
        if held:
            self.handle(held, self.last_seen)
        self.engine.flush()

    def answer(self, packet: bytes) -> None:
        """Send what answers a request, once what was done about it is safe."""
        disk = self.session.disk if self.session is not None else None
        if disk is None:
            self.send(packet)
        else:
            self.send_when_safe([packet], disk)

    # -- acknowledgements --------------------------------------------------------------------------------

    def _on_ack(self, packet: packets.Ack, now: float) -> None:
        """An acknowledgement with a reason code (MQTT 5)."""
        if packet.kind == PUBREC and packet.reason >= 0x80:
            assert self.session is not None
            self.session.on_pubrec_failed(packet.packet_id, now + self.engine.wall_offset)
        else:
            assert self.session is not None
            _ON_ACKS[packet.kind](self.session, [packet.packet_id], now + self.engine.wall_offset)

    # -- the other packets -------------------------------------------------------------------------------

    def _on_subscribe(self, packet: packets.Subscribe, now: float) -> None:
        if self.engine.rights.must_ask(self, packet, self.ask):
            return
        self.engine.subscribe(self, packet, now)

    def _on_unsubscribe(self, packet: packets.Unsubscribe, now: float) -> None:
        self.engine.unsubscribe(self, packet)

    def _on_pingreq(self, packet: packets.PingReq, now: float) -> None:
        self.send(encode.PINGRESP)

    def _on_disconnect(self, packet: packets.Disconnect, now: float) -> None:
        assert self.session is not None
        expiry = packet.properties.get(Prop.SESSION_EXPIRY_INTERVAL)
        if expiry is not None:
            if expiry and not self.session.expiry:
                # A session that ends with its connection cannot be prolonged at its end [MQTT5 3.14.2.2.2].
                self.fail(Reason.PROTOCOL_ERROR, now)
                return
            self.session.expiry = self.engine.roster.bounded_expiry(expiry)
        if packet.reason != Reason.DISCONNECT_WITH_WILL:
            self.will = None
        self._shut(now)

    def _on_auth(self, packet: packets.Auth, now: float) -> None:
        if self._handshake is None:
            # No authentication method was agreed on at CONNECT, so AUTH has no place [MQTT-4.12.0-7].
            self.fail(Reason.PROTOCOL_ERROR, now)
        else:
            self._handshake.authenticate_again(packet, now)

    def _on_error(self, error: ProtocolError, now: float) -> None:
        if error.reason == Reason.PACKET_TOO_LARGE:
            self.stats.packets_too_large += 1
        self.fail(error.reason, now, error.detail)

    # -- the end -----------------------------------------------------------------------------------------

    def refuse(self, reason: int) -> None:
        """Answer CONNECT with a refusal and close."""
        self.turn_away(encode.connack(self.version, False, reason, {}))

    def turn_away(self, answer: bytes) -> None:
        """Send an answer, which may be empty, to whoever was not let in, and close."""
        self.stats.connections_refused += 1
        if answer:
            self.send(answer)
        self.state = State.CLOSED
        self._finish()

    def fail(self, reason: int, now: float, detail: str = "") -> None:
        """End the connection for a reason: DISCONNECT tells it to a client of version 5, in words, too."""
        if self.state is State.CLOSED:
            return
        if self.is_open and self.version == V5:
            told = encode.disconnect(reason, {Prop.REASON_STRING: detail} if detail else {})
            limit = self.session.max_packet if self.session is not None else 0
            if limit and len(told) > limit:
                # Words are left out where they would make the packet too large [MQTT-3.14.2-3].
                told = encode.disconnect(reason, {})
            self.send(told)
        self._shut(now)

    def lost(self, now: float) -> None:
        """The network connection is gone."""
        self.valve.let_go()
        self.transport = NOWHERE
        self._handshake = None
        self._finish_reading(now)
        if self.state is State.CLOSED:
            return
        was_open = self.is_open
        self.state = State.CLOSED
        self.engine.roster.forget(self)
        self.blocked = True
        if was_open:
            self.engine.roster.depart(self, now)

    def cut_off(self, now: float) -> None:
        """End the network connection at once, without a word."""
        transport = self.transport
        self.lost(now)
        transport.abort()

    def _finish_reading(self, now: float) -> None:
        """What the client sent before it closed counts: its last messages, and its DISCONNECT."""
        while self.state is State.OPEN and self._held is not None:
            held, self._held = self._held, None
            self.handle(held, now)
        for packet in self._held or ():
            # Its messages wait for the authority, and nobody is left to be told; the farewell is heard.
            if isinstance(packet, packets.Disconnect) and packet.reason != Reason.DISCONNECT_WITH_WILL:
                self.will = None

    def block(self, now: float) -> None:
        """The client does not take what was written to it."""
        self.blocked = True
        self.engine.roster.stalls(self, now)

    def overflow(self) -> None:
        """The client's queue is full, and the client should go: soon, not in the middle of a delivery."""
        self.engine.roster.dooms(self)

    def unblocked(self, now: float) -> None:
        """The client takes data again."""
        self.blocked = False
        self.engine.roster.flows(self)
        if self.session is not None:
            self.session.drain(now + self.engine.wall_offset)

    def _shut(self, now: float) -> None:
        was_open = self.is_open
        self.state = State.CLOSED
        self._finish()
        if was_open:
            self.engine.roster.depart(self, now)

    def _finish(self) -> None:
        self.valve.let_go()
        self._handshake = None
        self.engine.roster.forget(self)
        if self.out:
            self.write(b"".join(self.out))
            self.out.clear()
        self.transport.close()


_ON_ACKS: dict[int, Callable[[Session, list[int], float], None]] = {
    PUBACK: Session.on_puback,
    PUBREC: Session.on_pubrec,
    PUBREL: Session.on_pubrel,
    PUBCOMP: Session.on_pubcomp,
}

_HANDLERS: dict[type, Callable[[Connection, Any, float], None]] = {
    packets.Ack: Connection._on_ack,
    packets.Subscribe: Connection._on_subscribe,
    packets.Unsubscribe: Connection._on_unsubscribe,
    packets.PingReq: Connection._on_pingreq,
    packets.Disconnect: Connection._on_disconnect,
    packets.Auth: Connection._on_auth,
}
