"""The receiving half of a connection for PUBLISH: from a packet to the engine, and back to its acknowledgement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from broker.acks import AckGroup, AckQueue
from broker.admission import Admission
from broker.aliases import InboundAliases
from broker.audit import party_of, stranger
from broker.flow import Pause, State, Valve
from broker.joint import Joint
from broker.message import Message, OnceMessage
from broker.outlet import Outlet
from broker.ports import Action, Credentials, Peer, SessionStore, Transport
from broker.protocol import encode, packets
from broker.protocol.constants import PUBACK, PUBREC, V5, Reason
from broker.protocol.errors import ProtocolError
from broker.protocol.payload import wrong_format
from broker.refusals import WORDS, refusal
from broker.resolver import TOO_DEEP, TOO_LONG, Undecided, resolve
from broker.session import Session
from broker.subscriptions import Route

if TYPE_CHECKING:
    from broker.engine import Engine

_MISS = 16
"""What a topic costs that has no route yet, in messages of one that has."""


class Publisher(Outlet):
    """A client that publishes: what :class:`broker.connection.Connection` is besides."""

    __slots__ = (
        "_acks",
        "_aliases",
        "_batch",
        "_firsts",
        "_repeats",
        "_waiting",
        "credentials",
        "effort",
        "engine",
        "explains",
        "last_seen",
        "limits",
        "peer",
        "routes",
        "session",
        "state",
        "transport",
        "user",
        "valve",
        "version",
    )

    def __init__(self, engine: Engine, transport: Transport, now: float, peer: Peer) -> None:
        super().__init__(engine.dirty, engine.stats)
        self.engine = engine
        self.transport = transport
        self.peer = peer
        self.limits = peer.limits or engine.limits
        self.valve = Valve(transport)
        self.state = State.NEW
        self.version = 4
        self.session: Session | None = None
        self.credentials: Credentials | None = None
        self.user = ""
        self.explains = False
        """Whether the client takes reason strings on every packet [MQTT5 3.1.2.11.7]."""
        self.last_seen = now
        self.effort = 0
        """What this turn has cost beyond its messages: see :data:`broker.connection._TURN`."""
        self.routes: dict[bytes, Route] = {}
        """Topic as it is sent -> its route; one that is not valid any more has to be asked for again."""
        self._aliases: InboundAliases | None = None
        self._batch: list[tuple[Message, Route]] = []
        self._acks: list[bytes] = []
        self._repeats: tuple[int, ...] = ()
        """Which of the acknowledgements are for QoS 2 messages that came again."""
        self._firsts: tuple[AckGroup, ...] = ()
        """What these have to wait for besides: messages that came first, and that rules still work on."""
        self._waiting: AckQueue | None = None

    def fail(self, reason: int, now: float, detail: str = "") -> None:
        """End the connection for a reason."""
        raise NotImplementedError

    def ask(self, action: Action, topic: str) -> None:
        """Have the authority decide before the packet at hand is worked on."""
        raise NotImplementedError

    def wait_for_room(self) -> None:
        """Work on the packet at hand, and what is behind it, when the outbox may have room for it."""
        raise NotImplementedError

    def read_on(self, reason: Pause) -> None:
        """A reason to read nothing is gone; where it was the last, the client's silence counts from now on."""
        self.valve.resume(reason)
        if not self.valve.is_shut:
            self.last_seen = max(self.last_seen, self.engine.roster.now)

    @property
    def admission(self) -> Admission:
        """What counts this connection: its listener's own, or the node's."""
        return self.peer.admission or self.engine.admission

    def limited(self, limit: str, answer: str, count: int = 1) -> None:
        """The client met a limit (its key in the configuration): count it, and tell operators what was done."""
        bound = getattr(self.limits, limit, None)
        # Before CONNECT is accepted a name is a mere claim, and a flood of names is one client.
        who = stranger(self.peer) if self.state is State.NEW else party_of(self)
        self.engine.limit_log.hit(limit, bound, who, answer, count)

    def forget_rights(self) -> None:
        """What the client may do has changed: ask again."""
        self.routes.clear()

    def on_publish_run(self, run: packets.PublishRun, now: float) -> packets.PublishRun | None:
        """Deliver messages of one topic, or put them into the batch; those that are left for the next turn."""
        route = self.routes.get(run.topic)
        if route is None or not route.valid:
            route = self._resolve(run.topic, 0, False, now)
            if route is None:
                return None
        engine = self.engine
        whole = (
            not self._batch and not self.peer.mount_point and (run.size > run.payload_at or not route.nodes)
        )
        ruling = engine.ruling if whole and route.ruled and not route.refusal else None
        rest: packets.PublishRun | None = None
        if ruling is not None:
            run, rest = ruling.portion(run, route)
        stats = engine.stats
        stats.publish_received += run.count
        stats.payload_received += run.count * (run.size - run.payload_at)
        if route.refusal:
            self._count_refused(route, run.count)
        elif whole and route.simple:
            engine.runs.publish(run, route, self)
        elif ruling is None or not ruling.publish_run(run, route, self):
            self._unpack(run, route)
        return rest

    def _unpack(self, run: packets.PublishRun, route: Route) -> None:
        """Put messages into the batch one by one."""
        batch = self._batch
        topic = route.topic
        publisher = self.session.client_id if self.session else ""
        user = self.user
        for payload in run.payloads():
            batch.append((Message(topic, payload, 0, False, b"", 0.0, publisher, "", 0, user), route))

    def on_publish(self, packet: packets.Publish, now: float) -> None:
        """Put a message into the batch, and its acknowledgement beside it."""
        topic = packet.topic
        if packet.alias:
            resolved = self._resolve_alias(packet, now)
            if resolved is None:
                return
            topic = resolved
        route = self.routes.get(topic)
        if route is None or not route.valid:
            route = self._resolve(topic, packet.qos, packet.retain, now)
            if route is None:
                return
        session = self.session
        assert session is not None
        if packet.qos and self.version != V5 and self._waits_for_room(packet, session, route):
            return
        stats = self.stats
        stats.publish_received += 1
        stats.payload_received += len(packet.payload)
        if self.limits.check_payload_format and wrong_format(packet.properties, packet.payload):
            self._refuse_payload(packet, now)
            return
        qos = packet.qos
        if qos and not self._admit_reliable(packet, session, route, now):
            return
        if route.refusal:
            self._count_refused(route, 1)
            return
        expiry = packet.expiry
        disk = session.disk if qos == 2 else None
        message = (Message if disk is None else OnceMessage)(
            route.topic,
            packet.payload,
            qos,
            packet.retain,
            packet.properties,
            0.0 if expiry is None else now + self.engine.wall_offset + expiry,
            session.client_id,
            "",
            0,
            self.user,
        )
        if type(message) is OnceMessage:
            message.came(disk, packet.packet_id)
        self._batch.append((message, route))

    def _waits_for_room(self, packet: packets.Publish, session: Session, route: Route) -> bool:
        """Whether the outbox has no room for the message, and its client, which cannot be told, has to wait."""
        mesh = self.engine.mesh
        if mesh is None or route.refusal or (packet.qos == 2 and packet.packet_id in session.incoming):
            return False
        if not mesh.refuses(route.nodes, packet.retain, len(packet.payload)):
            return False
        self.wait_for_room()
        return True

    def _admit_reliable(self, packet: packets.Publish, session: Session, route: Route, now: float) -> bool:
        """Prepare the acknowledgement of a QoS 1 or 2 message; False where it must not be delivered."""
        packet_id = packet.packet_id
        if packet.qos == 2:
            if packet_id in session.incoming:
                # Received before and not yet released: acknowledge, deliver nothing [MQTT-4.3.3-10].
                if session.disk is not None:
                    self._await_first(session.disk, session.client_id, packet_id)
                self._repeats = (*self._repeats, len(self._acks))
                self._acks.append(encode.ack(PUBREC, self.version, packet_id))
                return False
            if len(session.incoming) >= self.limits.receive_maximum and self.version == V5:
                self.limited("receive_maximum", "DISCONNECT 0x93")
                self.fail(Reason.RECEIVE_MAXIMUM_EXCEEDED, now)
                return False
        if self.version == V5 and not route.refusal:
            limit = self._in_the_way(packet, session, route)
            if limit:
                self.limited(limit, "PUBLISH is answered by 0x97")
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

    def _await_first(self, disk: SessionStore, client_id: str, packet_id: int) -> None:
        """A QoS 2 message came again: what came first may still be with the rules, or on its way to the disk."""
        ruling = self.engine.ruling
        group = ruling.at_work.get((client_id, packet_id)) if ruling is not None else None
        if group is None:
            disk.received(packet_id)
        else:
            self._firsts = (*self._firsts, group)

    def _in_the_way(self, packet: packets.Publish, session: Session, route: Route) -> str:
        """The limit by which the message cannot be kept, or empty; for publishers that can be told."""
        engine = self.engine
        if packet.retain and packet.payload:
            limit = engine.retained.bound(route.topic, len(packet.payload))
            if limit:
                return limit
        if engine.mesh is not None and engine.mesh.refuses(route.nodes, packet.retain, len(packet.payload)):
            return "outbox_full"
        return "disk_reserve" if engine.is_refused_by_disk(session, packet, route) else ""

    def _count_refused(self, route: Route, count: int) -> None:
        """Messages are heard by nobody: the client may not publish there, or their topic is no good."""
        if route is TOO_LONG:
            self.limited("max_topic_length", "not delivered, 0x90", count)
        elif route is TOO_DEEP:
            self.limited("max_topic_levels", "not delivered, 0x90", count)
        else:
            self.stats.publish_denied += count

    def _refuse_payload(self, packet: packets.Publish, now: float) -> None:
        """The payload is not what its format indicator says [MQTT5 3.3.2.3.2]."""
        reason = Reason.PAYLOAD_FORMAT_INVALID
        self.stats.payload_refused += 1
        if packet.qos == 0:
            self.fail(reason, now, WORDS[reason])
        else:
            self._refuse(packet, reason)

    def _refuse(self, packet: packets.Publish, reason: int) -> None:
        assert self.session is not None
        self._acks.append(refusal(packet, reason, self.explains, self.session.max_packet))

    def publish_batch(self, now: float) -> None:
        """Publish what the chunk brought so far, and acknowledge it, or have that wait for the disk."""
        batch = self._batch
        acks = self._acks
        self._batch = []
        on_safe: Callable[[], None] | None = None
        if acks or (self.engine.ruling is not None and any(route.stages for _, route in batch)):
            # Without acknowledgements, too: rules that are slow hold the publisher up, whatever its QoS.
            self._acks = []
            group = AckGroup(acks, batch, self._repeats)
            self._repeats = ()
            on_safe = partial(self._release, group)
        if self._firsts:
            waits = self._publish_behind_firsts(batch, now, on_safe)
        else:
            waits = self.engine.publish(batch, now, on_safe)
        if not (acks or waits) or on_safe is None or self.state is not State.OPEN:
            return
        if not waits and not self._waiting:
            for ack in acks:
                self.send(ack)
            return
        group.ready = not waits
        if waits and self.engine.ruling is not None and self.session is not None:
            self.engine.ruling.note_work(self.session.client_id, batch, group)
        self._wait_with(group)

    def _publish_behind_firsts(
        self, batch: list[tuple[Message, Route]], now: float, on_safe: Callable[[], None] | None
    ) -> bool:
        firsts, self._firsts = self._firsts, ()
        safe = Joint(on_safe, 1 + len(firsts))
        for group in firsts:
            group.then.append(safe.arrived)
        if not self.engine.publish(batch, now, safe.arrived):
            safe.arrived()
        return True

    def send_when_safe(self, packets: list[bytes], disk: SessionStore) -> None:
        """Send packets, in order, once all that the session handed to its store is safe."""
        group = AckGroup(packets)
        self._wait_with(group)
        disk.commit(lambda now: self._release(group))

    def waits_for_rules(self) -> Callable[[], None]:
        """What has just come is worked on elsewhere; to be called when it is through."""
        group = AckGroup([])
        self._wait_with(group)
        # What comes meanwhile comes in one piece then, which costs less.
        self.valve.pause(Pause.ACKNOWLEDGEMENTS)
        return partial(self._release, group)

    def _wait_with(self, group: AckGroup) -> None:
        if self._waiting is None:
            self._waiting = AckQueue()
        self._waiting.add(group)
        if self._waiting.full or self.engine.behind:
            self.valve.pause(Pause.ACKNOWLEDGEMENTS)

    def _release(self, group: AckGroup) -> None:
        """What the group acknowledges is safe: send it, and those behind it that waited for their turn."""
        group.is_safe()
        waiting = self._waiting
        if self.state is State.CLOSED or not waiting:
            return
        for ack in waiting.take_ready():
            self.send(ack)
        if waiting.relaxed:
            self.read_on(Pause.ACKNOWLEDGEMENTS)
        self.engine.flush()

    def refuse_waiting(self) -> None:
        """The disk does not take what was published: tell a client of version 5; others wait until it does."""
        waiting = self._waiting
        if self.version != V5 or self.state is not State.OPEN or not waiting:
            return
        for group in waiting.take_refusable():
            if not group.ready:
                self._withdraw(group)
            for ack in group.acks:
                self.send(ack)
        for ack in waiting.take_ready():
            self.send(ack)
        if waiting.relaxed:
            self.read_on(Pause.ACKNOWLEDGEMENTS)

    def _withdraw(self, group: AckGroup) -> None:
        session = self.session
        assert session is not None
        for message, _ in group.batch or ():
            # A retained message has replaced the one before it: when its publisher tries again nothing changes.
            if message.qos and not message.retain:
                message.withdraw()
        for number, ack in enumerate(group.acks):
            if len(ack) > 4 and ack[4] >= Reason.UNSPECIFIED_ERROR:
                continue
            packet_id = int.from_bytes(ack[2:4], "big")
            if ack[0] >> 4 == PUBREC:
                session.forget_incoming(packet_id)
            group.acks[number] = encode.ack(ack[0] >> 4, V5, packet_id, Reason.QUOTA_EXCEEDED)

    def _resolve(self, raw: bytes, qos: int, retain: bool, now: float) -> Route | None:
        """The route of a topic; None where we closed, or have to wait for the authority."""
        self.effort += _MISS
        try:
            return resolve(self, raw, qos, retain)
        except ProtocolError as error:
            self.fail(error.reason, now, error.detail)
        except Undecided as question:
            self.ask(Action.PUBLISH, question.args[0])
        return None

    def _resolve_alias(self, packet: packets.Publish, now: float) -> bytes | None:
        """The topic that a Topic Alias stands for; None where it stands for none, and we closed."""
        if self._aliases is None:
            self._aliases = InboundAliases(self.limits.topic_alias_maximum)
        topic = self._aliases.resolve(packet.alias, packet.topic)
        if isinstance(topic, int):
            if topic == Reason.TOPIC_ALIAS_INVALID:
                self.limited("topic_alias_maximum", "DISCONNECT 0x94")
            self.fail(topic, now)
            return None
        return topic
