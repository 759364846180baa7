"""aiomqtt and amqtt's client, across regions."""

from __future__ import annotations

import asyncio

import aiomqtt
import pytest
from amqtt.client import MQTTClient

from tests.clients.conftest import Regions

TIMEOUT = 15


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_aiomqtt(regions: Regions, version: aiomqtt.ProtocolVersion, qos: int) -> None:
    topic = regions.topic()
    async with (
        aiomqtt.Client("127.0.0.1", regions.far.mqtt_port, protocol=version) as subscriber,
        aiomqtt.Client("127.0.0.1", regions.near.mqtt_port, protocol=version) as publisher,
    ):
        await subscriber.subscribe(topic, qos)
        await asyncio.to_thread(regions.await_interest, topic)
        await publisher.publish(topic, b"hello", qos)
        async with asyncio.timeout(TIMEOUT):
            async for message in subscriber.messages:
                if message.payload == b"hello":
                    assert message.qos == qos
                    break


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_amqtt_client(regions: Regions, qos: int) -> None:
    topic = regions.topic()
    subscriber = MQTTClient(client_id=f"sub-{qos}", config={"auto_reconnect": False})
    publisher = MQTTClient(
        client_id=f"pub-{qos}",
        config={"auto_reconnect": False, "will": {"topic": f"{topic}/will", "message": "gone", "qos": qos}},
    )
    await subscriber.connect(f"mqtt://127.0.0.1:{regions.far.mqtt_port}")
    await publisher.connect(f"mqtt://127.0.0.1:{regions.near.mqtt_port}")
    assert await subscriber.subscribe([(topic, qos), (f"{topic}/#", qos)]) == [qos, qos]
    await asyncio.to_thread(regions.await_interest, f"{topic}/#")
    await publisher.publish(topic, b"hello", qos)
    async with asyncio.timeout(TIMEOUT):
        while (message := await subscriber.deliver_message()) is None or message.data != b"hello":
            pass
    assert message.topic == topic
    assert message.qos == qos
    await publisher.disconnect()
    await subscriber.disconnect()
