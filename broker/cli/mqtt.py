"""A small MQTT client for commands, on paho's: everything happens in the calls, there is no thread."""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.cli.recording import Recorded
from broker.protocol.constants import Prop

_ANSWER_SECONDS = 10.0
_TURN_SECONDS = 0.1
_MOST_WAITING = 1000
"""Messages that wait to be acknowledged before more are handed over."""
_NAMES = {
    Prop.PAYLOAD_FORMAT_INDICATOR: "PayloadFormatIndicator",
    Prop.MESSAGE_EXPIRY_INTERVAL: "MessageExpiryInterval",
    Prop.CONTENT_TYPE: "ContentType",
    Prop.RESPONSE_TOPIC: "ResponseTopic",
    Prop.CORRELATION_DATA: "CorrelationData",
    Prop.USER_PROPERTY: "UserProperty",
}


class Lost(Exception):
    """The broker cannot be reached, refuses something, or is gone."""


class Address(NamedTuple):
    """Where a broker is, and who comes. ``version`` is 5 or 4 (3.1.1)."""

    host: str
    port: int
    version: int = 5
    user: str | None = None
    password: str | None = None
    tls: bool = False
    ca: Path | None = None


class Connection:
    """A connection, from its beginning; Lost says why there is none."""

    def __init__(self, address: Address, heard: Callable[[Recorded], None] | None = None) -> None:
        self._is_5 = address.version == 5
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"geomq-{uuid.uuid4().hex[:12]}",
            protocol=MQTTv5 if self._is_5 else MQTTv311,
        )
        self._heard = heard
        self._problem = ""
        self._ready = False
        self._waiting: set[int] = set()
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        if address.user is not None:
            client.username_pw_set(address.user, address.password)
        try:
            if address.tls or address.ca:
                client.tls_set_context(ssl.create_default_context(cafile=address.ca))
            client.connect(address.host, address.port, keepalive=30)
        except (OSError, ValueError) as error:
            raise Lost(f"{address.host}:{address.port}: {error}") from None
        self._await(lambda: self._ready, "to accept the connection")

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribe; messages keep the flag retain that they were published with."""
        self._ready = False
        if self._is_5:
            self._client.subscribe(topic_filter, options=SubscribeOptions(qos=qos, retainAsPublished=True))
        else:
            self._client.subscribe(topic_filter, qos)
        self._await(lambda: self._ready, "to accept the subscription")

    def publish(self, message: Recorded) -> None:
        """Publish a message; waits while too many wait to be acknowledged."""
        self._await(lambda: len(self._waiting) < _MOST_WAITING, "to acknowledge")
        properties = _to_paho(message.properties) if self._is_5 and message.properties else None
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain, properties=properties
        )
        # Paho says of one at QoS 0 that is sent at once that it is published before it tells which it is.
        if not info.is_published():
            self._waiting.add(info.mid)

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Send and receive for so long, or until something is so."""
        deadline = time.monotonic() + seconds
        while not until():
            left = deadline - time.monotonic()
            self._turn(max(0.0, min(left, _TURN_SECONDS)))
            if left <= 0:
                return

    def close(self) -> None:
        """Leave, once everything is acknowledged."""
        self._await(lambda: not self._waiting, "to acknowledge")
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop(_TURN_SECONDS)

    def _await(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise Lost(f"the broker takes longer than {_ANSWER_SECONDS:g} s {what}")
            self._turn(_TURN_SECONDS)

    def _turn(self, seconds: float) -> None:
        status = self._client.loop(seconds)
        if self._problem:
            raise Lost(self._problem)
        if status != MQTT_ERR_SUCCESS:
            raise Lost("the connection is lost")

    # -- what paho calls ---------------------------------------------------------------------------------

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._problem = f"the broker refuses the connection: {reason}"
        self._ready = True

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: list[Any], properties: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._problem = f"the broker refuses the subscription: {refused[0]}"
        self._ready = True

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        self._waiting.discard(mid)
        if reason.is_failure:
            self._problem = f"the broker refuses a message: {reason}"

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._problem = self._problem or f"the broker ended the connection: {reason}"

    def _on_message(self, client: Any, data: Any, message: MQTTMessage) -> None:
        if self._heard is not None:
            found = message.properties
            properties = {
                int(prop): getattr(found, name) for prop, name in _NAMES.items() if hasattr(found, name)
            }
            self._heard(
                Recorded(
                    message.topic,
                    bytes(message.payload),
                    message.qos,
                    message.retain,
                    properties,
                    time.time(),
                )
            )


def _to_paho(properties: dict[int, Any]) -> Properties:
    found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for identifier, value in properties.items():
        setattr(found, _NAMES[Prop(identifier)], value)
    return found
