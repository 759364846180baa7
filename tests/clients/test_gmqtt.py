"""gmqtt, 3.1.1 and 5."""

from __future__ import annotations

import asyncio
from typing import Any

import gmqtt
import pytest
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

from tests.clients.conftest import Regions
from tests.protocol import wire

VERSIONS = [pytest.param(MQTTv311, id="3.1.1"), pytest.param(MQTTv50, id="5")]


class Party:
    """A client and what it heard."""

    def __init__(self, regions: Regions, name: str, version: int = MQTTv50, **connect: Any) -> None:
        wire.spoken.add(version)
        self.port = regions.near.mqtt_port
        self.version = version
        self.client = gmqtt.Client(name, **connect)
        self.heard: list[tuple[str, bytes, int, dict[str, Any]]] = []
        self.granted: list[int] = []
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe

    def _on_message(self, client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        self.heard.append((topic, bytes(payload), qos, properties))
        return 0

    def _on_subscribe(self, client: Any, mid: int, granted: Any, properties: Any) -> None:
        self.granted += granted

    async def __aenter__(self) -> Party:
        self.client.set_config({"reconnect_retries": 0})
        await asyncio.wait_for(self.client.connect("127.0.0.1", self.port, version=self.version), 10)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.disconnect()

    async def subscribe(self, *filters: tuple[str, int], **more: Any) -> None:
        wanted = len(self.granted) + len(filters)
        self.client.subscribe([gmqtt.Subscription(name, qos=qos, **more) for name, qos in filters])
        await until(lambda: len(self.granted) >= wanted)


async def until(condition: Any) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", VERSIONS)
async def test_levels_retained_and_overlapping(regions: Regions, version: int) -> None:
    topic = regions.topic()
    async with (
        Party(regions, f"gs{topic}", version) as subscriber,
        Party(regions, f"gp{topic}", version) as pub,
    ):
        await subscriber.subscribe((f"{topic}/0", 0), (f"{topic}/+", 2))
        assert subscriber.granted == [0, 2]
        for qos in (0, 1, 2):
            pub.client.publish(f"{topic}/{qos}", f"m{qos}", qos=qos)
        await until(lambda: len(subscriber.heard) == 3)
        assert sorted(heard[:3] for heard in subscriber.heard) == [
            (f"{topic}/{qos}", b"m%d" % qos, qos) for qos in (0, 1, 2)
        ]
        pub.client.publish(f"{topic}/kept", "kept", qos=1, retain=True)
        await until(lambda: len(subscriber.heard) == 4)
        await pub.subscribe((f"{topic}/kept", 1))
        await until(lambda: pub.heard)
        assert (pub.heard[0][1], pub.heard[0][3]["retain"]) == (b"kept", 1)


@pytest.mark.parametrize("version", VERSIONS)
async def test_will(regions: Regions, version: int) -> None:
    topic = regions.topic()
    async with Party(regions, f"gs{topic}", version) as watcher:
        await watcher.subscribe((topic, 1))
        device = Party(regions, f"gd{topic}", version, will_message=gmqtt.Message(topic, "gone", qos=1))
        await device.__aenter__()
        device.client._connection._transport.abort()
        await until(lambda: watcher.heard)
        assert watcher.heard[0][:3] == (topic, b"gone", 1)


async def test_session(regions: Regions) -> None:
    topic = regions.topic()
    kept = {"clean_session": False, "session_expiry_interval": 100}
    async with Party(regions, f"gs{topic}", **kept) as subscriber:
        await subscriber.subscribe((topic, 2))
    async with Party(regions, f"gp{topic}") as publisher:
        for number in range(20):
            publisher.client.publish(topic, str(number), qos=1 + number % 2)
        async with Party(regions, f"gs{topic}", **kept) as back:
            await until(lambda: len(back.heard) == 20)
            for qos in (1, 2):
                heard = [int(payload) for _, payload, level, _ in back.heard if level == qos]
                assert heard == list(range(qos - 1, 20, 2))


async def test_properties_of_5(regions: Regions) -> None:
    topic = regions.topic()
    async with (
        Party(regions, f"gs{topic}", topic_alias_maximum=5, receive_maximum=2) as subscriber,
        Party(regions, f"gp{topic}") as publisher,
    ):
        await subscriber.subscribe((f"{topic}/#", 1), no_local=True, subscription_identifier=7)
        subscriber.client.publish(f"{topic}/own", "own", qos=1)
        for number in range(10):
            publisher.client.publish(
                f"{topic}/x",
                str(number),
                qos=1,
                content_type="a/b",
                response_topic="back",
                correlation_data=b"id",
                message_expiry_interval=50,
                user_property=[("a", "1"), ("a", "2")],
            )
        await until(lambda: len(subscriber.heard) == 10)
        assert [(heard[0], heard[1]) for heard in subscriber.heard] == [
            (f"{topic}/x", b"%d" % number) for number in range(10)
        ]
        properties = subscriber.heard[9][3]
        assert properties["content_type"] == ["a/b"]
        assert properties["response_topic"] == ["back"]
        assert properties["correlation_data"] == [b"id"]
        assert properties["user_property"] == [("a", "1"), ("a", "2")]
        assert properties["subscription_identifier"] == [7]
        assert 0 < properties["message_expiry_interval"][0] <= 50


async def test_shared_subscription(regions: Regions) -> None:
    topic = regions.topic()
    async with (
        Party(regions, f"g1{topic}") as one,
        Party(regions, f"g2{topic}") as two,
        Party(regions, f"gp{topic}") as publisher,
    ):
        for member in (one, two):
            await member.subscribe((f"$share/g/{topic}", 1))
        for number in range(10):
            publisher.client.publish(topic, str(number), qos=1)
        await until(lambda: len(one.heard) + len(two.heard) == 10)
        assert (len(one.heard), len(two.heard)) == (5, 5)
