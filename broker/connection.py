"""One client's connection: takes the bytes that arrived, does what its packets ask, collects the answers.

No I/O: the transport is a port, and the time (``now``, seconds of the event loop's clock) is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.message import Message
from broker.outlet import Outlet
from broker.ports import Credentials, Decision, Transport
from broker.protocol import encode, packets
from broker.protocol.constants import PUBACK, PUBCOMP, PUBREC, PUBREL, V5, Prop, Reason
from broker.protocol.decode import Decoder
from broker.protocol.errors import ProtocolError, UnsupportedVersion
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

    NEW = "awaiting CONNECT"
    AUTHENTICATING = "awaiting the authority"
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
        "_backlog",
        "_batch",
        "_decoder",
        "_routes",
        "_waiting",
        "address",
        "credentials",
        "engine",
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
        super().__init__(engine.dirty)
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
        self.last_seen = now
        self.paused = False
        self._decoder = Decoder(engine.limits.max_packet_size)
        self._routes: dict[bytes, Route] = {}
        self._aliases: dict[int, bytes] | None = None
        self._backlog: list[Any] = []
        self._batch: list[tuple[Message, Route]] = []
        self._acks: list[bytes] = []
        self._waiting: deque[_AckGroup] | None = None

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        self.transport.write(data)

    # -- what arrives ------------------------------------------------------------------------------------

    def receive(self, chunk: bytes, now: float) -> None:
        """Work on bytes from the client. The caller flushes the engine afterwards."""
        self.last_seen = now
        self.engine.stats.bytes_received += len(chunk)
        arrived = self._decoder.feed(chunk)
        if self.state is State.OPEN:
            self._handle(arrived, now)
        elif arrived:
            self._receive_early(arrived, now)

    def _receive_early(self, arrived: list[Any], now: float) -> None:
        if self.state is State.AUTHENTICATING:
            self._backlog.extend(arrived)
        elif self.state is State.NEW:
            first = arrived[0]
            if isinstance(first, ProtocolError):
                self._refuse_unreadable(first)
                return
            self._backlog = arrived[1:]
            self._on_connect(first)

    def _handle(self, arrived: list[Any], now: float) -> None:
        for packet in arrived:
            kind = packet.__class__
            if kind is packets.PublishRun:
                self._on_publish_run(packet, now)
            elif kind is packets.Publish:
                self._on_publish(packet, now)
            elif kind is packets.AckRun:
                _ON_ACKS[packet.kind](self, packet.packet_ids, now)
            else:
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
        engine.stats.publish_received += run.count
        if route.simple and not self._batch:
            if route is DENIED:
                engine.stats.publish_denied += run.count
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
        self.engine.stats.publish_received += 1
        qos = packet.qos
        if qos and not self._admit_reliable(packet, session, route, now):
            return
        if route is DENIED:
            self.engine.stats.publish_denied += 1
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
            reason = Reason.NOT_AUTHORIZED if denied else Reason.NO_MATCHING_SUBSCRIBERS
            if packet.qos == 2 and not denied:
                session.remember_incoming(packet_id)
            self._acks.append(encode.ack(PUBACK if packet.qos == 1 else PUBREC, V5, packet_id, reason))
            return True
        if packet.qos == 2:
            session.remember_incoming(packet_id)
            self._acks.append(b"\x50\x02" + packet_id.to_bytes(2, "big"))
        else:
            self._acks.append(b"\x40\x02" + packet_id.to_bytes(2, "big"))
        return True

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
        if topic.startswith("$SYS/") or not self.engine.authority.may_publish(self.credentials, topic):
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

    def _on_connect(self, packet: packets.Connect) -> None:
        self.version = packet.version
        reason = self.engine.roster.objection(packet)
        if reason:
            self.refuse(reason)
            return
        self.credentials = Credentials(
            packet.client_id, packet.username, packet.password, self.address, self.listener
        )
        self.state = State.AUTHENTICATING
        self.engine.authority.authenticate(self.credentials, partial(self._on_decision, packet))

    def _on_decision(self, packet: packets.Connect, decision: Decision) -> None:
        if self.state is not State.AUTHENTICATING:
            return
        if decision.reason:
            self.refuse(decision.reason)
        else:
            now = self.last_seen
            self.state = State.OPEN
            self.engine.roster.admit(self, packet, now)
            backlog, self._backlog = self._backlog, []
            if self.state is State.OPEN:
                self._handle(backlog, now)
        self.engine.flush()

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
        # No authentication method was agreed on at CONNECT, so AUTH has no place [MQTT5 4.12].
        self.fail(Reason.PROTOCOL_ERROR, now)

    def _on_error(self, error: ProtocolError, now: float) -> None:
        self.fail(error.reason, now, error.detail)

    # -- the end -----------------------------------------------------------------------------------------

    def refuse(self, reason: int) -> None:
        """Answer CONNECT with a refusal and close."""
        self.engine.stats.connections_refused += 1
        self.send(encode.connack(self.version, False, reason, {}))
        self.state = State.CLOSED
        self._finish()

    def _refuse_unreadable(self, error: ProtocolError) -> None:
        """A first packet that is no CONNECT gets no answer; a CONNECT that is wrong may [MQTT-3.1.4-1]."""
        self.engine.stats.connections_refused += 1
        self.state = State.CLOSED
        if isinstance(error, UnsupportedVersion):
            self.send(encode.connack(V5 if error.version > V5 else 4, False, error.reason, {}))
        elif self._decoder.version == V5:
            self.send(encode.connack(V5, False, error.reason, {Prop.REASON_STRING: error.detail}))
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
