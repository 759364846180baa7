"""MQTT over WebSocket, with the websockets library's client and with frames of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from broker.net.listener import Listener
from broker.ports import Party
from tests.engine.harness import Broker, Notes
from tests.net.doors import TIMEOUT, Doors
from tests.protocol import wire
from tests.protocol.wire import Answer


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    found = Doors(Broker())
    yield found
    await found.close()


def url(listener: Listener, path: str = "/mqtt") -> str:
    host, port = listener.addresses[0]
    return f"ws://{host}:{port}{path}"


def joined(listener: Listener, path: str = "/mqtt", **more: Any) -> Any:
    return connect(url(listener, path), subprotocols=[websockets.Subprotocol("mqtt")], **more)


async def answers(client: Any, count: int, version: int = 5) -> list[Answer]:
    """So many packets, however many frames they come in."""
    data = b""
    async with asyncio.timeout(TIMEOUT):
        while True:
            frame = await client.recv()
            assert isinstance(frame, bytes)
            data += frame
            found = wire.answers(data, version)
            if len(found) >= count:
                return found


@pytest.mark.spec("MQTT-6.0.0-1", "MQTT-6.0.0-4")
@pytest.mark.spec311("MQTT-6.0.0-1", "MQTT-6.0.0-4")
@pytest.mark.parametrize("version", [4, 5])
async def test_conversation(doors: Doors, version: int) -> None:
    listener = await doors.open(websocket=True)
    async with joined(listener) as client:
        assert client.subprotocol == "mqtt"
        await client.send(wire.connect("c", version))
        (connack,) = await answers(client, 1, version)
        assert (connack.kind, connack.reason) == (wire.CONNACK, 0)
        await client.send(wire.subscribe(1, [("t", 1)], version) + wire.publish("t", b"x", 1, 2, version))
        found = await answers(client, 3, version)
        assert [answer.kind for answer in found] == [wire.SUBACK, wire.PUBLISH, wire.PUBACK]
        await client.send(wire.disconnect(version))
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(client.recv(), TIMEOUT)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1000


@pytest.mark.spec("MQTT-6.0.0-2")
@pytest.mark.spec311("MQTT-6.0.0-2")
@pytest.mark.parametrize("size", [1, 3, 7])
async def test_packets_across_frames(doors: Doors, size: int) -> None:
    listener = await doors.open(websocket=True)
    stream = (
        wire.connect("c", 4) + wire.subscribe(1, [("t", 0)]) + wire.publish("t", b"x" * 50) + wire.PINGREQ
    )
    async with joined(listener) as client:
        for at in range(0, len(stream), size):
            await client.send(stream[at : at + size])
        found = await answers(client, 4, 4)
        assert [answer.kind for answer in found] == [
            wire.CONNACK,
            wire.SUBACK,
            wire.PUBLISH,
            wire.PINGRESP,
        ]
        await client.send([stream[at : at + size] for at in range(0, len(stream), size)])
        with pytest.raises(ConnectionClosed):
            # One fragmented message; its CONNECT is the second.
            await asyncio.wait_for(client.recv(), TIMEOUT)


@pytest.mark.spec("MQTT-6.0.0-1")
async def test_text_ends_the_connection(doors: Doors) -> None:
    listener = await doors.open(websocket=True)
    async with joined(listener) as client:
        await client.send(wire.connect("c", 5))
        await answers(client, 1)
        await client.send("text")
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(client.recv(), TIMEOUT)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1003
    assert doors.broker.engine.roster.connected == 0
    assert doors.broker.notes.lines == [("ended", "c", "WebSocket: a text frame, and MQTT is binary")]


async def status(listener: Listener, path: str = "/mqtt", **more: Any) -> int:
    """The HTTP status with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url(listener, path), **more):
            pass
    return caught.value.response.status_code


async def test_handshakes_that_are_refused(doors: Doors) -> None:
    listener = await doors.open(websocket=True, path="/devices", origins=("https://good.example",))
    mqtt: Any = {"subprotocols": ["mqtt"]}
    assert await status(listener, "/mqtt", **mqtt) == 404
    assert await status(listener, "/devices") == 400
    assert await status(listener, "/devices", subprotocols=["chat"]) == 400
    assert await status(listener, "/devices", origin="https://evil.example", **mqtt) == 403
    for more in ({}, {"origin": "https://good.example"}):
        async with joined(listener, "/devices?token=1", **more) as client:
            await client.send(wire.connect("c", 5))
            assert (await answers(client, 1))[0].reason == 0


async def test_handshakes_that_are_refused_are_told_in_a_line_each(doors: Doors) -> None:
    notes = doors.broker.engine.audit.journal = Notes()
    listener = await doors.open(websocket=True, path="/devices", origins=("https://good.example",))
    mqtt: Any = {"subprotocols": ["mqtt"]}
    await status(listener, "/mqtt?token=hunter2", **mqtt)
    await status(listener, "/devices?token=hunter2")
    await status(listener, "/devices", subprotocols=["chat"])
    await status(listener, "/devices", origin="https://evil.example", **mqtt)
    await status(listener, "/devices", origin="https://\x9b31mevil.example/" + "x" * 1000, **mqtt)
    lines = [detail for _, detail in notes.notes]
    assert lines[:4] == [
        "WebSocket: 404, '/mqtt' is not '/devices'",
        "WebSocket: 400, the subprotocol mqtt has to be offered",
        "WebSocket: 400, the subprotocol mqtt has to be offered",
        "WebSocket: 403, invalid Origin header: https://evil.example",
    ]
    assert len(lines) == 5
    assert "\x9b" not in lines[4]
    assert len(lines[4]) < 200
    assert set(notes.parties) == {Party(address="127.0.0.1", listener="test")}
    assert doors.broker.engine.stats.connections_refused == 5


async def test_what_is_no_websocket_at_all(doors: Doors) -> None:
    notes = doors.broker.engine.audit.journal = Notes()
    listener = await doors.open(websocket=True)
    for data in (
        b"\x10\x0c\x00\x04MQTT",
        b"\x16\x03\x01\x00\xf8" + bytes(0xF8),
        b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /mqtt?token=hunter2\r\n\r\n",
        b"\xff" * 9000,
    ):
        reader, writer = await asyncio.open_connection(*listener.addresses[0])
        writer.write(data)
        await asyncio.wait_for(reader.read(), TIMEOUT)
        writer.close()
    assert [detail for _, detail in notes.notes] == [
        "spoke MQTT without WebSocket to a WebSocket listener",
        "spoke TLS to a WebSocket listener without TLS: type ws, not wss",
        "WebSocket: 426, missing Connection header",
        "WebSocket: no HTTP request",
        "WebSocket: no HTTP request",
    ]
    async with joined(listener) as client:
        await client.send(wire.connect("c", 5))
        assert (await answers(client, 1))[0].reason == 0


async def test_large_messages_both_ways(doors: Doors) -> None:
    listener = await doors.open(websocket=True)
    payload = bytes(range(256)) * 4000
    async with joined(listener, max_size=None) as client:
        await client.send(wire.connect("c", 5) + wire.subscribe(1, [("t", 1)], 5))
        await answers(client, 2)
        await client.send(wire.publish("t", payload, 1, 1, 5))
        data = b""
        async with asyncio.timeout(TIMEOUT):
            while len(data) < len(payload):
                data += await client.recv()
        assert wire.answers(data, 5)[0].payload == payload


async def test_too_large_a_frame(doors: Doors) -> None:
    small = Doors(Broker(max_packet_size=1000))
    listener = await small.open(websocket=True)
    async with joined(listener) as client:
        await client.send(wire.connect("c", 5) + bytes(200_000))
        await asyncio.wait_for(client.wait_closed(), TIMEOUT)
        assert client.close_code == 1009
    await small.close()


async def test_ping_and_client_that_vanishes(doors: Doors) -> None:
    listener = await doors.open(websocket=True)
    client = await joined(listener)
    await client.send(wire.connect("c", 5))
    await answers(client, 1)
    await asyncio.wait_for(await client.ping(), TIMEOUT)
    client.transport.abort()
    async with asyncio.timeout(TIMEOUT):
        while doors.broker.engine.roster.connected:
            await asyncio.sleep(0.005)
