"""What hostile or broken clients do, each for some seconds: `python -m tests.flood.attacks NAME PORT SECONDS`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Awaitable, Callable

from tests.protocol import wire

_numbers = itertools.count()
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connected(port: int, name: str | None = None) -> Stream:
    """A client that was let in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(wire.connect(name or f"attacker-{next(_numbers)}", 5))
    await asyncio.wait_for(reader.read(1000), 10)
    return reader, writer


async def connections(port: int, until: float) -> None:
    """2,000 connection attempts a second, each with a CONNECT, dropped at once."""
    began = time.monotonic()

    async def attempt() -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(wire.connect(f"flood-{next(_numbers)}", 5))
            writer.close()

    made = 0
    while time.monotonic() < until:
        due = int((time.monotonic() - began) * 2000) - made
        await asyncio.gather(*[attempt() for _ in range(min(due, 100))])
        made += min(due, 100)
        await asyncio.sleep(0.005)


async def slow_loris(port: int, until: float) -> None:
    """500 connections that send their CONNECT a byte a second, and come back when they are closed."""

    async def crawl() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                for byte in wire.connect("x" * 100, 5):
                    if time.monotonic() > until or writer.is_closing():
                        break
                    writer.write(bytes([byte]))
                    await asyncio.sleep(1)
                writer.close()

    await asyncio.gather(*[crawl() for _ in range(500)])


async def never_reads(port: int, until: float) -> None:
    """A client that subscribes to much and reads nothing, beside one that publishes 64 KiB 200 times a second."""
    _, deaf = await _connected(port)
    deaf.transport.pause_reading()  # type: ignore[attr-defined]
    deaf.write(wire.subscribe(1, [("flood/#", 1)], 5))
    reader, writer = await _connected(port)
    payload = bytes(64 << 10)
    for number in itertools.count(1):
        if time.monotonic() > until:
            break
        writer.write(wire.publish("flood/x", payload, number % 2, number % 60_000 + 1, 5))
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(10_000), 0.005)
    writer.close()
    deaf.close()


async def huge_packets(port: int, until: float) -> None:
    """Clients that begin packets of 256 MB, before and after they are let in."""
    while time.monotonic() < until:
        for begin in (
            b"\x10\xff\xff\xff\x7f",
            wire.connect(f"huge-{next(_numbers)}", 5) + b"\x30\xff\xff\xff\x7f",
        ):
            with contextlib.suppress(OSError, TimeoutError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(begin + bytes(1 << 20))
                await asyncio.wait_for(reader.read(), 5)
                writer.close()
        await asyncio.sleep(0.01)


async def many_filters(port: int, until: float) -> None:
    """A client that subscribes to 100,000 filters, and again."""
    while time.monotonic() < until:
        reader, writer = await _connected(port)
        for start in range(0, 100_000, 500):
            if time.monotonic() > until:
                break
            wanted = [(f"flood/{number}/+/x", 0) for number in range(start, start + 500)]
            writer.write(wire.subscribe(start // 500 + 1, wanted, 5))
            await writer.drain()
            await asyncio.wait_for(reader.read(100_000), 10)
        writer.close()


async def many_retained(port: int, until: float) -> None:
    """A client that publishes up to 1,000,000 retained messages, each on a topic of its own."""
    _, writer = await _connected(port)
    for start in range(0, 1_000_000, 200):
        if time.monotonic() > until:
            break
        batch = [
            wire.publish(f"flood/{number}", b"x" * 50, version=5, retain=True)
            for number in range(start, start + 200)
        ]
        writer.write(b"".join(batch))
        await writer.drain()
    writer.close()


async def wrong_passwords(port: int, until: float) -> None:
    """Logins with a wrong password, one after the other on ten connections."""

    async def guess() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(OSError, TimeoutError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(wire.connect("guess", 5, username="joe", password=b"%d" % next(_numbers)))
                await asyncio.wait_for(reader.read(), 10)
                writer.close()

    await asyncio.gather(*[guess() for _ in range(10)])


ATTACKS: dict[str, Callable[[int, float], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        connections,
        slow_loris,
        never_reads,
        huge_packets,
        many_filters,
        many_retained,
        wrong_passwords,
    )
}


async def run(name: str, port: int, seconds: float) -> None:
    """Attack for so many seconds, however the broker answers."""
    with contextlib.suppress(OSError, TimeoutError, EOFError):
        await ATTACKS[name](port, time.monotonic() + seconds)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
