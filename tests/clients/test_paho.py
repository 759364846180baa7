"""paho-mqtt, 3.1.1 and 5, across regions."""

from __future__ import annotations

import json
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.clients.conftest import Regions
from tests.end_to_end.nodes import Client, wait_for

VERSIONS = [pytest.param(paho.MQTTv311, id="3.1.1"), pytest.param(paho.MQTTv5, id="5")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.spec("MQTT-4.2.0-1")
@pytest.mark.spec311("MQTT-7.1.1-1")
def test_message_crosses(regions: Regions, version: int, qos: int) -> None:
    topic = regions.topic()
    subscriber = Client(regions.far, f"sub{topic}", version)
    subscriber.subscribe(f"{topic}/+", qos)
    regions.await_interest(f"{topic}/+")
    subscriber.received.clear()
    publisher = Client(regions.near, f"pub{topic}", version)
    mid = publisher.publish(f"{topic}/x", b"payload", qos)
    wait_for(lambda: (f"{topic}/x", b"payload") in subscriber.received, "the message arrives")
    wait_for(lambda: mid in publisher.acknowledged, "the publisher is told")
    publisher.close()
    subscriber.close()
    assert subscriber.received.count((f"{topic}/x", b"payload")) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_message_reaches_late_subscriber(regions: Regions, version: int) -> None:
    topic = regions.topic()
    publisher = Client(regions.near, f"pub{topic}", version)
    publisher.publish(topic, b"kept", 1, retain=True)

    def heard() -> bool:
        subscriber = Client(regions.far, f"sub{topic}", version)
        subscriber.subscribe(topic, 1)
        try:
            wait_for(lambda: subscriber.received, "a retained message", 0.3)
        except AssertionError:
            return False
        finally:
            subscriber.close()
        return subscriber.received == [(topic, b"kept")]

    wait_for(heard, "the retained message is known in the other region")
    publisher.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_will_crosses(regions: Regions, version: int) -> None:
    topic = regions.topic()
    subscriber = Client(regions.far, f"sub{topic}", version)
    subscriber.subscribe(topic, 1)
    regions.await_interest(topic)
    device = Client(regions.near, f"pub{topic}", version, will=(topic, b"gone", 1))
    device.drop()
    wait_for(lambda: (topic, b"gone") in subscriber.received, "the will arrives")
    subscriber.close()


def test_properties_cross(regions: Regions) -> None:
    topic = regions.topic()
    got: list[Any] = []
    subscriber = Client(regions.far, f"sub{topic}", paho.MQTTv5, on_message=got.append)
    subscriber.subscribe(topic, 1)
    regions.await_interest(topic)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/json"
    properties.ResponseTopic = "answer/here"
    properties.CorrelationData = b"\x00\x01"
    properties.PayloadFormatIndicator = 1
    properties.MessageExpiryInterval = 60
    properties.UserProperty = [("a", "1"), ("a", "2")]
    publisher = Client(regions.near, f"pub{topic}", paho.MQTTv5)
    publisher.publish(topic, json.dumps({"a": 1}).encode(), 1, properties=properties)
    wait_for(lambda: [m for m in got if m.payload != b"probe"], "the message arrives")
    heard = next(m for m in got if m.payload != b"probe").properties
    assert heard.ContentType == "application/json"
    assert heard.ResponseTopic == "answer/here"
    assert heard.CorrelationData == b"\x00\x01"
    assert heard.PayloadFormatIndicator == 1
    assert 0 < heard.MessageExpiryInterval <= 60
    assert heard.UserProperty == [("a", "1"), ("a", "2")]
    publisher.close()
    subscriber.close()


def test_subscription_options(regions: Regions) -> None:
    topic = regions.topic()
    client = Client(regions.near, f"c{topic}", paho.MQTTv5)
    client.subscribe_with(topic, SubscribeOptions(qos=1, noLocal=True))
    other = Client(regions.near, f"o{topic}", paho.MQTTv5)
    client.publish(topic, b"own", 1)
    other.publish(topic, b"other", 1)
    wait_for(lambda: client.received, "the other's message arrives")
    assert client.received == [(topic, b"other")]
    client.close()
    other.close()


def test_persistent_session_keeps_what_came_meanwhile(regions: Regions) -> None:
    topic = regions.topic()
    subscriber = Client(regions.far, f"sub{topic}", clean_session=False)
    subscriber.subscribe(topic, 1)
    regions.await_interest(topic)
    subscriber.close()
    publisher = Client(regions.near, f"pub{topic}")
    for number in range(100):
        publisher.publish(topic, b"%d" % number, 1)
    wait_for(lambda: len(publisher.acknowledged) == 100, "all are acknowledged")
    back = Client(regions.far, f"sub{topic}", clean_session=False)
    numbers = [b"%d" % number for number in range(100)]
    wait_for(lambda: [p for _, p in back.received if p != b"probe"] == numbers, "all 100 arrive, in order")
    back.close()
    publisher.close()


def test_take_over(regions: Regions) -> None:
    topic = regions.topic()
    first = Client(regions.near, f"twin{topic}", paho.MQTTv5)
    second = Client(regions.near, f"twin{topic}", paho.MQTTv5)
    wait_for(lambda: first.disconnected, "the first connection ends")
    assert first.disconnected[0] == 0x8E
    assert not second.disconnected
    second.close()
