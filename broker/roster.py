"""Who is here and who was: sessions from CONNECT over disconnection to expiry, and the wills on the way."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from broker.audit import party
from broker.bucket import Meters
from broker.connection import Connection
from broker.flow import Pause, State
from broker.ports import Party, SessionStore, Stored, StoredSession, StoredWill
from broker.protocol import encode
from broker.protocol.constants import V5, Prop, Reason
from broker.protocol.packets import Connect
from broker.protocol.properties import Properties
from broker.queue import LOAD
from broker.ration import Budget
from broker.session import NEVER, Session, orphans
from broker.timers import Agenda, Wheel
from broker.wills import Wills, will_delay

if TYPE_CHECKING:
    from broker.engine import Engine


_IN_THE_WAY = {
    "connection_rate": Reason.CONNECTION_RATE_EXCEEDED,
    "connection_rate_per_address": Reason.CONNECTION_RATE_EXCEEDED,
}


class Roster:
    """The sessions of a node by client identifier. ``now`` is in seconds of the event loop's clock."""

    def __init__(self, engine: Engine, now: float) -> None:
        self._engine = engine
        self._sessions: dict[str, Session] = {}
        self._connections: dict[str, Connection] = {}
        self._expiring: Agenda[str, str] = Agenda()
        self._wills = Wills(engine)
        self._wheel: Wheel[Connection] = Wheel(now)
        self._throttled: Agenda[Connection, Connection] = Agenda()
        self._stalled: dict[Connection, float] = {}
        """Clients that take nothing, and since when."""
        self._doomed: dict[Connection, None] = {}
        self._without_room: dict[Connection, None] = {}
        """Clients whose next message would have to wait for another node, where nothing more can."""
        self._meters = Meters()
        self.budget = Budget()
        self.now = now
        """When the last tick was."""

    @property
    def connected(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def party(self, client_id: str) -> Party:
        """Who a client is, for operators; its identifier alone where nobody here has it."""
        session = self._sessions.get(client_id)
        known = session is not None and session.credentials
        return party(known) if known else Party(client_id)

    # -- arrival -----------------------------------------------------------------------------------------

    def refuse_waiting(self) -> None:
        """The disk has failed, now or again: clients of version 5 that wait for it are told (0x97)."""
        for connection in self.connections():
            connection.refuse_waiting()
        self._engine.flush()

    def connections(self) -> Iterator[Connection]:
        """The connections that are open."""
        return iter(list(self._connections.values()))

    def greet(self, connection: Connection, now: float) -> None:
        """A network connection was made: it has a while to send CONNECT."""
        connection.admission.arrived(connection, connection.peer.address)
        connection.slot = self._wheel.schedule(connection, now + connection.limits.connect_timeout)

    def forget(self, connection: Connection) -> None:
        """The connection is over: no time is watched for it any more."""
        self._wheel.cancel(connection, connection.slot)
        self._throttled.cancel(connection)
        self._stalled.pop(connection, None)
        self._doomed.pop(connection, None)
        self._without_room.pop(connection, None)
        connection.admission.left(connection, connection.peer.address)

    def objection(self, connection: Connection, packet: Connect, now: float) -> int:
        """Why a CONNECT cannot be accepted, as a reason code, or 0; asked before who the client is."""
        if self._engine.is_overloaded:
            connection.limited("overload", "CONNECT is answered by 0x89")
            return Reason.SERVER_BUSY
        old = self._connections.get(packet.client_id)
        address, admission = connection.peer.address, connection.admission
        replaces = (
            old is not None
            and old.peer.address == address
            and old.admission.per_address is admission.per_address
        )
        limit = admission.objection(address, now, replaces) or self._full(packet.client_id)
        if limit:
            reason = _IN_THE_WAY.get(limit, Reason.QUOTA_EXCEEDED)
            connection.limited(limit, f"CONNECT is answered by 0x{reason:02x}")
            return reason
        if packet.will is not None:
            limit = connection.limits.topic_bound(packet.will.topic, len(packet.will.topic.encode()))
            if limit:
                connection.limited(limit, "CONNECT is answered by 0x90")
                return Reason.TOPIC_NAME_INVALID
        if not packet.client_id and packet.version < V5 and (packet.version == 3 or not packet.clean_start):
            # Only a client of 3.1.1 that keeps nothing may leave the name to us [MQTT-3.1.3-8].
            return Reason.CLIENT_IDENTIFIER_NOT_VALID
        return 0

    def admit(self, connection: Connection, packet: Connect, proof: Properties, now: float) -> None:
        """Give the connection its session, answer CONNACK, send again what is owed [MQTT-3.1.4-2..5].

        ``proof`` are the properties with which an enhanced authentication ends.
        """
        # Others may have been let in while the password was checked.
        limit = self._full(packet.client_id) or self._full_for_user(connection, packet.client_id)
        if limit:
            connection.limited(limit, "CONNECT is answered by 0x97")
            connection.state = State.NEW
            connection.refuse(Reason.QUOTA_EXCEEDED)
            return
        client_id = packet.client_id or f"geomq-{secrets.token_hex(12)}"
        self._take_over(client_id, packet.clean_start, now)
        left = self._meters.take(client_id)
        if left is not None and connection.meter is not None:
            connection.meter.inherit(left, now)
        session = self._sessions.get(client_id)
        if session is not None and packet.clean_start:
            self._end(session, now)
            session = None
        present = session is not None
        if session is None:
            session = self._sessions[client_id] = self._new_session(client_id)
        self._expiring.cancel(client_id)
        self._agree(session, connection, packet)
        self._keep(session, 0.0)
        self._wills.given(client_id, connection.will, connection)
        self._connections[client_id] = connection
        self._count_user(connection, 1)
        connection.admission.half_open.discard(connection)
        stats = self._engine.stats
        stats.connections_accepted += 1
        stats.clients_maximum = max(stats.clients_maximum, len(self._connections))
        properties: Properties = {}
        if packet.version == V5:
            properties = self._terms(session, connection, packet, client_id) | proof
        connack = encode.connack(packet.version, present, Reason.SUCCESS, properties)
        if session.max_packet and len(connack) > session.max_packet:
            self._turn_away(session, connection, now)
            return
        connection.send(connack)
        self._wheel.cancel(connection, connection.slot)
        if connection.keep_alive:
            connection.slot = self._wheel.schedule(connection, now + 1.5 * connection.keep_alive)
        if present:
            for held in session.subscriptions.values():
                # Routes know the version and packet limit of their sessions, which may have changed.
                self._engine.subscriptions.invalidate(held.topic_filter)
            session.resume(now + self._engine.wall_offset)

    def _new_session(self, client_id: str) -> Session:
        session = Session(client_id, self._engine.stats, self._engine.limits)
        session.guard = self._engine.subscriptions.permits
        session.alarm = self._engine.limit_log.queue_is_full
        return session

    def _full(self, client_id: str) -> str:
        """The limit that one more client would pass, if any; who takes a connection over comes in its place."""
        most = self._engine.limits.max_connections
        full = most and len(self._connections) >= most and client_id not in self._connections
        return "max_connections" if full else ""

    def _full_for_user(self, connection: Connection, client_id: str) -> str:
        """The same of the connections of its user."""
        user = _user_of(connection)
        if user is None:
            return ""
        old = self._connections.get(client_id)
        per_user = connection.admission.per_user
        replaces = old is not None and old.admission.per_user is per_user and _user_of(old) == user
        return "" if per_user.has_room(user, 0 if replaces else 1) else "max_connections_per_user"

    def _count_user(self, connection: Connection, change: int) -> None:
        user = _user_of(connection)
        if user is not None:
            connection.admission.per_user.add(user, change)

    def _turn_away(self, session: Session, connection: Connection, now: float) -> None:
        """The client takes no packet as large as its own CONNACK [MQTT-3.1.2-24]."""
        connection.will = None
        self.depart(connection, now)
        connection.refuse(Reason.PACKET_TOO_LARGE)

    def _agree(self, session: Session, connection: Connection, packet: Connect) -> None:
        """Set the session's terms from what the client asked for and what the node allows."""
        limits = connection.limits
        properties = packet.properties
        session.version = packet.version
        session.quota = min(properties.get(Prop.RECEIVE_MAXIMUM, 0xFFFF), limits.max_inflight)
        session.max_packet = properties.get(Prop.MAXIMUM_PACKET_SIZE, 0)
        session.alias_maximum = min(properties.get(Prop.TOPIC_ALIAS_MAXIMUM, 0), limits.topic_alias_maximum)
        if packet.version == V5:
            session.expiry = limits.bounded_expiry(properties.get(Prop.SESSION_EXPIRY_INTERVAL, 0))
        else:
            session.expiry = 0 if packet.clean_start else limits.bounded_expiry(NEVER)
        connection.keep_alive = packet.keep_alive
        longest = limits.keep_alive_max
        if packet.version == V5 and longest and not 0 < packet.keep_alive <= longest:
            connection.keep_alive = longest
        connection.will = packet.will
        connection.explains = packet.version == V5 and properties.get(Prop.REQUEST_PROBLEM_INFORMATION) != 0
        connection.session = session
        if connection.credentials is not None and not connection.credentials.client_id:
            connection.credentials = connection.credentials._replace(client_id=session.client_id)
        session.credentials = connection.credentials
        session.mount_point = connection.peer.mount_point
        session.limits = connection.limits
        session.attach(connection)

    def _terms(self, session: Session, connection: Connection, packet: Connect, client_id: str) -> Properties:
        """CONNACK's properties: everything in which the server differs from what the client assumes."""
        limits = connection.limits
        terms: Properties = {}
        if session.expiry != packet.properties.get(Prop.SESSION_EXPIRY_INTERVAL, 0):
            terms[Prop.SESSION_EXPIRY_INTERVAL] = session.expiry
        if limits.receive_maximum < 0xFFFF:
            terms[Prop.RECEIVE_MAXIMUM] = limits.receive_maximum
        terms[Prop.MAXIMUM_PACKET_SIZE] = limits.max_packet_size
        if not packet.client_id:
            terms[Prop.ASSIGNED_CLIENT_IDENTIFIER] = client_id
        if limits.topic_alias_maximum:
            terms[Prop.TOPIC_ALIAS_MAXIMUM] = limits.topic_alias_maximum
        if connection.keep_alive != packet.keep_alive:
            terms[Prop.SERVER_KEEP_ALIVE] = connection.keep_alive
        if limits.response_information and packet.properties.get(Prop.REQUEST_RESPONSE_INFORMATION):
            terms[Prop.RESPONSE_INFORMATION] = self._response_information(connection, client_id)
        return terms

    def _response_information(self, connection: Connection, client_id: str) -> str:
        username = connection.credentials.username if connection.credentials is not None else None
        text = self._engine.limits.response_information
        return text.replace("%u", username or "").replace("%c", client_id)

    def _take_over(self, client_id: str, clean_start: bool, now: float) -> None:
        """Another connection has the identifier: it must go [MQTT-3.1.4-3]."""
        old = self._connections.get(client_id)
        if old is None or old.session is None:
            return
        old.finish_reading(now)
        if old.is_closed:
            return
        if old.will is not None and not clean_start and will_delay(old.will, old.session.expiry):
            # The session goes on before the delay is over, so the will is not due [MQTT-3.1.3-9].
            old.will = None
        old.fail(Reason.SESSION_TAKEN_OVER, now)

    # -- departure ---------------------------------------------------------------------------------------

    def depart(self, connection: Connection, now: float) -> None:
        """A connection that was open has ended; whether its will is still set says how."""
        session = connection.session
        if session is None or session.connection is not connection:
            return
        session.detach()
        if connection.meter is not None:
            self._meters.keep(session.client_id, connection.meter, now)
        self._connections.pop(session.client_id, None)
        self._count_user(connection, -1)
        self._keep(session, now + self._engine.wall_offset)
        self._wills.client_left(session.client_id, connection.will is not None, session.expiry, now)
        connection.will = None
        if not session.expiry:
            self._end(session, now)
        elif session.expiry != NEVER:
            self._expiring.put(session.client_id, session.client_id, now + session.expiry)

    def _keep(self, session: Session, left_at: float) -> None:
        """Have the store know the session, where it outlives its connection."""
        store = self._engine.store
        if store is not None and session.expiry and session.disk is None:
            session.keep(store.session())
        session.save(left_at)

    def restore(self, stored: StoredSession, disk: SessionStore, now: float) -> Session | None:
        """Take back a session of an earlier process; None where its time is over."""
        terms = stored.terms
        # However the clock was set meanwhile, it lives no longer than was agreed.
        left = min(stored.left_at + terms.expiry - now - self._engine.wall_offset, terms.expiry)
        if (terms.expiry != NEVER and left <= 0) or terms.client_id in self._sessions:
            disk.end()
            return None
        session = self._new_session(terms.client_id)
        session.restore(stored, disk)
        self._sessions[terms.client_id] = session
        if terms.expiry != NEVER:
            self._expiring.put(terms.client_id, terms.client_id, now + left)
        return session

    def restore_will(self, client_id: str, stored: StoredWill, now: float) -> None:
        """Take back a will whose time had not come."""
        self._wills.restore(client_id, stored, now)

    def _end(self, session: Session, now: float) -> None:
        """The session is over: its subscriptions, its queue, and its will if that still waits."""
        self._sessions.pop(session.client_id, None)
        self._expiring.cancel(session.client_id)
        orphans = session.orphans()
        shared = [held for held in session.subscriptions.values() if held.group is not None]
        for held in list(session.subscriptions.values()):
            self._engine.release(session, held)
        for held, message in orphans:
            self._engine.hand_on(held, message, now)
        if shared and session.queue.on_disk and session.disk is not None:
            self._hand_on_from_disk(session, session.disk, session.queue.first_on_disk)
        else:
            session.end()
        session.subscriptions.clear()
        self._wills.session_ended(session.client_id, now)

    def _hand_on_from_disk(self, session: Session, disk: SessionStore, first: int) -> None:
        """What a member of a shared subscription left behind on disk is for the other members, too."""
        subscriptions = dict(session.subscriptions)

        def loaded(stored: Stored) -> None:
            deliveries = [delivery for delivery, _ in stored.deliveries]
            for held, message in orphans(subscriptions.values(), deliveries):
                self._engine.hand_on(held, message, self.now)
            if stored.complete:
                session.end()
            else:
                disk.load(deliveries[-1][4] + 1, LOAD, loaded)

        disk.load(first, LOAD, loaded)

    # -- time --------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """End what is overdue: silent connections, delayed wills, sessions past their expiry."""
        self.now = now
        for connection in self._throttled.due(now):
            connection.read_on(Pause.RATE)
            self._engine.turns.put(connection)
        self._cut_off(now)
        without_room, self._without_room = self._without_room, {}
        for connection in without_room:
            connection.go_on()
        for connection in self._wheel.due(now):
            if not connection.is_open:
                connection.limited("connect_timeout", "closed, as no CONNECT was accepted in time")
                connection.cut_off(now)
                continue
            due = connection.last_seen + 1.5 * connection.keep_alive
            if connection.valve.is_shut:
                # What it sends meanwhile is not read: its time begins when reading does.
                connection.last_seen = now
                due = now + 1.5 * connection.keep_alive
            if due <= now:
                connection.fail(Reason.KEEP_ALIVE_TIMEOUT, now)
            else:
                connection.slot = self._wheel.schedule(connection, due)
        self._wills.tick(now)
        for client_id in self._expiring.due(now):
            session = self._sessions.get(client_id)
            if session is not None and session.connection is None:
                self._engine.stats.sessions_expired += 1
                self._end(session, now)

    def _cut_off(self, now: float) -> None:
        """End clients that take nothing for too long, and those whose queue is full where that is the policy."""
        for connection, since in list(self._stalled.items()):
            longest = connection.limits.slow_consumer_timeout
            if longest and now - since >= longest:
                self._engine.stats.limited_slow_consumer_timeout += 1
                self._engine.note("slow", connection, f"took nothing for {longest:g} s")
                connection.cut_off(now)
        for connection in list(self._doomed):
            connection.limited("queue_full", "its queue is full, DISCONNECT 0x97")
            connection.fail(Reason.QUOTA_EXCEEDED, now)

    def waits_for_room(self, connection: Connection) -> None:
        """The client cannot be told that the outbox is full: it tries again at the next tick."""
        self._without_room[connection] = None

    def wake_later(self, connection: Connection, due: float) -> None:
        """Read from a throttled client again at a time."""
        self._throttled.put(connection, connection, due)

    def stalls(self, connection: Connection, now: float) -> None:
        """The client takes nothing any more."""
        self._stalled.setdefault(connection, now)

    def flows(self, connection: Connection) -> None:
        """The client takes data again."""
        self._stalled.pop(connection, None)

    def dooms(self, connection: Connection) -> None:
        """The connection has to end at the next tick."""
        self._doomed[connection] = None

    def dismiss(self, now: float) -> None:
        """The node stops: tell every client [MQTT5 3.14.2.1, 0x8B]; wills of the unexpected end are published."""
        for connection in list(self._connections.values()):
            connection.fail(Reason.SERVER_SHUTTING_DOWN, now)


def _user_of(connection: Connection) -> str | None:
    return connection.credentials.username if connection.credentials is not None else None
