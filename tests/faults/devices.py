"""Clients beside those of the chaos tests: they keep to a rate, find the way, read the status."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.chaos.devices import Device, Publisher
from tests.protocol import wire
from tests.protocol.wire import Answer

PROBE_TOPIC = "c/probe/0"
STATUS_TOPIC = "$SYS/broker/geomq/status"


class PacedPublisher(Publisher):
    """Publishes ``rate`` messages a second, fewer where they are not acknowledged."""

    def __init__(self, client_id: str, version: int, port: int, rate: float) -> None:
        super().__init__(client_id, version, port)
        self.topics = "12"
        self.window = 100
        self.rate = rate
        self._allowed = 0.0

    def may_publish(self) -> bool:
        """As the rate allows."""
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True

    async def keep_pace(self) -> None:
        """For as long as the publisher is to publish."""
        time = asyncio.get_running_loop().time
        last = time()
        while True:
            await asyncio.sleep(0.01)
            now = time()
            self._allowed = min(self._allowed + (now - last) * self.rate, self.window)
            last = now
            # What it owes comes first, once the broker has accepted it.
            if self.online.is_set():
                self._go_on()


class Probe(Device):
    """Publishes at QoS 0 until somebody has heard it: then the way is known."""

    def begin(self, session_present: bool) -> None:
        """The broker has accepted us."""
        self.online.set()

    def hear(self, answer: Answer) -> None:
        """Nothing is to be expected."""

    def knock(self) -> None:
        """One more try."""
        self.send(wire.publish(PROBE_TOPIC, b"0", 0, 0, self.version))


class StatusReader(Device):
    """What GeoMQ says about itself."""

    def __init__(self, client_id: str, version: int, port: int) -> None:
        super().__init__(client_id, version, port)
        self.status: dict[str, Any] = {}

    def begin(self, session_present: bool) -> None:
        """Have it sent, now and each second."""
        self.send(wire.subscribe(1, [(STATUS_TOPIC, 0)], self.version))

    def hear(self, answer: Answer) -> None:
        """The status."""
        if answer.kind == wire.PUBLISH:
            self.status = json.loads(answer.payload)
            self.online.set()

    def peer(self, name: str) -> dict[str, Any]:
        """What it says about another node; empty where it knows none of this name."""
        return next((peer for peer in self.status.get("peers", []) if peer["name"] == name), {})

    def ledger(self, name: str) -> dict[str, Any]:
        """The account of what is owed to another node; empty where there is none."""
        return self.peer(name).get("ledger", {})
