"""Rounds of load, sudden death and return; then the account."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.brokers import Victim
from tests.chaos.devices import Device, Mortal, Publisher, Reader, Subscriber
from tests.chaos.powercut import PowerCut

_QUIET = 8.0
"""Seconds without a message after which no more is to be expected."""


@dataclass
class Account:
    """What was promised and what became of it, over all rounds."""

    rounds: int = 0
    acknowledged: int = 0
    """Messages that the broker had acknowledged to their publishers."""
    deliveries: int = 0
    """Messages that the subscribers were owed for it."""
    lost: int = 0
    """Of these, those that did not come."""
    doubled: int = 0
    """Messages at QoS 2 that came more than once."""
    disordered: int = 0
    """Messages that came for the first time after a later one of their topic."""
    retained_wrong: int = 0
    """Topics whose retained message is older than the last that was acknowledged, or none."""
    wills_promised: int = 0
    wills_lost: int = 0
    wills_repeated: int = 0
    """Wills that came more than once, as QoS 1 allows after a crash."""
    sessions_lost: int = 0
    unfinished: int = 0
    """Messages that were never acknowledged, however long their publishers waited."""
    unreleased: int = 0
    """Messages at QoS 2 that came, and of which the subscriber never heard the end (PUBREL)."""

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not any(
            (
                *(self.lost, self.doubled, self.disordered, self.retained_wrong),
                *(self.wills_lost, self.sessions_lost, self.unfinished, self.unreleased),
            )
        )


async def play(victim: Victim, rounds: int, seed: int, power: PowerCut | None = None) -> Account:
    """Kill the broker so many times, at random moments under load; with ``power`` the power is cut as well."""
    chance = random.Random(seed)
    port = victim.port
    publishers = [Publisher(f"p{n}", 4 + n % 2, port) for n in range(3)]
    steady = [Subscriber(f"s{n}", 4 + n % 2, port) for n in range(2)]
    roaming = [Subscriber(f"a{n}", 4 + n % 2, port) for n in range(2)]
    mortals = [Mortal(f"m{n}", 4 + n % 2, port) for n in range(2)]
    heir = Mortal("m-late", 5, port, delay=2)
    mortals.append(heir)
    devices: list[Device] = [*steady, *roaming, *mortals]
    account = Account()
    if power is not None:
        power.begin()
    await victim.start()
    for device in devices:
        device.come()
    async with asyncio.timeout(20):
        for device in devices:
            await device.online.wait()
    for publisher in publishers:
        publisher.come()
    for number in range(rounds):
        if number == rounds // 2:
            await heir.die()
            devices.remove(heir)
        await _one_round(victim, chance, roaming, power)
        account.rounds += 1
    for subscriber in roaming:
        subscriber.come()
    for publisher in publishers:
        publisher.stopping = True
    async with asyncio.timeout(20):
        for device in (*devices, *publishers):
            await device.online.wait()
    subscribers = steady + roaming
    await _until(lambda: all(publisher.is_done for publisher in publishers), subscribers)
    reader = Reader("reader", 5, port)
    reader.come()
    await reader.online.wait()
    await _until(lambda: not any(missing(publishers, one) for one in subscribers), subscribers)
    await _until(lambda: not any(_wills_missing(mortals, one) for one in subscribers), subscribers)
    await _until(lambda: not any(one.unreleased for one in subscribers), subscribers)
    await _until(lambda: not any(_retained_missing(one, reader) for one in publishers), subscribers)
    _settle(account, publishers, subscribers, mortals, reader)
    for device in (*devices, *publishers, reader):
        await device.leave(politely=True)
    victim.stop()
    return account


async def _one_round(
    victim: Victim, chance: random.Random, roaming: list[Subscriber], power: PowerCut | None
) -> None:
    """Load for a while, with subscribers that come and go; then the end, and a new beginning."""
    for subscriber in roaming:
        if chance.random() < 0.5:
            subscriber.come()
        else:
            await subscriber.leave(politely=chance.random() < 0.5)
    await asyncio.sleep(chance.uniform(0.02, 0.5))
    victim.kill()
    if power is not None:
        power.cut(chance)
        power.begin()
    await victim.start()


async def _until(condition: Callable[[], bool], subscribers: list[Subscriber]) -> None:
    """Wait as long as there is hope: until nothing has come for a while."""
    time = asyncio.get_running_loop().time
    heard, since = -1, time()
    while not condition() and time() < since + _QUIET:
        now_heard = sum(len(numbers) for one in subscribers for numbers in one.heard.values())
        if now_heard != heard:
            heard, since = now_heard, time()
        await asyncio.sleep(0.05)


def missing(publishers: list[Publisher], subscriber: Subscriber) -> int:
    """How many messages the subscriber is owed that have not come."""
    return sum(
        len(publisher.acknowledged[topic].difference(subscriber.heard[f"c/{publisher.client_id}/{topic}"]))
        for publisher in publishers
        for topic in "12"
    )


def _wills_missing(mortals: list[Mortal], subscriber: Subscriber) -> int:
    """How many wills the subscriber is owed that have not come."""
    return sum(len(mortal.due.difference(subscriber.heard[f"w/{mortal.client_id}"])) for mortal in mortals)


def _retained_missing(publisher: Publisher, reader: Reader) -> int:
    """How many topics have no retained message, or one that is older than the last acknowledged."""
    newest: dict[str, int] = {}
    for number in sorted(publisher.acknowledged["r"]):
        newest[publisher.retained_topic(number)] = number
    return sum(reader.retained.get(topic, -1) < number for topic, number in newest.items())


def _settle(
    account: Account,
    publishers: list[Publisher],
    subscribers: list[Subscriber],
    mortals: list[Mortal],
    reader: Reader,
) -> None:
    devices: list[Device] = [*publishers, *subscribers, *mortals]
    account.sessions_lost = sum(device.sessions_lost for device in devices)
    account.unfinished = sum(publisher.unfinished for publisher in publishers)
    for publisher in publishers:
        account.acknowledged += sum(len(numbers) for numbers in publisher.acknowledged.values())
        account.retained_wrong += _retained_missing(publisher, reader)
    for subscriber in subscribers:
        account.lost += missing(publishers, subscriber)
        account.wills_lost += _wills_missing(mortals, subscriber)
        account.wills_promised += sum(len(mortal.due) for mortal in mortals)
        account.unreleased += subscriber.unreleased
        for publisher in publishers:
            for topic in "12":
                heard = subscriber.heard[f"c/{publisher.client_id}/{topic}"]
                first = list(dict.fromkeys(heard))
                account.deliveries += len(publisher.acknowledged[topic])
                account.disordered += sum(a > b for a, b in itertools.pairwise(first))
                account.doubled += len(heard) - len(first) if topic == "2" else 0
        for mortal in mortals:
            wills = subscriber.heard[f"w/{mortal.client_id}"]
            account.wills_repeated += len(wills) - len(set(wills))
