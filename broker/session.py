"""A session's state machine: packet identifiers, inflight messages, the queue, what it subscribed to.

Pure: it appends bytes to an outlet and is told the time (``now``, wall-clock seconds).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable

from broker.aliases import OutboundAliases
from broker.limits import Limits
from broker.message import Delivery, Message
from broker.outlet import Outlet
from broker.ports import Credentials, SessionStore, SessionTerms, Stored, StoredSession
from broker.protocol import encode
from broker.protocol.constants import PUBCOMP, PUBREL, V5, Reason
from broker.protocol.topics import matches
from broker.queue import LOAD, Queue
from broker.stats import Stats
from broker.subscriptions import Held, Permits

_NO_QUEUE = Queue(Stats())
_NO_IDENTIFIERS: deque[int] = deque()
_NONE_INCOMING: frozenset[int] = frozenset()
# An empty deque takes 600 bytes, which most sessions never need: they share these, which stay empty.

NEVER = 0xFFFFFFFF
"""Session Expiry Interval of a session that does not expire [MQTT5 3.1.2.11.2]."""


class Session:
    """What the server keeps of a client between and during its connections [MQTT5 4.1].

    ``quota`` is how many messages above QoS 0 may be unacknowledged (the client's Receive Maximum);
    ``max_packet`` the largest packet that the client takes, 0 for no limit;
    ``alias_maximum`` how many topic aliases it lets the server set, 0 for none;
    ``expiry`` the seconds for which the session outlives its connection, :data:`NEVER` for ever.

    ``disk`` is the session's place in the store, None where nothing of it is kept there. A session that has one
    numbers its deliveries, and the packet identifier follows from the number: so it is the same after a crash. Of
    a QoS 2 message nothing is sent that would be unknown after a crash.
    """

    __slots__ = (
        "_aliases",
        "_asked",
        "_last_id",
        "_number",
        "_safe",
        "alarm",
        "alias_maximum",
        "client_id",
        "connection",
        "credentials",
        "disk",
        "expiry",
        "guard",
        "incoming",
        "inflight",
        "limits",
        "max_packet",
        "mount_point",
        "queue",
        "quota",
        "resend",
        "rewrites",
        "stats",
        "subscriptions",
        "version",
    )

    def __init__(self, client_id: str, stats: Stats, limits: Limits) -> None:
        self.client_id = client_id
        self.stats = stats
        self.limits = limits
        self.credentials: Credentials | None = None
        """What the client showed last: by it the authority tells what may be delivered."""
        self.mount_point = ""
        self.rewrites = False
        """Whether topics are sent otherwise than they were published: by alias, or without a mount point."""
        self.connection: Outlet | None = None
        self.version = 4
        self.quota = 0xFFFF
        self.max_packet = 0
        self.alias_maximum = 0
        self._aliases: OutboundAliases | None = None
        self.expiry = 0
        self.subscriptions: dict[str, Held] = {}
        self.incoming: set[int] | frozenset[int] = _NONE_INCOMING
        """QoS 2 packet identifiers received and not yet released [MQTT-4.3.3-10]."""
        self.inflight: dict[int, Delivery | None] = {}
        """Sent and unacknowledged, in order of sending; None once PUBREC came and PUBREL was sent, or is about to."""
        self.resend = _NO_IDENTIFIERS
        """Identifiers of ``inflight`` that this connection has not sent again yet, for want of quota."""
        self.queue = _NO_QUEUE
        self._last_id = 0
        self.disk: SessionStore | None = None
        self.guard: Permits | None = None
        """Asked again for what waited, as rights and users may have changed meanwhile; None where all may have all."""
        self.alarm: Callable[[Session, str], None] | None = None
        """Told by which limit messages are dropped: once, until the client comes or goes."""
        self._number = 0
        """That of the next delivery, where they have numbers."""
        self._safe = -1
        """Deliveries with numbers up to this one are on disk."""
        self._asked = False
        """Whether word is awaited that more are."""

    @property
    def is_particular(self) -> bool:
        """Whether QoS 0 messages have to be looked at one by one before the client may have them."""
        return bool(self.max_packet or self.rewrites or self.limits.queue_qos0)

    # -- towards the client ------------------------------------------------------------------------------

    def deliver(self, message: Message, qos: int, retain: bool, extra: bytes, now: float) -> None:
        """Send a message, or queue it where the client is away, slow or has no quota left."""
        connection = self.connection
        if qos == 0:
            if connection is None:
                if self.limits.queue_qos0:
                    self._enqueue(message, 0, retain, extra)
            elif connection.blocked:
                self.stats.dropped_slow_consumer += 1
            else:
                self._send(connection, (message, 0, retain, extra, 0), 0, False, now)
            return
        if (
            connection is None
            or self.queue
            or self.resend
            or connection.blocked
            or len(self.inflight) >= self.quota
        ):
            self._enqueue(message, qos, retain, extra)
        elif self.disk is None:
            self._send_new(connection, (message, qos, retain, extra, 0), now)
        elif qos == 2 or self._number % 65535 + 1 in self.inflight:
            self._enqueue(message, qos, retain, extra)
            self.drain(now)
        else:
            delivery = (message, qos, retain, extra, self._number)
            self._number += 1
            self.disk.add(delivery, True)
            self._send_new(connection, delivery, now)

    def _send_new(self, connection: Outlet, delivery: Delivery, now: float) -> None:
        inflight = self.inflight
        if self.disk is None:
            packet_id = self._last_id % 65535 + 1
            while packet_id in inflight:
                packet_id = packet_id % 65535 + 1
        else:
            packet_id = delivery[4] % 65535 + 1
        if self._send(connection, delivery, packet_id, False, now):
            self._last_id = packet_id
            inflight[packet_id] = delivery
        elif self.disk is not None:
            self.disk.done(delivery)

    def _send(self, connection: Outlet, delivery: Delivery, packet_id: int, dup: bool, now: float) -> bool:
        """Append the PUBLISH to the outlet; False where the client cannot take it [MQTT-3.1.2-25]."""
        message, qos, retain, extra, _ = delivery
        if extra or message.expires_at or dup or self.rewrites:
            topic = message.topic.removeprefix(self.mount_point)
            if message.expires_at:
                extra = encode.expiry_property(max(1, round(message.expires_at - now))) + extra
            if self._aliases is not None:
                topic, alias = self._aliases.apply(topic)
                extra = alias + extra
            head, tail = encode.publish(
                topic, message.payload, qos, retain, self.version, message.properties, extra, dup
            )
        else:
            head, tail = message.form(self.version, qos, retain)
        if self.max_packet and len(head) + len(tail) + (2 if qos else 0) > self.max_packet:
            self.stats.dropped_too_large += 1
            if self._aliases is not None:
                self._aliases.unlearn(message.topic.removeprefix(self.mount_point))
            return False
        out = connection.out
        if not out:
            connection.dirty.append(connection)
        out.append(head)
        if qos:
            out.append(packet_id.to_bytes(2, "big"))
        out.append(tail)
        stats = self.stats
        stats.publish_delivered += 1
        stats.payload_sent += len(message.payload)
        return True

    def _enqueue(self, message: Message, qos: int, retain: bool, extra: bytes) -> None:
        if self.queue is _NO_QUEUE:
            self.queue = Queue(self.stats)
        size = len(message.payload)
        if not self.queue.has_room(size, self.limits) and not self._make_room(size):
            self._note_dropped(size)
            return
        delivery = (message, qos, retain, extra, self._number)
        self._number += 1
        if self.disk is not None:
            self.disk.add(delivery, False)
        self.queue.put(delivery, self.disk is not None)

    def _make_room(self, size: int) -> bool:
        """As `queue_full` says: the oldest go, or the newest goes, and its client with it."""
        policy = self.limits.queue_full
        if policy == "disconnect" and self.connection is not None:
            self.connection.overflow()
        if policy != "drop_oldest":
            return False
        queue = self.queue
        while not queue.has_room(size, self.limits) and queue.head() is not None:
            self._note_dropped(size)
            self._give_up(queue.take())
        self._ask_for_more()
        # Where the oldest are on disk they are given up when they have been read: until then there is room.
        return bool(queue.on_disk) or queue.has_room(size, self.limits)

    def _note_dropped(self, size: int) -> None:
        queue = self.queue
        limit = queue.count_dropped(size, self.limits)
        if queue.told != limit and self.alarm is not None:
            queue.told = limit
            self.alarm(self, limit)

    def _give_up(self, delivery: Delivery) -> None:
        if self.disk is not None:
            self.disk.done(delivery)

    def drain(self, now: float) -> None:
        """Send again what is due again, then what is queued, as far as quota and connection allow."""
        connection = self.connection
        if connection is None:
            return
        inflight = self.inflight
        resend = self.resend
        while resend and not connection.blocked and len(inflight) - len(resend) < self.quota:
            packet_id = resend.popleft()
            delivery = inflight[packet_id]
            if delivery is None:
                self._answer(connection, [encode.ack(PUBREL, self.version, packet_id)])
            elif self._is_denied(delivery) or not self._send(connection, delivery, packet_id, True, now):
                del inflight[packet_id]
                self._give_up(delivery)
        queue = self.queue
        while not resend and not connection.blocked and len(inflight) < self.quota:
            delivery = queue.head()
            if delivery is None or (self.disk is not None and not self._may_send(delivery)):
                break
            queue.take()
            expires_at = delivery[0].expires_at
            if expires_at and expires_at <= now:
                self.stats.dropped_expired += 1
                self._give_up(delivery)
            elif self._is_denied(delivery):
                self._give_up(delivery)
            elif delivery[1]:
                self._send_new(connection, delivery, now)
            else:
                self._send(connection, delivery, 0, False, now)
                self._give_up(delivery)
        self._ask_for_more()

    def _is_denied(self, delivery: Delivery) -> bool:
        if self.guard is None or self.guard(self, delivery[0].topic) is not False:
            return False
        self.stats.receive_denied += 1
        return True

    # -- the disk ----------------------------------------------------------------------------------------

    def _may_send(self, delivery: Delivery) -> bool:
        """Whether the identifier is free, and a crash would not give a QoS 2 message another one."""
        if delivery[1] == 0:
            return True
        if delivery[4] % 65535 + 1 in self.inflight:
            return False
        if delivery[1] == 1 or delivery[4] <= self._safe:
            return True
        self._ask_for_safety()
        return False

    def _ask_for_safety(self) -> None:
        if self._asked or self.disk is None:
            return
        self._asked = True
        last = self._number - 1

        def on_safe(now: float) -> None:
            self._asked = False
            self._safe = max(self._safe, last)
            self.drain(now)

        self.disk.commit(on_safe)

    def _ask_for_more(self) -> None:
        if self.queue.wants_more and self.disk is not None:
            self.queue.asked()
            self.disk.load(self.queue.first_on_disk, LOAD, self._loaded)

    def _loaded(self, stored: Stored) -> None:
        """The disk gave deliveries back."""
        if self.disk is None or not self.queue.on_disk:
            return
        queue = self.queue
        first = queue.head() is None
        queue.loaded([delivery for delivery, _ in stored.deliveries], stored.complete)
        if stored.deliveries:
            self._safe = max(self._safe, stored.deliveries[-1][0][4])
        for delivery, sent in stored.deliveries:
            if not (first and sent and delivery[1]):
                break
            # It comes again under the same identifier [MQTT-4.4.0-1].
            queue.take()
            packet_id = delivery[4] % 65535 + 1
            self.inflight[packet_id] = delivery
            if self.connection is not None:
                if self.resend is _NO_IDENTIFIERS:
                    self.resend = deque()
                self.resend.append(packet_id)
        while self.limits.queue_full == "drop_oldest" and not queue.has_room(0, self.limits) and queue.head():
            self._note_dropped(0)
            self._give_up(queue.take())
        self.drain(stored.now)
        self._ask_for_more()

    def keep(self, disk: SessionStore) -> None:
        """From now on the session outlives the process."""
        self.disk = disk

    def save(self, left_at: float) -> None:
        """Write down what was agreed with the client, and when it left (wall-clock seconds), 0.0 if it is here."""
        if self.disk is None:
            return
        credentials = self.credentials or Credentials(self.client_id, None, None, "", "")
        terms = SessionTerms(
            self.client_id, self.version, self.expiry, self.quota, credentials, self.mount_point
        )
        self.disk.save(terms, left_at)
        if left_at:
            self.disk.sent(sent for sent in self.inflight.values() if sent is not None)

    def restore(self, stored: StoredSession, disk: SessionStore) -> None:
        """Become what an earlier process left behind, but for the subscriptions."""
        terms = stored.terms
        self.disk = disk
        self.version = terms.version
        self.expiry = terms.expiry
        self.credentials = terms.credentials
        self.mount_point = terms.mount_point
        self.rewrites = bool(self.mount_point)
        if stored.incoming:
            self.incoming = set(stored.incoming)
        self.inflight = dict.fromkeys(packet_id for packet_id, _ in stored.releasing)
        self._number = stored.last + 1
        if stored.queued:
            self.queue = Queue(self.stats)
            self.queue.found(stored.queued, stored.queued_bytes, stored.first)

    def end(self) -> None:
        """The session is over."""
        self.queue.forget()
        if self.disk is not None:
            self.disk.end()
            self.disk = None

    def _answer(self, connection: Outlet, packets: list[bytes]) -> None:
        """Send what says that something is as it will be after a crash, too."""
        if self.disk is None:
            for packet in packets:
                connection.send(packet)
        elif packets:
            connection.send_when_safe(packets, self.disk)

    def attach(self, connection: Outlet) -> None:
        """The client is connected through this outlet."""
        self.connection = connection
        self.queue.told = ""
        # Aliases live as long as the network connection [MQTT-3.3.2-7].
        self._aliases = OutboundAliases(self.alias_maximum) if self.alias_maximum else None
        self.rewrites = bool(self.alias_maximum or self.mount_point)

    def resume(self, now: float) -> None:
        """Send all unacknowledged messages again, in their original order [MQTT-4.4.0-1], [MQTT-4.6.0-6]."""
        if self.inflight:
            self.resend = deque(self.inflight)
        self.drain(now)

    def detach(self) -> None:
        """The connection is gone; what was not acknowledged stays."""
        self.queue.told = ""
        self.connection = None
        self.resend = _NO_IDENTIFIERS

    def orphans(self) -> list[tuple[Held, Message]]:
        """What shared subscriptions brought to a session that ends: for another member [MQTT5 4.8.2].

        QoS 2 messages that were sent already are for nobody else [MQTT-4.8.2-5].
        """
        unsent = [delivery for delivery in self.queue.in_memory() if delivery[1]]
        unacknowledged = [sent for sent in self.inflight.values() if sent is not None and sent[1] == 1]
        return orphans(self.subscriptions.values(), unacknowledged + unsent)

    # -- from the client ---------------------------------------------------------------------------------

    def on_puback(self, packet_ids: list[int], now: float) -> None:
        """The client has taken QoS 1 messages; identifiers that are not in use are ignored."""
        inflight = self.inflight
        disk = self.disk
        for packet_id in packet_ids:
            delivery = inflight.get(packet_id)
            if delivery is not None and delivery[1] == 1:
                del inflight[packet_id]
                if disk is not None:
                    disk.done(delivery)
                if self.resend:
                    self._need_not_resend(packet_id)
        if self.queue or self.resend:
            self.drain(now)

    def _need_not_resend(self, packet_id: int) -> None:
        """The client has acknowledged what an earlier connection sent, before this one sent it again."""
        with contextlib.suppress(ValueError):
            self.resend.remove(packet_id)

    def on_pubrec(self, packet_ids: list[int], now: float) -> None:
        """The client has received QoS 2 messages: release them [MQTT-4.3.3-4]."""
        connection = self.connection
        if connection is None:
            return
        inflight = self.inflight
        answers: list[bytes] = []
        for packet_id in packet_ids:
            reason = Reason.PACKET_IDENTIFIER_NOT_FOUND
            if packet_id in inflight:
                delivery = inflight[packet_id]
                if delivery is not None:
                    if delivery[1] != 2:
                        continue
                    if self.disk is not None:
                        self.disk.released(packet_id, delivery)
                inflight[packet_id] = None
                reason = Reason.SUCCESS
            answers.append(encode.ack(PUBREL, self.version, packet_id, reason if self.version == V5 else 0))
        self._answer(connection, answers)

    def on_pubrec_failed(self, packet_id: int, now: float) -> None:
        """The client refused a QoS 2 message: the identifier is free again [MQTT5 4.3.3]."""
        delivery = self.inflight.get(packet_id)
        if delivery is not None and delivery[1] == 2:
            del self.inflight[packet_id]
            self._give_up(delivery)
            self._need_not_resend(packet_id)
            self.drain(now)

    def remember_incoming(self, packet_id: int) -> None:
        """A QoS 2 message was accepted under this identifier, until PUBREL [MQTT-4.3.3-10]."""
        if not isinstance(self.incoming, set):
            self.incoming = set()
        self.incoming.add(packet_id)

    def forget_incoming(self, packet_id: int) -> None:
        """The identifier is free again, where a QoS 2 message had come under it."""
        if packet_id in self.incoming and isinstance(self.incoming, set):
            self.incoming.remove(packet_id)
            if self.disk is not None:
                self.disk.forgotten(packet_id)

    def on_pubrel(self, packet_ids: list[int], now: float) -> None:
        """The client releases what it published at QoS 2 [MQTT-4.3.3-11]."""
        connection = self.connection
        if connection is None:
            return
        answers: list[bytes] = []
        for packet_id in packet_ids:
            known = packet_id in self.incoming
            self.forget_incoming(packet_id)
            reason = 0 if known or self.version < V5 else Reason.PACKET_IDENTIFIER_NOT_FOUND
            answers.append(encode.ack(PUBCOMP, self.version, packet_id, reason))
        self._answer(connection, answers)

    def on_pubcomp(self, packet_ids: list[int], now: float) -> None:
        """QoS 2 deliveries are complete."""
        inflight = self.inflight
        disk = self.disk
        for packet_id in packet_ids:
            if packet_id in inflight and inflight[packet_id] is None:
                del inflight[packet_id]
                if disk is not None:
                    disk.completed(packet_id)
                if self.resend:
                    self._need_not_resend(packet_id)
        if self.queue or self.resend:
            self.drain(now)


def orphans(subscriptions: Iterable[Held], deliveries: Iterable[Delivery]) -> list[tuple[Held, Message]]:
    """Those of a session's deliveries that a shared subscription brought, and which."""
    held_by_it = list(subscriptions)
    shared = [held for held in held_by_it if held.group is not None]
    if not shared:
        return []
    own = [held for held in held_by_it if held.group is None]
    found: list[tuple[Held, Message]] = []
    for message, *_ in deliveries:
        if not any(matches(held.topic_filter, message.topic) for held in own):
            found += [(held, message) for held in shared if matches(held.topic_filter, message.topic)][:1]
    return found
