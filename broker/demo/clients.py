"""The demonstration's clients: simulated vehicles, and a listener at each node. Real MQTT, by amqtt's client."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable

from amqtt.client import MQTTClient
from amqtt.errors import AMQTTError, ClientError, CodecError, MQTTError, NoDataError, ProtocolHandlerError

from broker.demo.state import State
from broker.demo.telemetry import Vehicle, is_noise
from broker.observe.sys_topics import STATUS_TOPIC

FLEET_FILTER = "fleet/#"

_CONFIG = {"auto_reconnect": False, "keep_alive": 30, "connection_timeout": 5}
_RETRY_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
_INTERVAL = (0.4, 0.8)
"""Seconds between two reports of a vehicle."""

_LOST = (
    AMQTTError,
    ClientError,
    CodecError,
    MQTTError,
    NoDataError,
    ProtocolHandlerError,
    OSError,
    EOFError,
    TimeoutError,
    AttributeError,
)
"""What amqtt's client raises when the connection is gone; AttributeError where it is half gone."""


async def stay_connected(name: str, port: int, work: Callable[[MQTTClient], Awaitable[None]]) -> None:
    """Connect and do the work; when the node goes away, try again until cancelled."""
    while not _is_cancelled():
        client = MQTTClient(client_id=name, config=dict(_CONFIG))
        try:
            await client.connect(f"mqtt://127.0.0.1:{port}")
            await work(client)
        except _LOST:
            pass
        except asyncio.CancelledError:
            # The client cancels its own tasks when the connection ends; that is not meant for us.
            if _is_cancelled():
                await _leave(client)
                raise
        await _leave(client)
        await asyncio.sleep(_RETRY_SECONDS)


def _is_cancelled() -> bool:
    """Whether the task is to end. Asked at every turn, for the client swallows a cancellation now and then."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def _leave(client: MQTTClient) -> None:
    try:
        await asyncio.wait_for(client.disconnect(), 1.0)
    except _LOST:
        pass
    except asyncio.CancelledError:
        if _is_cancelled():
            raise


async def drive(vehicle: Vehicle, port: int, state: State) -> None:
    """A vehicle on the road: it reports at QoS 1 until cancelled."""
    state.know_personal(vehicle.topic, vehicle.driver)

    async def report(client: MQTTClient) -> None:
        while not _is_cancelled():
            reading = vehicle.report(time.time())
            payload = json.dumps(reading, ensure_ascii=False).encode()
            await asyncio.wait_for(client.publish(vehicle.topic, payload, qos=1), _ANSWER_SECONDS)
            state.acknowledged(vehicle.region, is_noise(reading))
            await asyncio.sleep(random.uniform(*_INTERVAL))

    await stay_connected(f"vehicle-{vehicle.name}", port, report)


async def listen(node: str, port: int, state: State) -> None:
    """Hear all vehicles, and what the node says about itself, at one node until cancelled."""

    async def hear(client: MQTTClient) -> None:
        await client.subscribe([(FLEET_FILTER, 1), (STATUS_TOPIC, 0)])
        while not _is_cancelled():
            message = await client.deliver_message(_ANSWER_SECONDS)
            if message is None or message.data is None:
                continue
            now = time.time()
            if message.topic == STATUS_TOPIC:
                state.status(node, bytes(message.data), now)
            else:
                state.heard(node, message.topic, bytes(message.data), now)

    await stay_connected(f"listener-{node}", port, hear)
