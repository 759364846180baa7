"""Everything that can happen to two brokers and the link between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.faults.links import no_cables
from tests.faults.pairs import FAKETIME
from tests.faults.stage import Account, Fault, Stage

_Happening = Callable[[Stage], Awaitable[None]]
_GONE = "node far of region far is gone"
_RETENTION = 8


def slow(round_trip: float, seconds: float) -> _Happening:
    async def happen(stage: Stage) -> None:
        stage.pair.link.slow(round_trip)
        await asyncio.sleep(seconds)
        stage.pair.link.heal()

    return happen


def lossy(percent: int, seconds: float) -> _Happening:
    async def happen(stage: Stage) -> None:
        stage.pair.link.lose(percent)
        await asyncio.sleep(seconds)
        stage.pair.link.heal()

    return happen


def cut(seconds: float) -> _Happening:
    async def happen(stage: Stage) -> None:
        stage.pair.link.cut()
        await asyncio.sleep(seconds)
        assert stage.pair.near_says(_GONE)
        stage.pair.link.heal()

    return happen


def cut_one_way(forth: bool, seconds: float) -> _Happening:
    async def happen(stage: Stage) -> None:
        stage.pair.link.cut_one_way(forth)
        await asyncio.sleep(seconds)
        assert stage.missing > 0
        stage.pair.link.heal()

    return happen


def flapping(times: int) -> _Happening:
    async def happen(stage: Stage) -> None:
        for _ in range(times):
            stage.pair.link.cut()
            await asyncio.sleep(1)
            stage.pair.link.heal()
            await asyncio.sleep(1)

    return happen


async def kill_receiver(stage: Stage) -> None:
    stage.pair.far.kill()
    await asyncio.sleep(2)
    await stage.pair.far.start()


async def kill_sender(stage: Stage) -> None:
    stage.pair.near.kill()
    await stage.pair.near.start()


def kill_sender_often(times: int) -> _Happening:
    """At moments of all kinds, the link cut at every other."""

    async def happen(stage: Stage) -> None:
        chance = random.Random(times)
        for number in range(times):
            if number % 2:
                stage.pair.link.cut()
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            stage.pair.near.kill()
            await stage.pair.near.start()
            stage.pair.link.heal()

    return happen


def kill_while_it_drains(seconds: float) -> _Happening:
    """The receiving node, or the one between, dies when some of what has waited has come, and not yet all."""

    async def happen(stage: Stage) -> None:
        victim = stage.pair.middle or stage.pair.far
        stage.pair.link.cut()
        await asyncio.sleep(seconds)
        waiting, heard = stage.missing, stage.heard
        stage.pair.link.heal()
        await stage.see(lambda: stage.heard > heard, 60)
        victim.kill()
        assert stage.missing > waiting / 10
        await victim.start()

    return happen


def freeze_receiver(seconds: float) -> _Happening:
    async def happen(stage: Stage) -> None:
        stage.pair.freeze(stage.pair.far)
        await asyncio.sleep(seconds)
        assert stage.pair.near_says(_GONE)
        stage.pair.wake(stage.pair.far)

    return happen


async def fill_the_disk(stage: Stage) -> None:
    """The near broker's, while what it is told has to wait for the far one."""
    pair = stage.pair
    pair.link.cut()
    pair.disk.fill()
    if pair.is_geomq:
        # Whichever needs room first: behind QoS 2 that broker.db does not take, nothing comes to outbox.db.
        await stage.see(lambda: pair.near_says(".db cannot be written"), 60)
    await asyncio.sleep(3)
    pair.disk.free()
    pair.link.heal()


def set_clock(retention: float) -> _Happening:
    """An hour ahead, which is longer than messages may wait, while some do; then back again."""

    async def happen(stage: Stage) -> None:
        pair = stage.pair
        pair.link.cut()
        await asyncio.sleep(2)
        pair.clock.set(3600)
        await asyncio.sleep(retention)
        pair.link.heal()
        await stage.see(lambda: not stage.pair.is_geomq or bool(stage.near_status.peer("far").get("alive")))
        pair.clock.set(0)

    return happen


async def restart_all(stage: Stage) -> None:
    pair = stage.pair
    await asyncio.gather(*(asyncio.to_thread(broker.stop) for broker in (pair.near, pair.far)))
    await asyncio.gather(pair.near.start(), pair.far.start())


async def stay_away_too_long(stage: Stage) -> None:
    """The far node misses all of its messages, whose time has run out when it comes back."""
    pair = stage.pair
    pair.far.kill()
    await stage.see(lambda: pair.near_says(_GONE))
    await asyncio.sleep(2)
    stage.rest()
    await stage.see(lambda: pair.near_says("away for too long and is forgotten"), 60)
    # The status comes once a second: one from before would be taken for the node's return.
    await stage.see(lambda: not stage.near_status.peer("far"))
    await pair.far.start()
    await stage.see(lambda: stage.near_status.peer("far").get("interests", 0) > 0)
    stage.work()


FAULTS = [
    Fault("round trip of 150 ms for 10 s", slow(0.15, 10), relay=True),
    Fault("round trip of 300 ms for 10 s", slow(0.3, 10), relay=True),
    Fault("1 % of the packets lost for 15 s", lossy(1, 15), cable=True),
    Fault("5 % of the packets lost for 15 s", lossy(5, 15), cable=True),
    Fault("link cut for 5 s", cut(5)),
    Fault("link cut for 30 s", cut(30)),
    Fault("link cut for 120 s", cut(120)),
    Fault("link cut towards the receiver for 10 s", cut_one_way(True, 10)),
    Fault("link cut towards the sender for 10 s", cut_one_way(False, 10)),
    Fault("link cut each second for a second, 10 times", flapping(10)),
    Fault("receiving node killed", kill_receiver),
    Fault("sending node killed", kill_sender, kills_sender=True),
    Fault(
        "sending node killed 20 times, the link cut at every other", kill_sender_often(20), kills_sender=True
    ),
    Fault("receiving node stopped (SIGSTOP) for 20 s", freeze_receiver(20)),
    Fault("receiving node killed while its backlog drains", kill_while_it_drains(6), rate=1000, relay=True),
    Fault(
        "node between the two killed while a backlog drains",
        kill_while_it_drains(6),
        rate=1000,
        relay=True,
        by_way=True,
    ),
    Fault("sender's disk full, link cut", fill_the_disk, rate=300, small_disk=True),
    Fault("sender's clock an hour ahead, link cut", set_clock(8), mesh={"retention": "10m"}, sets_clock=True),
    Fault("all nodes restarted at once", restart_all),
    Fault(
        f"receiving node away for longer than the retention ({_RETENTION} s)",
        stay_away_too_long,
        mesh={"retention": f"{_RETENTION}s"},
        only_geomq=True,
        gives_up=True,
    ),
]
"""All of it: `make faults`."""

QUICK = [
    Fault("300 ms", slow(0.3, 3), relay=True),
    Fault("loss", lossy(5, 3), cable=True),
    Fault("cut", cut(3), relay=True),
    Fault("cut forth", cut_one_way(True, 4), relay=True),
    Fault("flapping", flapping(2), relay=True),
    Fault("sender killed", kill_sender, kills_sender=True, relay=True),
    Fault("receiver frozen", freeze_receiver(4.5), relay=True),
    Fault("draining", kill_while_it_drains(4), rate=1000, relay=True),
    Fault("disk full", fill_the_disk, rate=300, small_disk=True, relay=True),
    Fault("restart", restart_all, relay=True),
]
"""The fast half: `make test`."""


def obstacle(fault: Fault) -> str:
    """Why a fault cannot be had on this machine; empty where it can."""
    if fault.cable and no_cables():
        return no_cables()
    if fault.sets_clock and not FAKETIME.exists():
        return "libfaketime is not installed"
    return ""


async def play(kind: str, fault: Fault, folder: Path) -> Account:
    """One fault, with a cable to cut where there can be one."""
    cable = fault.cable or not (fault.relay or no_cables())
    async with asyncio.timeout(600):
        return await Stage(kind, fault, folder, cable).play()


def broken(fault: Fault, account: Account) -> list[str]:
    """The promises that GeoMQ did not keep; empty where it kept all."""
    found = [
        f"{number} {what}"
        for number, what in (
            (account.doubled, "doubled"),
            (account.disordered, "out of order"),
            (account.unfinished, "never acknowledged"),
        )
        if number
    ]
    if account.lost > (account.dropped if fault.gives_up else 0):
        found.append(f"{account.lost} lost, {account.dropped} of them accounted for")
    if account.converged is None and not fault.gives_up:
        found.append("does not converge")
    if not account.balanced:
        found.append(f"the ledger does not balance: {account.ledger}")
    elif not fault.kills_sender and account.ledger["accepted"] < account.acknowledged:
        found.append(f"the ledger knows of {account.ledger['accepted']} of {account.acknowledged}")
    return found
