"""One client's connection: takes the bytes that arrived, does what its packets ask, collects the answers.

No I/O: the transport is a port, and the time (``now``, seconds of the event loop's clock) is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.acks import AckGroup, AckQueue
from broker.aliases import InboundAliases
from broker.bucket import Meter
from broker.flow import Pause, State, Valve
from broker.handshake import Handshake
from broker.message import Message
from broker.outlet import Outlet
from broker.ports import Action, Credentials, Peer, Transport
from broker.protocol import encode, packets
from broker.protocol.constants import PUBACK, PUBCOMP, PUBREC, PUBREL, V5, Prop, Reason
from broker.protocol.decode import Decoder
from broker.protocol.errors import ProtocolError
from broker.protocol.payload import wrong_format
from broker.protocol.properties import Properties
from broker.refusals import WORDS, refusal
from broker.resolver import Resolver, Undecided
from broker.session import Session
from broker.subscriptions import Route

if TYPE_CHECKING:
    from broker.engine import Engine


class Connection(Outlet):
    """The server's side of one network connection."""

    __slots__ = (
        "_acks",
        "_aliases",
        "_batch",
        "_decoder",
        "_handshake",
        "_held",
        "_meter",
        "_resolver",
        "_routes",
        "_waiting",
        "credentials",
        "engine",
        "explains",
        "keep_alive",
        "last_seen",
        "peer",
        "session",
        "slot",
        "state",
        "transport",
        "valve",
        "version",
        "will",
    )

    def __init__(self, engine: Engine, transport: Transport, now: float, peer: Peer) -> None:
        super().__init__(engine.dirty, engine.stats)
        self.engine = engine
        self.transport = transport
        self.peer = peer
        self.state = State.NEW
        self.slot = 0
        """Where the roster watches this connection's time."""
        self.version = 4
        self.session: Session | None = None
        self.credentials: Credentials | None = None
        self.will: packets.Will | None = None
        self.keep_alive = 0
        self.explains = False
        """Whether the client takes reason strings on every packet [MQTT5 3.1.2.11.7]."""
        self.last_seen = now
        self.valve = Valve(transport)
        self._meter: Meter | None = None
        self.squeeze(0.0, now)
        self._decoder = Decoder(engine.limits.max_packet_size, engine.limits.max_connect_size)
        self._resolver = Resolver(self)
        self._routes = self._resolver.routes
        self._aliases: InboundAliases | None = None
        self._handshake: Handshake | None = None
        self._batch: list[tuple[Message, Route]] = []
        self._acks: list[bytes] = []
        self._waiting: AckQueue | None = None
        self._held: list[Any] | None = None
        """What came behind the packet that waits for the authority, and that packet."""

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
        self._decoder.trust()
        self.state = State.OPEN
        self.engine.roster.admit(self, packet, terms, now)

    def squeeze(self, rate: float, now: float) -> None:
        """Take so many messages a second at most, 0 for what the limits say."""
        limits = self.engine.limits
        messages = rate or limits.message_rate
        self._meter = Meter(messages, limits.byte_rate, now) if messages or limits.byte_rate else None

    # -- what arrives ------------------------------------------------------------------------------------

    def receive(self, chunk: bytes, now: float) -> None:
        """Work on bytes from the client. The caller flushes the engine afterwards."""
        self.last_seen = now
        self.engine.stats.bytes_received += len(chunk)
        arrived = self._decoder.feed(chunk)
        if self.state is State.OPEN:
            if self._meter is None:
                self.handle(arrived, now)
            else:
                self._handle_metered(arrived, len(chunk), now)
        elif arrived:
            self._receive_early(arrived, now)

    def _receive_early(self, arrived: list[Any], now: float) -> None:
        if self._held is not None:
            self._held += arrived
        elif self.state is State.NEW:
            if self._handshake is None:
                self._handshake = Handshake(self)
            self._handshake.receive(arrived, now)

    def _handle_metered(self, arrived: list[Any], size: int, now: float) -> None:
        """Work on a chunk, then read nothing more for as long as the client's rate asks for."""
        before = self.stats.publish_received
        self.handle(arrived, now)
        assert self._meter is not None
        wait = self._meter.spend(self.stats.publish_received - before, size, now)
        if wait and self.is_open:
            self.stats.throttled += 1
            self.valve.pause(Pause.RATE)
            self.engine.roster.wake_later(self, now + wait)

    def handle(self, arrived: list[Any], now: float) -> None:
        """Do what packets on an open connection ask for, in order."""
        for packet in arrived:
            kind = packet.__class__
            if kind is packets.PublishRun:
                self._on_publish_run(packet, now)
            elif kind is packets.Publish:
                self._on_publish(packet, now)
            elif kind is packets.AckRun:
                self.stats.control_received += len(packet.packet_ids)
                assert self.session is not None
                _ON_ACKS[packet.kind](self.session, packet.packet_ids, now + self.engine.wall_offset)
            else:
                self.stats.control_received += 1
                if self._batch or self._acks:
                    self._publish_batch(now)
                _HANDLERS.get(kind, Connection._on_error)(self, packet, now)
            if self.state is not State.OPEN:
                if self.state is State.HELD:
                    self._hold(arrived, packet, now)
                return
        if self._batch or self._acks:
            self._publish_batch(now)

    def _hold(self, arrived: list[Any], packet: Any, now: float) -> None:
        """Keep a packet that waits for the authority, and all behind it."""
        at = next(index for index, one in enumerate(arrived) if one is packet)
        self._held = arrived[at:]
        self.state = State.OPEN
        if self._batch or self._acks:
            self._publish_batch(now)
        self.state = State.HELD
        self.valve.pause(Pause.RIGHTS)

    def _ask(self, action: Action, topic: str) -> None:
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

    # -- PUBLISH -----------------------------------------------------------------------------------------

    def _on_publish_run(self, run: packets.PublishRun, now: float) -> None:
        route = self._routes.get(run.topic)
        if route is None or not route.valid:
            route = self._resolve(run.topic, 0, False, now)
            if route is None:
                return
        engine = self.engine
        stats = engine.stats
        stats.publish_received += run.count
        stats.payload_received += run.count * (run.size - run.payload_at)
        if route.refusal:
            stats.publish_denied += run.count
            return
        if route.simple and not self._batch and not self.peer.mount_point:
            engine.deliver_run(run, route, self)
            return
        batch = self._batch
        topic = route.topic
        publisher = self.session.client_id if self.session else ""
        frames = run.frames
        for start in range(0, run.count * run.size, run.size):
            payload = frames[start + run.payload_at : start + run.size]
            batch.append((Message(topic, payload, 0, False, b"", 0.0, publisher), route))

    def _on_publish(self, packet: packets.Publish, now: float) -> None:
        topic = packet.topic
        if packet.alias:
            resolved = self._resolve_alias(packet, now)
            if resolved is None:
                return
            topic = resolved
        route = self._routes.get(topic)
        if route is None or not route.valid:
            route = self._resolve(topic, packet.qos, packet.retain, now)
            if route is None:
                return
        session = self.session
        assert session is not None
        stats = self.stats
        stats.publish_received += 1
        stats.payload_received += len(packet.payload)
        if self.engine.limits.check_payload_format and wrong_format(packet.properties, packet.payload):
            self._refuse_payload(packet, now)
            return
        qos = packet.qos
        if qos and not self._admit_reliable(packet, session, route, now):
            return
        if route.refusal:
            stats.publish_denied += 1
            return
        expiry = packet.expiry
        self._batch.append(
            (
                Message(
                    route.topic,
                    packet.payload,
                    qos,
                    packet.retain,
                    packet.properties,
                    0.0 if expiry is None else now + self.engine.wall_offset + expiry,
                    session.client_id,
                ),
                route,
            )
        )

    def _admit_reliable(self, packet: packets.Publish, session: Session, route: Route, now: float) -> bool:
        """Prepare the acknowledgement of a QoS 1 or 2 message; False where it must not be delivered."""
        packet_id = packet.packet_id
        if packet.qos == 2:
            if packet_id in session.incoming:
                # Received before and not yet released: acknowledge, deliver nothing [MQTT-4.3.3-10].
                self._acks.append(encode.ack(PUBREC, self.version, packet_id))
                return False
            if len(session.incoming) >= self.engine.limits.receive_maximum and self.version == V5:
                self.fail(Reason.RECEIVE_MAXIMUM_EXCEEDED, now)
                return False
        keeps = packet.retain and packet.payload and not route.refusal and self.version == V5
        if keeps and not self.engine.retained.has_room(route.topic, len(packet.payload)):
            self._refuse(packet, Reason.QUOTA_EXCEEDED)
            return False
        if self.version == V5 and (route.refusal or route.empty):
            if route.refusal:
                self._refuse(packet, route.refusal)
                return True
            if packet.qos == 2:
                session.remember_incoming(packet_id)
            kind = PUBACK if packet.qos == 1 else PUBREC
            self._acks.append(encode.ack(kind, V5, packet_id, Reason.NO_MATCHING_SUBSCRIBERS))
            return True
        if packet.qos == 2:
            session.remember_incoming(packet_id)
            self._acks.append(b"\x50\x02" + packet_id.to_bytes(2, "big"))
        else:
            self._acks.append(b"\x40\x02" + packet_id.to_bytes(2, "big"))
        return True

    def _refuse_payload(self, packet: packets.Publish, now: float) -> None:
        """The payload is not what its format indicator says [MQTT5 3.3.2.3.2]."""
        reason = Reason.PAYLOAD_FORMAT_INVALID
        if packet.qos == 0:
            self.fail(reason, now, WORDS[reason])
        else:
            self._refuse(packet, reason)

    def _refuse(self, packet: packets.Publish, reason: int) -> None:
        assert self.session is not None
        self._acks.append(refusal(packet, reason, self.explains, self.session.max_packet))

    def _publish_batch(self, now: float) -> None:
        """Publish what the chunk brought so far, and acknowledge it, or have that wait for the disk."""
        batch = self._batch
        acks = self._acks
        self._batch = []
        on_safe: Callable[[], None] | None = None
        if acks:
            self._acks = []
            group = AckGroup(acks)
            on_safe = partial(self._release, group)
        waits = bool(batch) and self.engine.publish(batch, now, on_safe)
        if not acks or self.state is not State.OPEN:
            return
        if not waits and not self._waiting:
            for ack in acks:
                self.send(ack)
            return
        group.ready = not waits
        if self._waiting is None:
            self._waiting = AckQueue()
        self._waiting.add(group)
        if self._waiting.full:
            self.valve.pause(Pause.ACKNOWLEDGEMENTS)

    def _release(self, group: AckGroup) -> None:
        """What the group acknowledges is safe: send it, and those behind it that waited for their turn."""
        group.ready = True
        waiting = self._waiting
        if not self.is_open or not waiting:
            return
        for ack in waiting.take_ready():
            self.send(ack)
        if waiting.relaxed:
            self.valve.resume(Pause.ACKNOWLEDGEMENTS)
        self.engine.flush()

    def _resolve(self, raw: bytes, qos: int, retain: bool, now: float) -> Route | None:
        """The route of a topic; None where we closed, or have to wait for the authority."""
        try:
            return self._resolver.resolve(raw, qos, retain)
        except ProtocolError as error:
            self._on_error(error, now)
        except Undecided as question:
            self._ask(Action.PUBLISH, question.args[0])
        return None

    def forget_rights(self) -> None:
        """What the client may do has changed: ask again."""
        self._routes.clear()

    def _resolve_alias(self, packet: packets.Publish, now: float) -> bytes | None:
        """The topic that a Topic Alias stands for; None where it stands for none, and we closed."""
        if self._aliases is None:
            self._aliases = InboundAliases(self.engine.limits.topic_alias_maximum)
        topic = self._aliases.resolve(packet.alias, packet.topic)
        if isinstance(topic, int):
            self.fail(topic, now)
            return None
        return topic

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
        if self.engine.must_ask(self, packet, self._ask):
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
        if self.state is State.CLOSED:
            return
        was_open = self.is_open
        self.state = State.CLOSED
        self.engine.roster.forget(self)
        self.blocked = True
        if was_open:
            self.engine.roster.depart(self, now)

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
