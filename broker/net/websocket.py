"""MQTT over WebSocket [MQTT5 6], on the websockets library's protocol without I/O."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import cast

from websockets.exceptions import NegotiationError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from broker.admission import Arrival
from broker.engine import Engine
from broker.foreign import is_mqtt, is_tls
from broker.net.door import Door
from broker.net.protocol import MqttProtocol

_SUBPROTOCOL = Subprotocol("mqtt")
_OLD = Subprotocol("mqttv3.1")
"""What clients of MQTT 3.1 offer."""
_FRAME_OVERHEAD = 1 << 16
_TLS = "spoke TLS to a WebSocket listener without TLS: type ws, not wss"
_MQTT = "spoke MQTT without WebSocket to a WebSocket listener"
_SHOWN = 100
"""Characters of what a client sent that the log shows."""

_quiet = logging.getLogger("geomq.net.websocket")
# The library tells of each handshake; what matters about clients is in the audit log, which no flood can fill.
_quiet.setLevel(logging.ERROR)


class WebSocketProtocol(asyncio.Protocol):
    """One WebSocket; its binary frames are a stream of bytes, whatever packets they cut [MQTT-6.0.0-2]."""

    def __init__(
        self,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        door: Door,
        address: str | None = None,
        arrival: Arrival | None = None,
    ) -> None:
        self._door = door
        self._inner = MqttProtocol(engine, loop, door, address, arrival)
        # Clients that are no browsers tell no origin; the check is against foreign pages in browsers.
        origins = [*map(Origin, door.origins), None] if door.origins else None
        self._socket = ServerProtocol(
            origins=origins,
            subprotocols=[_SUBPROTOCOL, _OLD],
            select_subprotocol=_select,
            logger=_quiet,
            max_size=engine.limits.max_packet_size + _FRAME_OVERHEAD,
        )
        self._transport: _FramedTransport | None = None
        self._begun = False
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; MQTT's time to send CONNECT includes the WebSocket handshake."""
        self._transport = _FramedTransport(cast(asyncio.Transport, transport), self._socket)
        self._inner.connection_made(self._transport)

    def data_received(self, data: bytes) -> None:
        """Unpack frames and hand their payload on, all of a chunk's at once."""
        assert self._transport is not None
        if not self._begun:
            self._begun = True
            if is_tls(data) or is_mqtt(data):
                # There is no line end in it that the library would stop waiting at.
                self._refuse(_TLS if is_tls(data) else _MQTT)
                self._transport.finish()
                return
        self._socket.receive_data(data)
        payload: list[bytes] = []
        for event in self._socket.events_received():
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Frame) and event.opcode in (Opcode.BINARY, Opcode.CONT):
                payload.append(bytes(event.data))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                # Any other kind of data ends the connection [MQTT-6.0.0-1].
                self._socket.fail(CloseCode.UNSUPPORTED_DATA, "MQTT is binary")
                self._inner.ended("WebSocket: a text frame, and MQTT is binary")
        if not self._answered and self._socket.handshake_exc is not None:
            # The library's words would show the path, in which clients put tokens.
            self._refuse("WebSocket: no HTTP request")
        self._transport.flush()
        if payload:
            self._inner.data_received(b"".join(payload))
        if self._socket.close_expected():
            self._transport.finish()

    def _answer(self, request: Request) -> None:
        self._answered = True
        path = request.path.partition("?")[0]
        if path != self._door.path:
            self._refuse(f"WebSocket: 404, {path[:_SHOWN]!r} is not {self._door.path!r}")
            response = self._socket.reject(404, f"MQTT is at {self._door.path}\n")
        else:
            response = self._accept(request)
            if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
                why = str(self._socket.handshake_exc).encode("unicode_escape").decode()
                self._refuse(f"WebSocket: {response.status_code}, {why[:_SHOWN]}")
        self._socket.send_response(response)

    def _accept(self, request: Request) -> Response:
        try:
            return self._socket.accept(request)
        except UnicodeEncodeError:
            # The library answers with the header that it refuses, and cannot when that is not ASCII.
            return self._socket.reject(HTTPStatus.BAD_REQUEST, "a header is not ASCII\n")

    def _refuse(self, why: str) -> None:
        self._answered = True
        self._inner.refused(why)

    def eof_received(self) -> None:
        """The client sends no more."""
        self._socket.receive_eof()

    def pause_writing(self) -> None:
        """The client does not take what we send."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The client takes data again."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The network connection is gone."""
        self._inner.connection_lost(exc)


def _select(protocol: ServerProtocol, offered: object) -> Subprotocol:
    """The subprotocol, which a client has to offer [MQTT-6.0.0-3], [MQTT-6.0.0-4]."""
    for known in (_SUBPROTOCOL, _OLD):
        if known in cast(list[Subprotocol], offered):
            return known
    raise NegotiationError("the subprotocol mqtt has to be offered")


class _FramedTransport(asyncio.Transport):
    """A transport whose bytes go out in binary frames, one a write."""

    def __init__(self, transport: asyncio.Transport, socket: ServerProtocol) -> None:
        super().__init__()
        self._transport = transport
        self._socket = socket

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a frame, where the handshake is over."""
        if self._socket.state is State.OPEN:
            self._socket.send_binary(bytes(data))
            self.flush()

    def flush(self) -> None:
        """Write what the protocol has to say."""
        parts = self._socket.data_to_send()
        if parts and not self._transport.is_closing():
            # An empty part asks for the end of the stream; finish() sees to that.
            self._transport.write(b"".join(parts))

    def finish(self) -> None:
        """The closing handshake is over, or there is none."""
        self.flush()
        self._transport.close()

    def close(self) -> None:
        """Say goodbye, send what is buffered, then close."""
        if self._socket.state is State.OPEN:
            self._socket.send_close(CloseCode.NORMAL_CLOSURE)
        self.finish()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether the end has begun."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Bound what the client has not taken."""
        self._transport.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: object = None) -> object:
        """What the transport knows."""
        return self._transport.get_extra_info(name, default)
