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
from broker.ration import Waiting, count_messages, overtakes, payload_size, ration
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
        "_later",
        "keep_alive",
        "meter",
        "slot",
        "will",
    )

    def __init__(self, engine: Engine, transport: Transport, now: float, peer: Peer) -> None:
        super().__init__(engine, transport, now, peer)
        self.slot = 0
        """Where the roster watches this connection's time."""
        self.will: packets.Will | None = None
        self.keep_alive = 0
        self.meter = self._own_meter(now)
        """What the client may send; None where it has no limits of that kind."""
        self._decoder = Decoder(self.limits.max_packet_size, self.limits.max_connect_size)
        self._handshake: Handshake | None = None
        self._held: list[Any] | None = None
        """What was read and has to wait: for the authority, for room, or for the next turn."""
        self._later: Waiting | None = None
        """What was read behind it, and is beyond the client's rate."""

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

    def _own_meter(self, now: float) -> Meter | None:
        limits = self.limits
        rated = limits.message_rate or limits.byte_rate
        return Meter(limits.message_rate, limits.byte_rate, now) if rated else None

    def squeeze(self, rate: float, now: float) -> None:
        """Take so many messages a second at most while the node is overloaded, 0 for what the limits say."""
        before, limits = self.meter, self.limits
        self.meter = self._own_meter(now)
        if rate:
            # To split what a client has sent, and keep it, would take memory of a node that may have none.
            rate = min(rate, limits.message_rate or rate)
            self.meter = Meter(rate, limits.byte_rate, now, whole=self.meter is None)
        if self.meter is not None and before is not None:
            self.meter.inherit(before, now)
        if self.valve.throttled:
            self.engine.roster.wake_later(self, now)

    # -- what arrives ------------------------------------------------------------------------------------

    def receive(self, chunk: bytes, now: float) -> None:
        """Work on bytes from the client. The caller flushes the engine afterwards."""
        self.last_seen = now
        self.engine.stats.bytes_received += len(chunk)
        arrived = self._decoder.feed(chunk)
        if self.meter is not None:
            self._charge(self.meter, len(chunk), arrived, now)
        if self._held is not None:
            self._held += arrived
        elif self.state is State.OPEN:
            self.handle(arrived, now)
        elif arrived and self.state is State.NEW:
            if self._handshake is None:
                self._handshake = Handshake(self, chunk)
            self._handshake.receive(arrived, now)

    def handle(self, arrived: list[Any], now: float) -> None:
        """Do what packets on an open connection ask for, in order, as far as this turn and the client's rate go."""
        if self.meter is None:
            self._work(arrived, now)
        else:
            self._work_by_rate(self.meter, arrived, now)

    def _work(self, arrived: list[Any], now: float) -> None:
        self.effort = 0
        left = _TURN
        for packet in arrived:
            kind = packet.__class__
            if kind is packets.PublishRun:
                rest = self.on_publish_run(packet, now)
                if rest is not None and self.state is State.OPEN:
                    self._keep(arrived, packet, now, rest)
                    break
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

    # -- the client's rate -------------------------------------------------------------------------------

    def _charge(self, meter: Meter, chunk: int, arrived: list[Any], now: float) -> None:
        """Count a chunk's bytes, but for the payloads of its messages: those count when they are worked on."""
        # A payload that came in several chunks was counted with these, and is given back: it may be less than nothing.
        wait = meter.spend(0, chunk - payload_size(arrived), now)
        if wait:
            self._slow_down(meter, wait, now)

    def _work_by_rate(self, meter: Meter, arrived: list[Any], now: float) -> None:
        """Work on what the client's rate allows; what is beyond waits, and nothing is read meanwhile."""
        if not meter.whole:
            later = self._later
            if later:
                arrived, beyond = overtakes(arrived)
            else:
                arrived, beyond = ration(arrived, *meter.allowance(now))
            if beyond and later is None:
                later = self._later = Waiting(self.engine.roster.budget)
            if beyond and later is not None and not later.put(beyond):
                # There is no memory to keep it: it is taken now, and owed.
                arrived = arrived + later.take_all() + beyond
        self._work_on(meter, arrived, now)

    def _work_on(self, meter: Meter, arrived: list[Any], now: float) -> None:
        """Work on what the client's rate allows now, and read nothing before it allows more."""
        wait = self._work_metered(meter, arrived, now) if arrived else 0.0
        if not self.is_open:
            return
        if self._later:
            self.valve.pause(Pause.TURN)
            if self._held is None:
                self._slow_down(meter, max(wait, meter.wait(now)[0]), now)
                return
        if wait:
            self._slow_down(meter, wait, now)

    def _work_metered(self, meter: Meter, arrived: list[Any], now: float) -> float:
        """Work on packets and count their messages; the seconds until the client has kept its rate."""
        stats = self.stats
        messages, size = stats.publish_received, stats.payload_received
        self._work(arrived, now)
        return meter.spend(stats.publish_received - messages, stats.payload_received - size, now)

    def _slow_down(self, meter: Meter, seconds: float, now: float) -> None:
        """Read nothing more for a while."""
        if not self.is_open:
            return
        if not self.valve.throttled:
            if meter.whole:
                self.stats.overload_pauses += 1
            else:
                self.limited(meter.wait(now)[1], "it is read from more slowly")
            self.valve.pause(Pause.RATE)
        self.engine.roster.wake_later(self, now + seconds)

    def _keep(
        self, arrived: list[Any], last: Any, now: float, left: packets.PublishRun | None = None
    ) -> None:
        """The turn is over with this packet: others come first before what is ``left`` of it, and behind it."""
        at = next(index for index, one in enumerate(arrived) if one is last)
        if self._batch or self._acks:
            self.publish_batch(now)
        rest = arrived[at + 1 :]
        if left is not None:
            rest.insert(0, left)
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
        meter, later = self.meter, self._later
        if meter is None:
            if held is not None:
                self._work(held, now)
        elif held is not None:
            self._work_on(meter, held, now)
        elif later:
            self._work_on(meter, later.take(*meter.allowance(now)), now)
        if self._held is None and not self._later:
            self.read_on(Pause.TURN)

    def _hold(self, arrived: list[Any], packet: Any, now: float) -> None:
        """Keep a packet that waits for the authority, or for room, and all behind it."""
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
        self.engine.authority.decide(self.credentials, action, topic, self.go_on)

    def wait_for_room(self) -> None:
        """See the base class."""
        self.state = State.HELD
        self.engine.roster.waits_for_room(self)

    def go_on(self) -> None:
        """The authority has decided, or there may be room."""
        if self.state is not State.HELD:
            self._held = None
            return
        self.state = State.OPEN
        self.read_on(Pause.RIGHTS)
        self.take_turn(self.last_seen)
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
            self.session.expiry = self.limits.bounded_expiry(expiry)
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
            self.limited("max_packet_size", "DISCONNECT 0x95")
        self.fail(error.reason, now, error.detail)

    # -- the end -----------------------------------------------------------------------------------------

    def refuse(self, reason: int, why: str = "") -> None:
        """Answer CONNECT with a refusal and close; ``why`` is for the operator."""
        self.stats.limited_bans += reason == Reason.BANNED
        if why:
            self.engine.note("refused", self, f"0x{reason:02x}, {why}")
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
        if reason in _BREACHES:
            self.engine.note("ended", self, f"0x{reason:02x}, {detail or 'against the protocol'}")
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
        self.finish_reading(now)
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

    def finish_reading(self, now: float) -> None:
        """What the client sent before it closed counts: its last messages, and its DISCONNECT."""
        meter = self.meter
        owes = meter is not None and not meter.whole and meter.spend(0, 0, now) > 0
        left = self._take_left()
        if owes:
            # It comes again before it has paid for the last time: reconnecting is no way around the rate.
            self.stats.dropped_over_rate += count_messages(left)
        while left and self.state is State.OPEN and not owes:
            if meter is None:
                self._work(left, now)
            else:
                # As a debt that the client finds when it comes back.
                self._work_metered(meter, left, now)
            left = self._take_left()
        for packet in left:
            # Its messages wait for the authority, and nobody is left to be told; the farewell is heard.
            if isinstance(packet, packets.Disconnect) and packet.reason != Reason.DISCONNECT_WITH_WILL:
                self.will = None

    def _take_left(self) -> list[Any]:
        """Take all that was read and not worked on."""
        held, self._held = self._held or [], None
        return held + self._later.take_all() if self._later else held

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
        self._take_left()
        self._handshake = None
        self.engine.roster.forget(self)
        if self.out:
            self.write(b"".join(self.out))
            self.out.clear()
        self.transport.close()


_BREACHES = frozenset((Reason.MALFORMED_PACKET, Reason.PROTOCOL_ERROR))
"""What a correct client never causes, so that its operator should know."""

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
