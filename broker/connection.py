"""One client's connection: takes the bytes that arrived, does what its packets ask, collects the answers.

No I/O: the transport is a port, and the time (``now``, seconds of the event loop's clock) is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.handshake import Handshake
from broker.message import Message
from broker.outlet import Outlet
from broker.ports import Credentials, Transport
from broker.protocol import encode, packets
from broker.protocol.constants import PUBACK, PUBCOMP, PUBREC, PUBREL, V5, Prop, Reason
from broker.protocol.decode import Decoder
from broker.protocol.errors import ProtocolError
from broker.protocol.payload import wrong_format
from broker.protocol.properties import Properties
from broker.protocol.topics import decode_topic
from broker.session import Session
from broker.subscriptions import Route

if TYPE_CHECKING:
    from broker.engine import Engine

_MAX_ROUTES = 256
"""Topics that a connection remembers the route of; a device publishes to a few."""

_MAX_WAITING = 64
"""Groups of acknowledgements that wait for the disk before the publisher is paused."""

DENIED = Route("", (), (), (), 0)
"""The route of a topic that the client may not publish to: nobody hears it."""


class State(Enum):
    """Where a connection stands."""

    NEW = "not yet accepted"
    OPEN = "open"
    CLOSED = "closed"


class _AckGroup:
    """Acknowledgements of one chunk, which leave in order of arrival, as [MQTT-4.6.0-2] asks of clients."""

    __slots__ = ("acks", "ready")

    def __init__(self, acks: list[bytes]) -> None:
        self.acks = acks
        self.ready = False


class Connection(Outlet):
    """The server's side of one network connection."""

    __slots__ = (
        "_acks",
        "_aliases",
        "_batch",
        "_decoder",
        "_handshake",
        "_routes",
        "_waiting",
        "address",
        "credentials",
        "engine",
        "explains",
        "keep_alive",
        "last_seen",
        "listener",
        "paused",
        "session",
        "slot",
        "state",
        "transport",
        "version",
        "will",
    )

    def __init__(
        self, engine: Engine, transport: Transport, now: float, address: str = "", listener: str = ""
    ) -> None:
        super().__init__(engine.dirty, engine.stats)
        self.engine = engine
        self.transport = transport
        self.address = address
        self.listener = listener
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
        self.paused = False
        self._decoder = Decoder(engine.limits.max_packet_size)
        self._routes: dict[bytes, Route] = {}
        self._aliases: dict[int, bytes] | None = None
        self._handshake: Handshake | None = None
        self._batch: list[tuple[Message, Route]] = []
        self._acks: list[bytes] = []
        self._waiting: deque[_AckGroup] | None = None

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        self.transport.write(data)

    # -- the beginning -----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether CONNECT was accepted, and the connection has not ended."""
        return self.state is State.OPEN

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
        self.state = State.OPEN
        self.engine.roster.admit(self, packet, terms, now)

    # -- what arrives ------------------------------------------------------------------------------------

    def receive(self, chunk: bytes, now: float) -> None:
        """Work on bytes from the client. The caller flushes the engine afterwards."""
        self.last_seen = now
        self.engine.stats.bytes_received += len(chunk)
        arrived = self._decoder.feed(chunk)
        if self.state is State.OPEN:
            self.handle(arrived, now)
        elif arrived and self.state is State.NEW:
            if self._handshake is None:
                self._handshake = Handshake(self)
            self._handshake.receive(arrived, now)

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
                _ON_ACKS[packet.kind](self, packet.packet_ids, now)
            else:
                self.stats.control_received += 1
                if self._batch or self._acks:
                    self._publish_batch(now)
                _HANDLERS.get(kind, Connection._on_error)(self, packet, now)
            if self.state is not State.OPEN:
                return
        if self._batch or self._acks:
            self._publish_batch(now)

    # -- PUBLISH -----------------------------------------------------------------------------------------

    def _on_publish_run(self, run: packets.PublishRun, now: float) -> None:
        route = self._routes.get(run.topic)
        if route is None or not route.valid:
            route = self._resolve(run.topic, now)
            if route is None:
                return
        engine = self.engine
        stats = engine.stats
        stats.publish_received += run.count
        stats.payload_received += run.count * (run.size - run.payload_at)
        if route.simple and not self._batch:
            if route is DENIED:
                stats.publish_denied += run.count
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
            route = self._resolve(topic, now)
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
        if route is DENIED:
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
        if self.version == V5 and (route is DENIED or route.empty):
            denied = route is DENIED
            if denied:
                self._acks.append(self._refusal(packet, Reason.NOT_AUTHORIZED, "not allowed to publish here"))
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
        words = "the payload is no UTF-8"
        if packet.qos == 0:
            self.fail(Reason.PAYLOAD_FORMAT_INVALID, now, words)
        else:
            self._acks.append(self._refusal(packet, Reason.PAYLOAD_FORMAT_INVALID, words))

    def _refusal(self, packet: packets.Publish, reason: int, words: str) -> bytes:
        """PUBACK or PUBREC with a failure, in words where there is room for them [MQTT-3.4.2-2]."""
        kind = PUBACK if packet.qos == 1 else PUBREC
        told = encode.ack(kind, V5, packet.packet_id, reason, words if self.explains else "")
        limit = self.session.max_packet if self.session is not None else 0
        return told if not limit or len(told) <= limit else encode.ack(kind, V5, packet.packet_id, reason)

    def _publish_batch(self, now: float) -> None:
        """Publish what the chunk brought so far, and acknowledge it, or have that wait for the disk."""
        batch = self._batch
        acks = self._acks
        self._batch = []
        on_safe: Callable[[], None] | None = None
        if acks:
            self._acks = []
            group = _AckGroup(acks)
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
            self._waiting = deque()
        self._waiting.append(group)
        if len(self._waiting) >= _MAX_WAITING and not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def _release(self, group: _AckGroup) -> None:
        """What the group acknowledges is safe: send it, and those behind it that waited for their turn."""
        group.ready = True
        waiting = self._waiting
        if self.state is not State.OPEN or not waiting:
            return
        while waiting and waiting[0].ready:
            for ack in waiting.popleft().acks:
                self.send(ack)
        if self.paused and len(waiting) < _MAX_WAITING // 2:
            self.paused = False
            self.transport.resume_reading()
        self.engine.flush()

    def _resolve(self, raw: bytes, now: float) -> Route | None:
        """The route of a topic as this client may use it; None where the topic is none (and we closed)."""
        try:
            topic = decode_topic(raw)
        except ProtocolError as error:
            self._on_error(error, now)
            return None
        assert self.credentials is not None
        if topic.split("/", 1)[0] == "$SYS" or not self.engine.authority.may_publish(self.credentials, topic):
            route = DENIED
        else:
            route = self.engine.subscriptions.route(topic)
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        self._routes[raw] = route
        return route

    def _resolve_alias(self, packet: packets.Publish, now: float) -> bytes | None:
        """The topic that a Topic Alias stands for [MQTT5 3.3.2.3.4]; None where it stands for none."""
        alias = packet.alias
        if alias > self.engine.limits.topic_alias_maximum:
            self.fail(Reason.TOPIC_ALIAS_INVALID, now)
            return None
        if self._aliases is None:
            self._aliases = {}
        if packet.topic:
            self._aliases[alias] = packet.topic
            return packet.topic
        topic = self._aliases.get(alias)
        if topic is None:
            self.fail(Reason.PROTOCOL_ERROR, now)
        return topic

    # -- acknowledgements --------------------------------------------------------------------------------

    def _on_puback(self, packet_ids: list[int], now: float) -> None:
        assert self.session is not None
        self.session.on_puback(packet_ids, now + self.engine.wall_offset)

    def _on_pubrec(self, packet_ids: list[int], now: float) -> None:
        assert self.session is not None
        self.session.on_pubrec(packet_ids, now + self.engine.wall_offset)

    def _on_pubrel(self, packet_ids: list[int], now: float) -> None:
        assert self.session is not None
        self.session.on_pubrel(packet_ids)

    def _on_pubcomp(self, packet_ids: list[int], now: float) -> None:
        assert self.session is not None
        self.session.on_pubcomp(packet_ids, now + self.engine.wall_offset)

    def _on_ack(self, packet: packets.Ack, now: float) -> None:
        """An acknowledgement with a reason code (MQTT 5)."""
        if packet.kind == PUBREC and packet.reason >= 0x80:
            assert self.session is not None
            self.session.on_pubrec_failed(packet.packet_id, now + self.engine.wall_offset)
        else:
            _ON_ACKS[packet.kind](self, [packet.packet_id], now)

    # -- the other packets -------------------------------------------------------------------------------

    def _on_subscribe(self, packet: packets.Subscribe, now: float) -> None:
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
        if self.state is State.OPEN and self.version == V5:
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
        was_open = self.state is State.OPEN
        self.state = State.CLOSED
        self.engine.roster.forget(self)
        self.blocked = True
        if was_open:
            self.engine.roster.depart(self, now)

    def unblocked(self, now: float) -> None:
        """The client takes data again."""
        self.blocked = False
        if self.session is not None:
            self.session.drain(now + self.engine.wall_offset)

    def _shut(self, now: float) -> None:
        was_open = self.state is State.OPEN
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


_Acks = Callable[[Connection, list[int], float], None]

_ON_ACKS: dict[int, _Acks] = {
    PUBACK: Connection._on_puback,
    PUBREC: Connection._on_pubrec,
    PUBREL: Connection._on_pubrel,
    PUBCOMP: Connection._on_pubcomp,
}

_HANDLERS: dict[type, Callable[[Connection, Any, float], None]] = {
    packets.Ack: Connection._on_ack,
    packets.Subscribe: Connection._on_subscribe,
    packets.Unsubscribe: Connection._on_unsubscribe,
    packets.PingReq: Connection._on_pingreq,
    packets.Disconnect: Connection._on_disconnect,
    packets.Auth: Connection._on_auth,
}
