"""One fault and one pair of brokers: traffic before, during and after it, then the account."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.devices import Device, Subscriber
from tests.chaos.rounds import missing
from tests.faults.devices import PROBE_TOPIC, PacedPublisher, Probe, StatusReader
from tests.faults.links import CableLink, RelayLink
from tests.faults.pairs import Pair

_QUIET = 30.0
"""Seconds without a message after which no more is to be expected: longer than any back-off."""
_START = 60.0
_AFTER = 1.5
"""Seconds of traffic after all is well again: what comes next must be, too."""


@dataclass(frozen=True)
class Fault:
    """What happens to a pair of brokers."""

    name: str
    happen: Callable[[Stage], Awaitable[None]]
    """Returns when it is over."""
    rate: float = 100.0
    """Messages a second of each of the two publishers."""
    mesh: dict[str, Any] = field(default_factory=dict)
    """Settings of the near node's mesh."""
    cable: bool = False
    """Whether it takes network namespaces; others get the relay where there are none."""
    relay: bool = False
    """Whether it takes the relay."""
    by_way: bool = False
    """Whether a third broker is between the two."""
    small_disk: bool = False
    sets_clock: bool = False
    kills_sender: bool = False
    """The figures of the ledger are then those of the last commit before the end."""
    only_geomq: bool = False
    gives_up: bool = False
    """Whether messages may be lost, if the ledger says that they were dropped for their age."""


@dataclass
class Account:
    """What was promised and what became of it."""

    acknowledged: int = 0
    """Messages that the near broker had acknowledged to their publishers."""
    delivered: int = 0
    """Of these, those that came to all subscribers at the far one."""
    lost: int = 0
    doubled: int = 0
    """Messages at QoS 2 that came more than once."""
    disordered: int = 0
    """Messages that came for the first time after a later one of their publisher and topic."""
    unfinished: int = 0
    """Messages that were never acknowledged, however long their publishers waited."""
    refused: int = 0
    converged: float | None = None
    """Seconds after the fault's end until all was there that had been acknowledged by then; None: never."""
    ledger: dict[str, Any] = field(default_factory=dict)
    """The near node's, for the far one."""

    @property
    def dropped(self) -> int:
        """Messages of which the ledger says that they were given up."""
        return sum(self.ledger.get("dropped", {}).values())

    @property
    def balanced(self) -> bool:
        """Whether everything that was accepted for the far node is accounted for, and nothing waits any more."""
        ledger = self.ledger
        settled = ledger["acknowledged"] + ledger["queued"] + ledger["expired"] + self.dropped
        return bool(ledger["accepted"] == settled and ledger["queued"] == 0)


class Stage:
    """A pair with its clients."""

    def __init__(self, kind: str, fault: Fault, folder: Path, cable: bool) -> None:
        self.fault = fault
        link = CableLink() if cable else RelayLink()
        self.pair = Pair(kind, folder, link, fault.mesh, fault.sets_clock, fault.by_way)
        near, far = self.pair.near, self.pair.far
        self.publishers = [PacedPublisher(f"p{n}", 4 + n, near.port, fault.rate) for n in range(2)]
        self.subscribers = [Subscriber(f"s{n}", 4 + n, far.port) for n in range(2)]
        self.near_status = StatusReader("status", 5, near.port)
        self._probe = Probe("probe", 4, near.port)
        self._devices: list[Device] = [*self.publishers, *self.subscribers, self._probe]
        for subscriber in self.subscribers:
            subscriber.host = far.host
        if self.pair.is_geomq:
            self._devices.append(self.near_status)

    async def play(self) -> Account:
        """The account after the fault."""
        pacing: list[asyncio.Task[None]] = []
        try:
            await self.pair.start(self.fault.small_disk)
            async with asyncio.timeout(_START):
                await self._find_the_way()
            for publisher in self.publishers:
                publisher.come()
                pacing.append(asyncio.create_task(publisher.keep_pace()))
            await self.see(lambda: self.heard > 400)
            await self.fault.happen(self)
            return await self._settle()
        finally:
            for task in pacing:
                task.cancel()
            for device in self._devices:
                await device.leave(politely=False)
            await self.pair.stop()

    async def see(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait for the condition; TimeoutError when it does not come."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)

    def rest(self) -> None:
        """The publishers publish nothing more; what they have published they bring to its end."""
        for publisher in self.publishers:
            publisher.stopping = True

    def work(self) -> None:
        """The publishers go on."""
        for publisher in self.publishers:
            publisher.stopping = False

    @property
    def missing(self) -> int:
        """How many deliveries are owed at this moment."""
        return sum(missing(self.publishers, subscriber) for subscriber in self.subscribers)

    @property
    def heard(self) -> int:
        """How many deliveries there have been."""
        return sum(len(numbers) for subscriber in self.subscribers for numbers in subscriber.heard.values())

    def still_missing(self, owed: dict[tuple[str, str], set[int]]) -> set[tuple[str, str, int]]:
        """What of this has not come to every subscriber: (publisher, topic, number)."""
        return {
            (name, topic, number)
            for (name, topic), numbers in owed.items()
            for subscriber in self.subscribers
            for number in numbers.difference(subscriber.heard[f"c/{name}/{topic}"])
        }

    def owed(self) -> dict[tuple[str, str], set[int]]:
        """(publisher, topic) -> the numbers that have been acknowledged."""
        return {
            (publisher.client_id, topic): set(publisher.acknowledged[topic])
            for publisher in self.publishers
            for topic in "12"
        }

    async def _find_the_way(self) -> None:
        for device in self._devices:
            if device not in self.publishers:
                device.come()
        for subscriber in self.subscribers:
            await subscriber.online.wait()
        while not all(subscriber.heard[PROBE_TOPIC] for subscriber in self.subscribers):
            self._probe.knock()
            await asyncio.sleep(0.1)

    async def _settle(self) -> Account:
        account = Account()
        time = asyncio.get_running_loop().time
        ended = time()
        owed = self.owed()
        quiet = 3.0 if self.fault.gives_up else _QUIET
        if not await self._dwindle(lambda: len(self.still_missing(owed)), quiet):
            account.converged = time() - ended
        await asyncio.sleep(_AFTER)
        self.rest()
        await self._dwindle(lambda: sum(publisher.unfinished for publisher in self.publishers), _QUIET)
        await self._dwindle(lambda: self.missing, quiet)
        account.unfinished = sum(publisher.unfinished for publisher in self.publishers)
        account.refused = sum(publisher.refused for publisher in self.publishers)
        owed = self.owed()
        account.acknowledged = sum(map(len, owed.values()))
        account.lost = len(self.still_missing(owed))
        account.delivered = account.acknowledged - account.lost
        for name, topic in owed:
            for subscriber in self.subscribers:
                heard = subscriber.heard[f"c/{name}/{topic}"]
                first = list(dict.fromkeys(heard))
                account.disordered += sum(a > b for a, b in itertools.pairwise(first))
                account.doubled += len(heard) - len(first) if topic == "2" else 0
        if self.pair.is_geomq:
            account.ledger = await self._settled_ledger()
        return account

    async def _dwindle(self, count: Callable[[], int], quiet: float) -> int:
        """Wait until nothing is left, or has not become less for ``quiet`` seconds; what is left."""
        time = asyncio.get_running_loop().time
        least, since = count(), time()
        while (left := count()) and time() < since + quiet:
            if left < least:
                least, since = left, time()
            await asyncio.sleep(0.1)
        return left

    async def _settled_ledger(self) -> dict[str, Any]:
        """As of the last commit; waits until that was after the last acknowledgement, if it ever is."""
        status = self.near_status
        await self.see(lambda: bool(status.ledger("far")))
        for _ in range(2):
            before = status.status["uptime"]
            await self.see(lambda before=before: status.status["uptime"] > before)
        await self._dwindle(lambda: status.ledger("far")["queued"], 15.0)
        return status.ledger("far")
