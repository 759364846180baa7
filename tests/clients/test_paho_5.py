"""What paho-mqtt can ask of MQTT 5, and does not in the rounds of both versions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.clients.conftest import Regions
from tests.end_to_end.nodes import wait_for


def properties(kind: int, **values: Any) -> Properties:
    found = Properties(kind)
    for name, value in values.items():
        setattr(found, name, value)
    return found


class Party:
    """A client that keeps everything that the broker told it."""

    def __init__(
        self, regions: Regions, client_id: str, clean: bool = True, will: Any = None, **terms: Any
    ) -> None:
        self.messages: list[Any] = []
        self.reasons: list[int] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.terms: Any = None
        self.present = False
        self.ended: list[tuple[int, Any]] = []
        self._connected = threading.Event()
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        if will is not None:
            topic, payload, delay = will
            self.paho.will_set(
                topic, payload, 1, False, properties(PacketTypes.WILLMESSAGE, WillDelayInterval=delay)
            )
        self.paho.on_connect = self._on_connect
        self.paho.on_message = lambda _client, _data, message: self.messages.append(message)
        self.paho.on_subscribe = lambda _c, _d, _mid, reasons, _p: self.reasons.extend(
            r.value for r in reasons
        )
        self.paho.on_publish = lambda _c, _d, mid, reason, _p: self.acknowledged.append((mid, reason.value))
        self.paho.on_disconnect = lambda _c, _d, _f, reason, more: self.ended.append((reason.value, more))
        self.paho.connect(
            "127.0.0.1",
            regions.near.mqtt_port,
            clean_start=clean,
            properties=properties(PacketTypes.CONNECT, **terms),
        )
        self.paho.loop_start()
        assert self._connected.wait(10)

    def _on_connect(self, _client: Any, _data: Any, flags: Any, _reason: Any, terms: Any) -> None:
        self.present = flags.session_present
        self.terms = terms
        self._connected.set()

    def subscribe(self, topic_filter: str, options: SubscribeOptions, **more: Any) -> int:
        before = len(self.reasons)
        self.paho.subscribe(
            topic_filter, options=options, properties=properties(PacketTypes.SUBSCRIBE, **more)
        )
        wait_for(lambda: len(self.reasons) > before, "SUBACK")
        return self.reasons[-1]

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    def close(self, **more: Any) -> None:
        self.paho.disconnect(properties=properties(PacketTypes.DISCONNECT, **more) if more else None)
        self.paho.loop_stop()


@contextmanager
def party(regions: Regions, client_id: str, **terms: Any) -> Iterator[Party]:
    found = Party(regions, client_id, **terms)
    try:
        yield found
    finally:
        found.close()


def test_terms_of_the_connection(regions: Regions) -> None:
    with party(regions, "", SessionExpiryInterval=30, RequestResponseInformation=1) as client:
        assert client.terms.AssignedClientIdentifier
        assert client.terms.TopicAliasMaximum > 0
        assert client.terms.ReceiveMaximum > 0
        assert client.terms.MaximumPacketSize > 0


def test_subscription_identifiers_shared_subscriptions_and_retain_handling(regions: Regions) -> None:
    topic = regions.topic()
    with (
        party(regions, f"a{topic}") as one,
        party(regions, f"b{topic}") as two,
        party(regions, f"p{topic}") as publisher,
    ):
        publisher.paho.publish(f"{topic}/x", b"kept", 1, True).wait_for_publish(10)
        never = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        as_published = SubscribeOptions(qos=2, retainAsPublished=True)
        assert one.subscribe(f"{topic}/+", never, SubscriptionIdentifier=1) == 1
        assert one.subscribe(f"{topic}/#", as_published, SubscriptionIdentifier=300) == 2
        wait_for(lambda: one.messages, "the retained message, from the second subscription")
        publisher.paho.publish(f"{topic}/x", b"both", 2, True).wait_for_publish(10)
        wait_for(lambda: len(one.messages) == 2, "one copy")
        assert sorted(one.messages[1].properties.SubscriptionIdentifier) == [1, 300]
        assert (one.messages[1].qos, one.messages[1].retain) == (2, True)
        for member in (one, two):
            assert member.subscribe(f"$share/group/{topic}-s", SubscribeOptions(qos=1)) == 1
        for number in range(10):
            publisher.paho.publish(f"{topic}-s", b"%d" % number, 1)
        wait_for(lambda: len(one.messages) + len(two.messages) == 12, "each is heard once")
        assert len(two.messages) == 5


def test_topic_aliases_and_reason_codes(regions: Regions) -> None:
    topic = regions.topic()
    with party(regions, f"s{topic}") as subscriber, party(regions, f"p{topic}") as publisher:
        subscriber.subscribe(topic, SubscribeOptions(qos=1))
        alias = properties(PacketTypes.PUBLISH, TopicAlias=1)
        publisher.paho.publish(topic, b"named", 1, properties=alias)
        publisher.paho.publish("", b"by alias", 1, properties=alias)
        unheard = publisher.paho.publish(f"{topic}/nobody", b"x", 1)
        wait_for(lambda: len(publisher.acknowledged) == 3, "three PUBACK")
        assert dict(publisher.acknowledged)[unheard.mid] == 0x10
        wait_for(lambda: subscriber.payloads() == [b"named", b"by alias"], "both arrive")
        publisher.paho.publish(topic, b"x", properties=properties(PacketTypes.PUBLISH, TopicAlias=65535))
        wait_for(lambda: publisher.ended, "an alias that is too high ends the connection")
        assert publisher.ended[0][0] == 0x94


def test_will_is_delayed_and_taken_back(regions: Regions) -> None:
    topic = regions.topic()
    with party(regions, f"w{topic}") as watcher:
        watcher.subscribe(f"{topic}/#", SubscribeOptions(qos=1))
        device = Party(regions, f"d{topic}", will=(f"{topic}/late", b"gone", 1), SessionExpiryInterval=60)
        back = Party(
            regions, f"d{topic}", clean=False, will=(f"{topic}/late", b"gone", 1), SessionExpiryInterval=60
        )
        assert back.present
        wait_for(lambda: device.ended, "the older connection is taken over")
        assert device.ended[0][0] == 0x8E
        other = Party(regions, f"e{topic}", will=(f"{topic}/other", b"other", 0), SessionExpiryInterval=60)
        back.paho.socket().close()
        other.paho.socket().close()
        wait_for(lambda: watcher.payloads() == [b"other", b"gone"], "the delayed will comes later")
        for client in (device, back, other):
            client.paho.loop_stop()


def test_session_expiry_is_changed_at_the_end(regions: Regions) -> None:
    topic = regions.topic()
    first = Party(regions, f"x{topic}", SessionExpiryInterval=100)
    first.subscribe(topic, SubscribeOptions(qos=1))
    first.close(SessionExpiryInterval=0)
    second = Party(regions, f"x{topic}", clean=False, SessionExpiryInterval=100)
    assert not second.present
    second.close()
    third = Party(regions, f"x{topic}", clean=False)
    assert third.present
    third.close()
