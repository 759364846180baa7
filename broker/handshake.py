"""From the first packet of a connection to its CONNACK, and with enhanced authentication every exchange after it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from broker.flow import Pause
from broker.foreign import instead_of_mqtt
from broker.ports import Credentials, Decision, Exchange, Step
from broker.protocol import encode, packets
from broker.protocol.constants import V5, Prop, Reason
from broker.protocol.errors import ProtocolError, UnsupportedVersion
from broker.protocol.payload import wrong_format
from broker.protocol.properties import Properties

if TYPE_CHECKING:
    from broker.connection import Connection


class Handshake:
    """What stands between a network connection and its session [MQTT5 3.1.4, 4.12].

    A connection drops it once it is open, unless an authentication method was agreed on: then it stays for
    re-authentication.
    """

    __slots__ = ("_backlog", "_connect", "_connection", "_exchange", "_method", "_spoken")

    def __init__(self, connection: Connection, chunk: bytes) -> None:
        self._connection = connection
        self._spoken = instead_of_mqtt(chunk)
        self._connect: packets.Connect | None = None
        self._backlog: list[Any] = []
        self._exchange: Exchange | None = None
        self._method = ""

    def receive(self, arrived: list[Any], now: float) -> None:
        """Work on packets that came before the connection was open."""
        if self._connect is None:
            first = arrived[0]
            if isinstance(first, ProtocolError):
                self._refuse_unreadable(first)
                return
            self._backlog = arrived[1:]
            self._on_connect(first, now)
        elif self._exchange is None:
            self._backlog.extend(arrived)
        else:
            self._on_answers(arrived, now)

    # -- CONNECT -----------------------------------------------------------------------------------------

    def _on_connect(self, packet: packets.Connect, now: float) -> None:
        connection = self._connection
        engine = connection.engine
        self._connect = packet
        connection.stats.control_received += 1
        connection.version = packet.version
        peer = connection.peer
        credentials = connection.credentials = Credentials(
            packet.client_id, packet.username, packet.password, peer.address, peer.listener, peer.certificate
        )
        reason = engine.roster.objection(connection, packet, now)
        why = ""
        will = packet.will if connection.limits.check_payload_format else None
        if reason == Reason.CLIENT_IDENTIFIER_NOT_VALID:
            why = "no client identifier, which a client whose session is kept has to have"
        elif not reason and will is not None and wrong_format(will.properties, will.payload):
            reason, why = Reason.PAYLOAD_FORMAT_INVALID, "the will's payload is no UTF-8"
        if reason:
            connection.refuse(reason, why)
            return
        method = packet.properties.get(Prop.AUTHENTICATION_METHOD)
        if method is None:
            engine.authority.authenticate(credentials, partial(self._on_decision, packet))
            if not connection.is_open and not connection.is_closed:
                # Nobody has been let in yet: what follows CONNECT need not be kept in memory for them.
                connection.valve.pause(Pause.AUTHENTICATION)
            return
        self._exchange = engine.authority.exchange(method, credentials)
        if self._exchange is None:
            connection.refuse(Reason.BAD_AUTHENTICATION_METHOD, f"there is no method {method[:64]!r} here")
            return
        self._method = method
        self._take(self._exchange.answer(packet.properties.get(Prop.AUTHENTICATION_DATA, b"")), now)
        if self._exchange is not None and self._backlog and not connection.is_closed:
            backlog, self._backlog = self._backlog, []
            self._on_answers(backlog, now)

    def _on_decision(self, packet: packets.Connect, decision: Decision) -> None:
        connection = self._connection
        if connection.is_open or connection.is_closed:
            return
        connection.valve.resume(Pause.AUTHENTICATION)
        if decision.reason:
            connection.refuse(decision.reason, decision.why or "the authority says no")
        else:
            credentials = connection.credentials
            if credentials is not None and (decision.username is not None or decision.context is not None):
                name = credentials.username if decision.username is None else decision.username
                connection.credentials = credentials._replace(username=name, context=decision.context)
            self._admit(packet, {}, connection.last_seen)
        connection.engine.flush()

    def _admit(self, packet: packets.Connect, terms: Properties, now: float) -> None:
        connection = self._connection
        backlog, self._backlog = self._backlog, []
        connection.opened(packet, terms, self if self._method else None, now)
        if backlog and connection.is_open:
            connection.handle(backlog, now)

    def _refuse_unreadable(self, error: ProtocolError) -> None:
        """A first packet that is no CONNECT gets no answer; a CONNECT that is wrong may [MQTT-3.1.4-1]."""
        connection = self._connection
        if error.reason == Reason.PACKET_TOO_LARGE:
            connection.limited("max_connect_size", "closed")
        else:
            why = self._spoken or f"0x{error.reason:02x}, {error.detail}"
            connection.engine.note("refused", connection, why)
        answer = b""
        if isinstance(error, UnsupportedVersion):
            answer = encode.connack(V5 if error.version > V5 else 4, False, error.reason, {})
        elif connection.spoken_version == V5:
            answer = encode.connack(V5, False, error.reason, {Prop.REASON_STRING: error.detail})
        connection.turn_away(answer)

    # -- AUTH --------------------------------------------------------------------------------------------

    def _on_answers(self, arrived: list[Any], now: float) -> None:
        """Between CONNECT and CONNACK a client sends AUTH and DISCONNECT only [MQTT-3.1.2-30]."""
        connection = self._connection
        for at, packet in enumerate(arrived):
            if self._exchange is None:
                # CONNACK was sent for the packet before: the rest is what an open connection brings.
                if connection.is_open:
                    connection.handle(arrived[at:], now)
                return
            connection.stats.control_received += 1
            if isinstance(packet, packets.Auth) and packet.reason == Reason.CONTINUE_AUTHENTICATION:
                if not self._same_method(packet):
                    connection.refuse(Reason.PROTOCOL_ERROR, "AUTH names another method than CONNECT")
                    return
                self._take(self._exchange.answer(packet.properties.get(Prop.AUTHENTICATION_DATA, b"")), now)
            elif isinstance(packet, packets.Disconnect):
                connection.turn_away(b"")
            elif isinstance(packet, ProtocolError):
                connection.refuse(packet.reason, packet.detail)
            else:
                connection.refuse(Reason.PROTOCOL_ERROR, "another packet than AUTH before CONNACK")
            if connection.is_closed:
                return

    def authenticate_again(self, packet: packets.Auth, now: float) -> None:
        """AUTH on an open connection: re-authentication begins or goes on [MQTT5 4.12.1].

        What else the client sends meanwhile is worked on as before.
        """
        connection = self._connection
        begins = packet.reason == Reason.REAUTHENTICATE
        if not self._same_method(packet) or begins == (self._exchange is not None):
            connection.fail(Reason.PROTOCOL_ERROR, now)
            return
        if begins:
            assert connection.credentials is not None
            self._exchange = connection.engine.authority.exchange(self._method, connection.credentials)
            if self._exchange is None:
                connection.fail(Reason.BAD_AUTHENTICATION_METHOD, now)
                return
        assert self._exchange is not None
        step = self._exchange.answer(packet.properties.get(Prop.AUTHENTICATION_DATA, b""))
        credentials = connection.credentials
        stranger = step.done and credentials is not None and credentials.username != step.username
        if step.reason or stranger:
            # A session does not pass from one user to another [MQTT-4.12.1-2].
            self._note_failure(step)
            connection.fail(step.reason or Reason.NOT_AUTHORIZED, now)
        elif step.done:
            self._exchange = None
            self._send_auth(Reason.SUCCESS, step, now)
        else:
            self._send_auth(Reason.CONTINUE_AUTHENTICATION, step, now)

    def _take(self, step: Step, now: float) -> None:
        """What an exchange before CONNACK came to."""
        connection = self._connection
        assert self._connect is not None
        if step.reason:
            if connection.credentials is not None and step.username is not None:
                # Nobody has proven anything: it is whom the refusal is about.
                connection.credentials = connection.credentials._replace(username=step.username)
            connection.refuse(step.reason, f"{self._method}: {step.why or 'failed'}")
        elif step.done:
            self._exchange = None
            if connection.credentials is not None:
                connection.credentials = connection.credentials._replace(username=step.username)
            self._admit(self._connect, self._proof(step), now)
        else:
            self._send_auth(Reason.CONTINUE_AUTHENTICATION, step, now)

    def _note_failure(self, step: Step) -> None:
        """A client that is open could not authenticate again, or not as the same user."""
        why = step.why or f"this time as user {(step.username or '')[:64]!r}"
        reason = step.reason or Reason.NOT_AUTHORIZED
        self._connection.engine.note(
            "refused", self._connection, f"0x{reason:02x}, re-authentication by {self._method}: {why}"
        )

    def _send_auth(self, reason: int, step: Step, now: float) -> None:
        connection = self._connection
        assert self._connect is not None
        told = encode.auth(reason, self._proof(step))
        limit = self._connect.properties.get(Prop.MAXIMUM_PACKET_SIZE, 0)
        if limit and len(told) > limit:
            # Nothing in it can be left out [MQTT-3.1.2-24].
            if connection.is_open:
                connection.fail(Reason.PACKET_TOO_LARGE, now)
            else:
                connection.refuse(Reason.PACKET_TOO_LARGE)
            return
        connection.send(told)

    def _proof(self, step: Step) -> Properties:
        proof: Properties = {Prop.AUTHENTICATION_METHOD: self._method}
        if step.data:
            proof[Prop.AUTHENTICATION_DATA] = step.data
        return proof

    def _same_method(self, packet: packets.Auth) -> bool:
        """Every AUTH names the method of CONNECT [MQTT-4.12.0-5], [MQTT-4.12.1-1]."""
        return packet.properties.get(Prop.AUTHENTICATION_METHOD) == self._method
