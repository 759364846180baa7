"""aiomqtt and amqtt's client, across regions."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import aiomqtt
import paho.mqtt.client as paho
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


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
async def test_aiomqtt_retained_and_will(regions: Regions, version: aiomqtt.ProtocolVersion) -> None:
    topic = regions.topic()
    near, far = regions.near.mqtt_port, regions.far.mqtt_port
    async with aiomqtt.Client("127.0.0.1", far, protocol=version) as subscriber:
        await subscriber.subscribe(f"{topic}/will", 1)
        await asyncio.to_thread(regions.await_interest, f"{topic}/will")
        device = aiomqtt.Client(
            "127.0.0.1", near, protocol=version, will=aiomqtt.Will(f"{topic}/will", b"gone", 1)
        )
        with contextlib.suppress(aiomqtt.MqttError):
            async with device:
                await device.publish(f"{topic}/kept", b"kept", 1, retain=True)
                drop(device._client)
        async with asyncio.timeout(TIMEOUT):
            async for message in subscriber.messages:
                if message.payload == b"gone":
                    break
        await subscriber.subscribe(f"{topic}/kept", 1)
        async with asyncio.timeout(TIMEOUT):
            async for message in subscriber.messages:
                if message.topic.matches(f"{topic}/kept"):
                    assert (message.payload, message.retain) == (b"kept", True)
                    break


async def test_amqtt_client_retained_and_will(regions: Regions) -> None:
    topic = regions.topic()
    subscriber = MQTTClient(client_id="amqtt-sub", config={"auto_reconnect": False})
    device = MQTTClient(
        client_id="amqtt-device",
        config={"auto_reconnect": False, "will": {"topic": f"{topic}/will", "message": "gone", "qos": 1}},
    )
    await subscriber.connect(f"mqtt://127.0.0.1:{regions.far.mqtt_port}")
    await subscriber.subscribe([(f"{topic}/will", 1)])
    await asyncio.to_thread(regions.await_interest, f"{topic}/will")
    await device.connect(f"mqtt://127.0.0.1:{regions.near.mqtt_port}")
    await device.publish(f"{topic}/kept", b"kept", qos=1, retain=True)
    assert device._handler is not None
    assert device._handler.writer is not None
    await device._handler.writer.close()
    async with asyncio.timeout(TIMEOUT):
        while (message := await subscriber.deliver_message()) is None or message.data != b"gone":
            pass
    await subscriber.subscribe([(f"{topic}/kept", 1)])
    async with asyncio.timeout(TIMEOUT):
        while (message := await subscriber.deliver_message()) is None or message.data != b"kept":
            pass
    await subscriber.disconnect()


def drop(client: paho.Client) -> None:
    """End a client's network connection without DISCONNECT."""
    sock = client.socket()
    assert sock is not None
    sock.shutdown(socket.SHUT_RDWR)
