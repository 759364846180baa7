"""One random schedule, and what must hold after it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.simulator.world import TOPICS, World

_ACTIONS = 40
_QUIET = 60.0
"""Virtual seconds in which everything must arrive once all is well."""


def run(seed: int, trace: Callable[[str], None] = lambda line: None) -> None:
    """AssertionError says what went wrong."""
    with tempfile.TemporaryDirectory(prefix="geomq-sim-", dir=_fast()) as folder:
        world = World(seed, Path(folder), trace)
        try:
            _trouble(world)
            _recover(world)
            check(world)
        finally:
            for name in world.nodes:
                world.crash(name)


def _fast() -> str | None:
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None


def _trouble(world: World) -> None:
    chance = world.chance
    names = sorted(world.nodes)
    regions = sorted({node.region for node in world.nodes.values()})
    number = 0
    for _ in range(_ACTIONS):
        match chance.choice(["publish"] * 6 + ["crash", "start", "cut node", "cut region", "heal", "clock"]):
            case "publish":
                name, qos = chance.choice(names), chance.choice([0, 1, 1, 2])
                for _ in range(chance.choice([1, 1, 3, 20])):
                    number += 1
                    payload = b"%d:" % number + bytes(chance.choice([0, 50, 300]))
                    world.publish(name, chance.choice(TOPICS), payload, qos)
            case "crash":
                world.crash(chance.choice(names))
            case "start":
                for name in names:
                    world.start(name)
            case "cut node":
                world.cut([chance.choice(names)])
            case "cut region":
                region = chance.choice(regions)
                world.cut(name for name, node in world.nodes.items() if node.region == region)
            case "heal":
                world.heal()
            case "clock":
                world.set_clock(chance.choice(names), chance.choice([-3600.0, 3600.0]))
        world.run(chance.choice([0.0, 0.01, 0.1, 0.5, 3.0]))


def _recover(world: World) -> None:
    world.heal()
    for name in sorted(world.nodes):
        world.start(name)
    world.run(_QUIET)


def check(world: World) -> None:
    """Nothing acknowledged is lost, nothing is doubled, each publisher's order is kept, every account balances."""
    for name, node in world.nodes.items():
        assert node.life is not None
        for other in world.nodes:
            ledger = node.life.outbox.ledger(other)
            assert ledger.balanced, f"the account of {name} for {other}: {ledger}"
            assert not ledger.queued, f"{name} still has {ledger.queued} messages for {other}"
    for name, node in world.nodes.items():
        heard = Counter(node.heard)
        doubled = [item for item, count in heard.items() if count > 1]
        assert not doubled, f"{name} has heard twice: {doubled[:5]}"
        for origin, publisher in world.nodes.items():
            wanted = [payload for payload, names in publisher.published.items() if name in names]
            there = [payload for source, payload in node.heard if source == origin]
            missing = [p for p in wanted if p in publisher.acknowledged and p not in set(there)]
            assert not missing, f"{name} misses what {origin} acknowledged: {missing[:5]}"
            assert there == [p for p in wanted if p in set(there)], f"{name} heard {origin} out of order"
