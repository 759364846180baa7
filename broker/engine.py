"""The use cases of a node: publish, deliver, subscribe, expire. No I/O; who stands behind the ports is not known.

``now`` is in seconds of the event loop's clock; ``wall_offset`` added to it gives wall-clock seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from broker.admission import Admission
from broker.audit import Audit
from broker.clock_jump import JUMP, owed, shift
from broker.connection import Connection
from broker.crossings import Crossings
from broker.crowd import Crowd
from broker.flow import Turns
from broker.joint import Joint
from broker.limit_log import LimitLog
from broker.limits import Limits
from broker.message import Message, OnceMessage, Run
from broker.outlet import Outlet
from broker.ports import (
    Action,
    Authority,
    Journal,
    Mesh,
    Outbound,
    Pipeline,
    Stage,
    Store,
    StoredSession,
)
from broker.protocol import encode
from broker.protocol.constants import Reason
from broker.protocol.packets import Publish, Subscribe, Subscription, Unsubscribe
from broker.protocol.topics import split_share
from broker.publisher import Publisher
from broker.retained import Retained
from broker.rights import Rights
from broker.roster import Roster
from broker.ruling import Ruling
from broker.runs import Runs
from broker.session import Session
from broker.stats import Stats
from broker.subscriptions import Held, Receiver, Route, ShareGroup, Subscriptions

Batch = list[tuple[Message, Route]]

_SQUEEZED = 1.0
"""Messages a second that each client may publish while the node is overloaded."""

_NOT_ALL = "not all of these could be subscribed to"


class Engine:
    """One node's broker."""

    def __init__(
        self,
        limits: Limits,
        authority: Authority,
        pipeline: Pipeline | None,
        now: float,
        wall: float,
        journal: Journal | None = None,
        stats: Stats | None = None,
    ) -> None:
        self.limits = limits
        self.authority = authority
        self.ruling = Ruling(self, pipeline) if pipeline is not None else None
        self.mesh: Mesh | None = None
        self.store: Store | None = None
        self.crossings: Crossings | None = None
        self.wall_offset = wall - now
        self.stats = stats or Stats()
        self.dirty: list[Outlet] = []
        self.rights = Rights(self)
        self.subscriptions = Subscriptions(
            pipeline.stages if pipeline else _no_stages,
            merged=limits.overlapping == "merged",
            permits=self.rights.permits if authority.guards_delivery else None,
        )
        self.retained = Retained(limits.retained_max_messages, limits.retained_max_bytes)
        self.admission = Admission(limits)
        self.turns = Turns()
        self.audit = Audit(journal, authority)
        self.limit_log = LimitLog(self.stats, journal)
        self.is_overloaded = False
        """Whether the node has more to do than it can; new clients are asked to come later."""
        self.roster = Roster(self, now)
        self.runs = Runs(self)
        self.crowd = Crowd()
        self._interest: dict[str, set[str]] = {}
        self._last_stamp = 0

    def have_rules(self, pipeline: Pipeline) -> None:
        """From now on there are rules, where there were none."""
        self.ruling = Ruling(self, pipeline)
        self.subscriptions.have_stages(pipeline.stages)

    # -- publishing --------------------------------------------------------------------------------------

    def publish(self, batch: Batch, now: float, on_safe: Callable[[], None] | None) -> bool:
        """Publish what local clients sent, in order: rules, retained store, local sessions, other nodes.

        True when something in it is not yet safe; ``on_safe`` is then called later (see
        :meth:`broker.ports.Mesh.forward`).
        """
        ruling = self.ruling
        if ruling is not None:
            for _, route in batch:
                if route.stages & (Stage.INGRESS | Stage.STORE):
                    return ruling.publish(batch, now, on_safe)
        return self.distribute(batch, now, on_safe)

    def distribute(self, batch: Batch, now: float, on_safe: Callable[[], None] | None) -> bool:
        """:meth:`publish` behind the rules."""
        wall = now + self.wall_offset
        outbound: list[Outbound] = []
        crossing: list[Outbound] = []
        meshed = self.mesh is not None
        keeps = False
        for message, route in batch:
            if message.retain:
                self._retain(message, wall)
                keeps = keeps or message.qos > 0
            self.deliver(message, route, wall)
            if type(message) is OnceMessage:
                message.settle()
            if meshed and (route.nodes or (message.retain and message.topic[0] != "$")):
                # What is behind such a message must not overtake it.
                chosen = crossing if self._crosses(message, bool(crossing)) else outbound
                chosen.append(Outbound(message, route.nodes))
        store = self.store
        if store is not None:
            keeps = keeps or store.owes
            store.owes = False
            if crossing or (keeps and on_safe is not None):
                return self._publish_durably(store, outbound, crossing, on_safe)
        if outbound and self.mesh is not None:
            self.stats.publish_to_mesh += len(outbound)
            return self.mesh.forward(outbound, on_safe)
        return False

    def _publish_durably(
        self,
        store: Store,
        outbound: list[Outbound],
        crossing: list[Outbound],
        on_safe: Callable[[], None] | None,
    ) -> bool:
        """What the node keeps is acknowledged when it is on disk, and safe for the other nodes, too."""
        safe = Joint(on_safe, 2)
        if crossing and self.crossings is not None:
            self.stats.publish_to_mesh += len(crossing)
            safe.expect(1)
            self.crossings.begin(crossing, safe.arrived)
        store.commit(safe.arrived)
        waits = False
        if outbound and self.mesh is not None:
            self.stats.publish_to_mesh += len(outbound)
            waits = self.mesh.forward(outbound, safe.arrived)
        if not waits:
            safe.arrived()
        return True

    def _crosses(self, message: Message, is_behind: bool) -> bool:
        """Whether a message on its way to other nodes has to be in the store first, or behind one that has to.

        ``is_behind`` where one of its own batch has to.
        """
        crossings = self.crossings
        if crossings is None or not (message.qos or message.retain):
            return False
        return is_behind or type(message) is OnceMessage or message.publisher in crossings.busy

    def publish_one(self, message: Message, now: float) -> None:
        """Publish a message of the node's own, or a will."""
        self.publish([(message, self.subscriptions.route(message.topic))], now, None)

    def deliver_here(self, messages: Sequence[Message], now: float) -> None:
        """Deliver to local sessions only, past all rules."""
        for message in messages:
            self.deliver(message, self.subscriptions.route(message.topic), now + self.wall_offset)
        self.flush()

    @property
    def behind(self) -> bool:
        """Whether the disk, or the rules, do not keep up with what is published."""
        store, ruling = self.store, self.ruling
        return (store is not None and store.behind) or (ruling is not None and ruling.behind)

    def _retain(self, message: Message, now: float) -> None:
        if self.mesh is not None:
            message.stamp = self.mesh.stamp()
        else:
            self._last_stamp = max(self._last_stamp + 1, int(now * 1000) << 16)
            message.stamp = self._last_stamp
        if not self._keep(message, now):
            limit = self.retained.bound(message.topic, len(message.payload))
            if limit:
                bound = getattr(self.limits, limit)
                who = self.roster.party(message.publisher)
                self.limit_log.hit(limit, bound, who, "delivered, and not retained")

    def _keep(self, message: Message, now: float) -> bool:
        """Put a message among the retained ones, here and on disk; False where a newer one is known, or no room."""
        kept = self.retained.put(message, now)
        if kept and self.store is not None and message.topic[0] != "$":
            self.store.retain(message)
        return kept

    def is_refused_by_disk(self, session: Session, packet: Publish, route: Route) -> bool:
        """Whether a message above QoS 0 needs a disk that takes nothing at the moment."""
        store, mesh = self.store, self.mesh
        if (store is None or not store.failing) and (mesh is None or not mesh.failing):
            return False
        return (
            packet.retain
            or (packet.qos == 2 and session.disk is not None)
            or any(receiver.session.disk is not None for receiver in route.receivers)
            or bool(route.groups)
            or (mesh is not None and bool(route.nodes) and mesh.has_to_keep(route.nodes))
        )

    def restore(self, messages: Iterable[Message], now: float) -> int:
        """Take back what an earlier process kept; how many. ``now`` is in wall-clock seconds."""
        count = 0
        for message in messages:
            if not message.expires_at or message.expires_at > now:
                count += self.retained.put(message, now)
                self._last_stamp = max(self._last_stamp, message.stamp)
        return count

    def restore_session(self, stored: StoredSession, store: Store, now: float) -> None:
        """Take back a session of an earlier process. ``now`` is in seconds of the event loop's clock."""
        session = self.roster.restore(stored, store.session(stored.key), now)
        if session is None:
            return
        assert session.credentials is not None
        assert session.disk is not None
        for name, held in stored.subscriptions:
            if self.authority.may_subscribe(session.credentials, held.topic_filter, held.qos) is False:
                self.rights.ended(session.credentials, held)
                session.disk.unsubscribe(name)
            else:
                session.subscriptions[name] = held
                self.subscriptions.add(session, held)

    # -- delivering --------------------------------------------------------------------------------------

    def deliver(self, message: Message, route: Route, now: float) -> None:
        """Deliver to all local sessions that want it; ``now`` in wall-clock seconds."""
        for receiver in route.receivers:
            self.deliver_to(receiver, message, now)
        for group in route.groups:
            self.deliver_to_group(group, message, now)
        for receiver in route.undecided:
            self.rights.defer(receiver, message)
        if route.denied:
            self.stats.receive_denied += route.denied

    def deliver_to_group(self, group: ShareGroup, message: Message, now: float) -> None:
        """Deliver to one member, once the authority has decided on all; ``now`` in wall-clock seconds."""
        permits = self.subscriptions.permits
        if permits is not None and self.rights.must_wait(group, message.topic):
            self.rights.defer(group, message)
            return
        chosen = group.choose(message.topic, permits)
        if chosen is not None:
            self.deliver_to(chosen, message, now)

    @staticmethod
    def deliver_to(receiver: Receiver, message: Message, now: float) -> None:
        """Deliver as the receiver's subscriptions ask for; ``now`` in wall-clock seconds."""
        session = receiver.session
        if receiver.no_local and session.client_id == message.publisher:
            return
        qos = message.qos
        qos = min(qos, receiver.qos)
        # The flag is for a new subscription's first messages, unless asked for otherwise [MQTT-3.3.1-12].
        session.deliver(message, qos, message.retain and receiver.retain_as_published, receiver.extra, now)

    def flush(self) -> None:
        """One write per connection that was touched, in the order of their first bytes: receivers before acks."""
        dirty = self.dirty
        sent = 0
        for outlet in dirty:
            out = outlet.out
            if out:
                data = out[0] if len(out) == 1 else b"".join(out)
                out.clear()
                sent += len(data)
                outlet.write(data)
        dirty.clear()
        self.stats.bytes_sent += sent

    # -- subscribing -------------------------------------------------------------------------------------

    def subscribe(self, connection: Connection, packet: Subscribe, now: float) -> None:
        """Grant subscriptions, answer SUBACK, then send the retained messages they ask for [MQTT-3.8.4-1]."""
        session = connection.session
        assert session is not None
        reasons: list[int] = []
        owed: list[Held] = []
        for asked in packet.subscriptions:
            reason, fresh = self._grant(connection, session, asked, packet.identifier)
            reasons.append(reason)
            wanted = asked.retain_handling == 0 or (asked.retain_handling == 1 and fresh)
            if reason <= 2 and wanted and session.subscriptions[asked.topic_filter].group is None:
                owed.append(session.subscriptions[asked.topic_filter])
        denied = connection.explains and max(reasons) >= Reason.UNSPECIFIED_ERROR
        answer = encode.suback(session.version, packet.packet_id, reasons, _NOT_ALL if denied else "")
        if denied and session.max_packet and len(answer) > session.max_packet:
            # Words are left out where they would make the packet too large [MQTT-3.9.2-1].
            answer = encode.suback(session.version, packet.packet_id, reasons)
        connection.answer(answer)
        for held in owed:
            self._send_retained(session, held, now + self.wall_offset)

    def _grant(
        self, connection: Connection, session: Session, asked: Subscription, identifier: int
    ) -> tuple[int, bool]:
        """(reason code, whether the subscription is a new one)."""
        group, topic_filter = split_share(asked.topic_filter)
        limits = connection.limits
        limit = limits.topic_bound(topic_filter, len(asked.topic_filter.encode()))
        if limit:
            connection.limited(limit, "SUBSCRIBE is answered by 0x8f")
            return Reason.TOPIC_FILTER_INVALID, False
        most = limits.max_subscriptions
        if most and len(session.subscriptions) >= most and asked.topic_filter not in session.subscriptions:
            connection.limited("max_subscriptions", "SUBSCRIBE is answered by 0x97")
            return Reason.QUOTA_EXCEEDED, False
        topic_filter = connection.peer.mount_point + topic_filter
        assert connection.credentials is not None
        if not self.authority.may_subscribe(connection.credentials, topic_filter, asked.qos):
            self.stats.subscribe_denied += 1
            self.audit.denied(connection.credentials, Action.SUBSCRIBE, topic_filter, asked.qos)
            return Reason.NOT_AUTHORIZED, False
        held = Held(topic_filter, asked.qos, asked.no_local, asked.retain_as_published, identifier, group)
        fresh = asked.topic_filter not in session.subscriptions
        session.subscriptions[asked.topic_filter] = held
        if session.disk is not None:
            session.disk.subscribe(asked.topic_filter, held)
        if self.subscriptions.add(session, held) and self.mesh is not None:
            self.mesh.interest_added(topic_filter)
        return asked.qos, fresh

    def _send_retained(self, session: Session, held: Held, now: float) -> None:
        receiver = Receiver(session, held)
        permits = self.subscriptions.permits
        for message in self.retained.match(held.topic_filter, now):
            if held.no_local and message.publisher == session.client_id:
                continue
            if permits is not None:
                allowed = permits(session, message.topic)
                if allowed is None:
                    self.rights.ask_for_retained(receiver, message)
                if not allowed:
                    self.stats.receive_denied += allowed is False
                    continue
            session.deliver(message, min(held.qos, message.qos), True, receiver.extra, now)

    def overloaded(self, active: bool, now: float) -> None:
        """The node has more to do than it can, or no longer: new clients wait, those that are here publish slowly."""
        if active == self.is_overloaded:
            return
        self.is_overloaded = active
        self.stats.overloads += active
        for connection in self.roster.connections():
            connection.squeeze(_SQUEEZED if active else 0.0, now)

    def note(self, event: str, connection: Publisher, detail: str) -> None:
        """Tell operators about a client."""
        self.audit.note(event, connection, detail)

    def refused(self, address: str, listener: str, why: str) -> None:
        """A connection ended before its first packet."""
        self.stats.connections_refused += 1
        self.audit.stranger(address, listener, why)

    # -- subscribing, the end ----------------------------------------------------------------------------

    def unsubscribe(self, connection: Connection, packet: Unsubscribe) -> None:
        """Take subscriptions back and answer UNSUBACK [MQTT-3.10.4-4]."""
        session = connection.session
        assert session is not None
        reasons: list[int] = []
        for topic_filter in packet.topic_filters:
            held = session.subscriptions.pop(topic_filter, None)
            if held is None:
                reasons.append(Reason.NO_SUBSCRIPTION_EXISTED)
            else:
                if session.disk is not None:
                    session.disk.unsubscribe(topic_filter)
                self.release(session, held)
                reasons.append(Reason.SUCCESS)
        connection.answer(encode.unsuback(session.version, packet.packet_id, reasons))

    def release(self, session: Session, held: Held) -> None:
        """A session gave up a subscription."""
        if self.subscriptions.remove(session, held) and self.mesh is not None:
            self.mesh.interest_removed(held.topic_filter)

    def hand_on(self, held: Held, message: Message, now: float) -> None:
        """A member of a shared subscription left without having taken a message: it is the next one's."""
        group = self.subscriptions.group(held)
        if group is not None:
            self.deliver_to_group(group, message, now + self.wall_offset)

    # -- what the mesh asks for (broker.ports.LocalNode, but for the clock) ----------------------------------

    def remote_interest(self, node: str, added: Iterable[str], removed: Iterable[str]) -> None:
        """Another node's interest changed."""
        held = self._interest.setdefault(node, set())
        for topic_filter in added:
            held.add(topic_filter)
            self.subscriptions.add_node(node, topic_filter)
        for topic_filter in removed:
            held.discard(topic_filter)
            self.subscriptions.remove_node(node, topic_filter)

    def remote_gone(self, node: str) -> None:
        """Forget all interest of a node."""
        for topic_filter in self._interest.pop(node, ()):
            self.subscriptions.remove_node(node, topic_filter)

    def deliver_from_mesh(self, batch: Sequence[Message | Run], now: float) -> None:
        """Deliver what other nodes sent to local sessions only, in order."""
        wall = now + self.wall_offset
        single = 0
        queued = self.stats.queued_messages
        route_of = self.subscriptions.route
        for message in batch:
            if isinstance(message, Run):
                self.runs.deliver_from_mesh(message, now)
                continue
            single += 1
            route = route_of(message.topic)
            if message.retain:
                self._keep(message, wall)
            elif not (route.receivers or route.groups or route.undecided):
                self.stats.publish_unwanted += 1
            self.deliver(message, route, wall)
        self.stats.publish_from_mesh += single
        if self.stats.queued_messages > queued:
            self.crowd.note(self._reached({message.topic for message in batch}), now)
        self.flush()

    def _reached(self, topics: Iterable[str]) -> Iterator[Session]:
        for topic in topics:
            route = self.subscriptions.route(topic)
            for receiver in route.receivers:
                yield receiver.session
            for group in route.groups:
                yield from group.members

    def retained_from_mesh(self, batch: Sequence[Message], now: float) -> None:
        """Store retained messages of other nodes, where they are newer than what is known."""
        for message in batch:
            self._keep(message, now + self.wall_offset)

    def local_filters(self) -> Iterable[str]:
        """The distinct topic filters that local sessions hold now."""
        return self.subscriptions.local_filters()

    def retained_messages(self) -> Iterable[Message]:
        """Every retained message that may be told to other nodes, and the tombstones."""
        for messages in (self.retained.messages(), self.retained.tombstones()):
            for message in messages:
                if message.topic[0] != "$":
                    yield message

    # -- time --------------------------------------------------------------------------------------------

    def take_turns(self, now: float) -> None:
        """Let each connection that has more to do go on for one turn."""
        for connection in self.turns.take():
            connection.take_turn(now)
        self.flush()

    def tick(self, now: float, wall: float) -> None:
        """About once a second: what is overdue ends."""
        jump = wall - now - self.wall_offset
        self.wall_offset = wall - now
        if abs(jump) >= JUMP:
            self._clock_jumped(jump)
        self.roster.tick(now)
        self.limit_log.tick(now)
        self.retained.expire(wall)
        self.flush()

    def _clock_jumped(self, by: float) -> None:
        kept = chain(self.retained.messages(), owed(self.roster))
        if self.store is not None:
            kept = chain(kept, self.store.clock_jumped(by))
        shift(kept, by)

    def stop(self, now: float) -> None:
        """Tell every client that the node stops."""
        self.roster.dismiss(now)
        self.flush()


def _no_stages(topic: str) -> int:
    return 0
