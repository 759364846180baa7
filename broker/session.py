"""A session's state machine: packet identifiers, inflight messages, the queue, what it subscribed to.

Pure: it appends bytes to an outlet and is told the time (``now``, wall-clock seconds).
"""

from __future__ import annotations

import contextlib
from collections import deque

from broker.aliases import OutboundAliases
from broker.limits import Limits
from broker.message import Message
from broker.outlet import Outlet
from broker.ports import Credentials
from broker.protocol import encode
from broker.protocol.constants import PUBCOMP, PUBREL, V5, Reason
from broker.protocol.topics import matches
from broker.stats import Stats
from broker.subscriptions import Held

Delivery = tuple[Message, int, bool, bytes]
"""A message for one receiver: the message, QoS, retain flag, subscription identifiers as wire-form properties."""

_NOTHING: deque[Delivery] = deque()
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
    """

    __slots__ = (
        "_aliases",
        "_next_id",
        "_queue_bytes",
        "alias_maximum",
        "client_id",
        "connection",
        "credentials",
        "expiry",
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
        """Sent and unacknowledged, in order of sending; None once PUBREC came and PUBREL was sent."""
        self.resend = _NO_IDENTIFIERS
        """Identifiers of ``inflight`` that this connection has not sent again yet, for want of quota."""
        self.queue = _NOTHING
        self._queue_bytes = 0
        self._next_id = 0

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
                    self._enqueue((message, 0, retain, extra))
            elif connection.blocked:
                self.stats.dropped_slow_consumer += 1
            else:
                self._send(connection, (message, 0, retain, extra), 0, False, now)
            return
        if (
            connection is None
            or self.queue
            or self.resend
            or connection.blocked
            or len(self.inflight) >= self.quota
        ):
            self._enqueue((message, qos, retain, extra))
            return
        self._send_new(connection, (message, qos, retain, extra), now)

    def _send_new(self, connection: Outlet, delivery: Delivery, now: float) -> None:
        inflight = self.inflight
        packet_id = self._next_id % 65535 + 1
        while packet_id in inflight:
            packet_id = packet_id % 65535 + 1
        if self._send(connection, delivery, packet_id, False, now):
            self._next_id = packet_id
            inflight[packet_id] = delivery

    def _send(self, connection: Outlet, delivery: Delivery, packet_id: int, dup: bool, now: float) -> bool:
        """Append the PUBLISH to the outlet; False where the client cannot take it [MQTT-3.1.2-25]."""
        message, qos, retain, extra = delivery
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

    def _enqueue(self, delivery: Delivery) -> None:
        size = len(delivery[0].payload)
        if not self._has_room(size) and not self._make_room(size):
            self.stats.dropped_queue_full += 1
            return
        if self.queue is _NOTHING:
            self.queue = deque()
        self._queue_bytes += size
        self.queue.append(delivery)
        self.stats.queued_messages += 1
        self.stats.queued_bytes += size

    def _make_room(self, size: int) -> bool:
        """As `queue_full` says: the oldest go, or the newest goes, and its client with it."""
        policy = self.limits.queue_full
        if policy == "disconnect" and self.connection is not None:
            self.connection.overflow()
        if policy != "drop_oldest":
            return False
        while self.queue and not self._has_room(size):
            self._dequeue()
            self.stats.dropped_queue_full += 1
        return self._has_room(size)

    def _has_room(self, size: int) -> bool:
        limits = self.limits
        total = limits.queue_total_bytes
        return (
            len(self.queue) < limits.queue_max_messages
            and self._queue_bytes + size <= limits.queue_max_bytes
            and (not total or self.stats.queued_bytes + size <= total)
        )

    def _dequeue(self) -> Delivery:
        delivery = self.queue.popleft()
        size = len(delivery[0].payload)
        self._queue_bytes -= size
        self.stats.queued_messages -= 1
        self.stats.queued_bytes -= size
        return delivery

    def forget_queue(self) -> None:
        """The session is over: nobody waits for what is queued."""
        while self.queue:
            self._dequeue()

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
                connection.send(encode.ack(PUBREL, self.version, packet_id))
            elif not self._send(connection, delivery, packet_id, True, now):
                del inflight[packet_id]
        queue = self.queue
        while queue and not connection.blocked and not resend and len(inflight) < self.quota:
            delivery = self._dequeue()
            expires_at = delivery[0].expires_at
            if expires_at and expires_at <= now:
                self.stats.dropped_expired += 1
            elif delivery[1]:
                self._send_new(connection, delivery, now)
            else:
                self._send(connection, delivery, 0, False, now)

    def attach(self, connection: Outlet) -> None:
        """The client is connected through this outlet."""
        self.connection = connection
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
        self.connection = None
        self.resend = _NO_IDENTIFIERS

    def orphans(self) -> list[tuple[Held, Message]]:
        """What shared subscriptions brought to a session that ends: for another member [MQTT5 4.8.2].

        QoS 2 messages that were sent already are for nobody else [MQTT-4.8.2-5].
        """
        shared = [held for held in self.subscriptions.values() if held.group is not None]
        if not shared:
            return []
        own = [held for held in self.subscriptions.values() if held.group is None]
        unsent = [delivery for delivery in self.queue if delivery[1]]
        unacknowledged = [sent for sent in self.inflight.values() if sent is not None and sent[1] == 1]
        found: list[tuple[Held, Message]] = []
        for message, *_ in unacknowledged + unsent:
            if not any(matches(held.topic_filter, message.topic) for held in own):
                found += [(held, message) for held in shared if matches(held.topic_filter, message.topic)][:1]
        return found

    # -- from the client ---------------------------------------------------------------------------------

    def on_puback(self, packet_ids: list[int], now: float) -> None:
        """The client has taken QoS 1 messages; identifiers that are not in use are ignored."""
        inflight = self.inflight
        for packet_id in packet_ids:
            delivery = inflight.get(packet_id)
            if delivery is not None and delivery[1] == 1:
                del inflight[packet_id]
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
        for packet_id in packet_ids:
            reason = Reason.PACKET_IDENTIFIER_NOT_FOUND
            if packet_id in inflight:
                delivery = inflight[packet_id]
                if delivery is not None and delivery[1] != 2:
                    continue
                inflight[packet_id] = None
                reason = Reason.SUCCESS
            connection.send(encode.ack(PUBREL, self.version, packet_id, reason if self.version == V5 else 0))

    def on_pubrec_failed(self, packet_id: int, now: float) -> None:
        """The client refused a QoS 2 message: the identifier is free again [MQTT5 4.3.3]."""
        delivery = self.inflight.get(packet_id)
        if delivery is not None and delivery[1] == 2:
            del self.inflight[packet_id]
            self._need_not_resend(packet_id)
            self.drain(now)

    def remember_incoming(self, packet_id: int) -> None:
        """A QoS 2 message was accepted under this identifier, until PUBREL [MQTT-4.3.3-10]."""
        if not isinstance(self.incoming, set):
            self.incoming = set()
        self.incoming.add(packet_id)

    def on_pubrel(self, packet_ids: list[int], now: float) -> None:
        """The client releases what it published at QoS 2 [MQTT-4.3.3-11]."""
        connection = self.connection
        if connection is None:
            return
        for packet_id in packet_ids:
            known = packet_id in self.incoming
            if known and isinstance(self.incoming, set):
                self.incoming.remove(packet_id)
            reason = 0 if known or self.version < V5 else Reason.PACKET_IDENTIFIER_NOT_FOUND
            connection.send(encode.ack(PUBCOMP, self.version, packet_id, reason))

    def on_pubcomp(self, packet_ids: list[int], now: float) -> None:
        """QoS 2 deliveries are complete."""
        inflight = self.inflight
        for packet_id in packet_ids:
            if packet_id in inflight and inflight[packet_id] is None:
                del inflight[packet_id]
                if self.resend:
                    self._need_not_resend(packet_id)
        if self.queue or self.resend:
            self.drain(now)
