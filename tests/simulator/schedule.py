"""One random schedule, and what must hold while it goes on and after it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.simulator.model import FILTERS, KEPT_TOPICS, TOPICS
from tests.simulator.world import World

_ACTIONS = 40
_PATIENCE = 90.0
"""Virtual seconds in which everything must arrive once all is well."""
_SILENCE = 8.0
"""Virtual seconds after which no ping that was lost is missed any more."""
_CHANCES = {
    "publish": 8,
    "publish run": 2,
    "subscribe": 3,
    "unsubscribe": 2,
    "crash": 1,
    "lose": 0.4,
    "restart": 0.7,
    "stop": 0.5,
    "start": 1.5,
    "cut node": 1,
    "cut region": 1,
    "heal": 1,
    "clock": 1,
    "bound": 0.3,
    "crowd": 1,
}


def run(seed: int, trace: Callable[[str], None] = lambda line: None) -> None:
    """AssertionError says what went wrong."""
    with (
        tempfile.TemporaryDirectory(prefix="geomq-sim-", dir=_fast()) as folder,
        World(seed, Path(folder), trace) as world,
    ):
        world.loop.run_until_complete(_play(world))


async def _play(world: World) -> None:
    world.begin()
    for _ in range(_ACTIONS):
        await _act(world)
        await world.passes(world.chance.choice([0.001, 0.01, 0.1, 0.5, 3.0]))
    await _recover(world)
    await _publish_in_calm(world)


def _fast() -> str | None:
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None


async def _act(world: World) -> None:
    chance = world.chance
    names = sorted(world.nodes)
    name = chance.choice(names)
    (action,) = chance.choices(list(_CHANCES), list(_CHANCES.values()))
    match action:
        case "publish":
            for _ in range(chance.choice([1, 1, 3, 20])):
                topic = chance.choice(TOPICS)
                world.publish(
                    name,
                    topic,
                    chance.choice([0, 0, 1, 2]),
                    chance.choice([0, 50, 300]),
                    topic in KEPT_TOPICS and chance.random() < 0.3,
                    chance.choice([2.0, 10.0]) if world.bounded and chance.random() < 0.2 else 0.0,
                )
        case "publish run":
            for _ in range(chance.choice([1, 3])):
                size = chance.choice([0, 50, 30_000])
                world.publish_run(name, chance.choice(TOPICS), chance.choice([1, 2, 5]), size)
        case "subscribe":
            world.subscribe(name, chance.choice(FILTERS))
        case "unsubscribe":
            world.unsubscribe(name, chance.choice(sorted(world.nodes[name].held) or ["#"]))
        case "crash":
            world.crash(name)
        case "lose":
            world.crash(name, lose=True)
        case "restart":
            for _ in range(3):
                world.publish(name, chance.choice(TOPICS), chance.choice([1, 2]))
            await world.passes(chance.choice([0.001, 0.01, 0.1]))
            world.crash(name, lose=chance.random() < 0.5)
            await world.passes(chance.choice([0.001, 1.0]))
            world.start(name)
        case "stop":
            await world.stop(name)
        case "start":
            for other in names:
                world.start(other)
        case "cut node":
            world.cut([name])
        case "cut region":
            region = world.nodes[name].settings.region
            world.cut(name for name, node in world.nodes.items() if node.settings.region == region)
        case "heal":
            world.heal()
        case "clock":
            # Together less than the hour beyond which retained messages are refused.
            world.set_clock(name, chance.choice([-1700.0, 0.0, 1700.0]))
        case "crowd":
            world.set_crowded(name, chance.random() < 0.5)
        case "bound":
            world.set_bound(name, chance.choice([1, 3, world.most_filters]))


async def _recover(world: World) -> None:
    """All is well from now on: soon everybody has heard, and knows, everything."""
    world.tampers = False
    world.fabric.hiccups = False
    world.heal()
    for name in sorted(world.nodes):
        world.start(name)
        world.set_crowded(name, False)
    await _quiet(world)
    world.fabric.loss = 0.0
    # Nobody takes anybody for deaf any more.
    await world.passes(_SILENCE)
    await _quiet(world)


async def _quiet(world: World) -> None:
    """All that has to come has come, and stays so for a while."""
    over = world.loop.time() + _PATIENCE
    calm = 0
    while calm < 3 and world.loop.time() < over:
        missing = _missing(world)
        calm = 0 if missing else calm + 1
        await world.passes(1.0)
    assert calm == 3, missing


def _missing(world: World) -> str | None:
    """What is not as it should be at last; None where all is."""
    for name, node in world.nodes.items():
        life = node.life
        if life is None or not life.ready:
            return f"{name} is not there"
        alive = {peer.name for peer in life.mesh.peers() if peer.alive}
        if alive != world.nodes.keys() - {name}:
            return f"{name} believes that {sorted(alive)} are there"
        for other, there in world.nodes.items():
            if other == name:
                continue
            account = life.outbox.ledger(other)
            if account.queued:
                return f"{name} still has {account.queued} messages for {other}"
            lost = world.model.missing(name, other)
            if len(lost) > account.expired + account.dropped:
                return f"{other} misses what {name} acknowledged: {lost[:5]}, by the account {account}"
            for topic in TOPICS:
                known, wanted = other in life.knows(topic), there.wants(topic)
                exact = there.settings.max_filters > len(FILTERS)
                if wanted > known or (exact and known > wanted):
                    return f"{name} believes that {other} wants {topic}: {known}"
    # Who never got what a lost outbox had for it asks for it only when it meets another node that has it.
    return None if world.bounded or world.forgetful or world.lossy else _differing(world)


def _differing(world: World) -> str | None:
    """A retained message that is not the same everywhere, or not the newest."""
    for topic in KEPT_TOPICS:
        newest = {
            name: (kept.stamp, kept.origin or name)
            if (kept := node.life and node.life.store.retained.get(topic))
            else (0, "")
            for name, node in world.nodes.items()
        }
        told = max(
            (
                (publication.stamp, publication.origin.name)
                for publication in world.model.publications
                if publication.retain and publication.topic == topic and publication.origin.node.durable
            ),
            default=(0, ""),
        )
        if len(set(newest.values())) > 1 or min(newest.values()) < told:
            return f"{topic} is not the same everywhere: {newest}, {told} was told"
    return None


async def _publish_in_calm(world: World) -> None:
    """Everything arrives now, also at QoS 0, and only where it is wanted."""
    for life in list(world.lives()):
        for topic in TOPICS:
            for qos in (0, 1):
                publication = world.publish(life.name, topic, qos)
                assert publication is not None
        await world.passes(world.chance.choice([0.0, 0.1]))
    count = len(world.nodes) * len(TOPICS) * 2
    await world.passes(10.0)
    for publication in world.model.publications[-count:]:
        for name, node in world.nodes.items():
            if name != publication.origin.name and node.wants(publication.topic):
                what = f"{publication.number} of {publication.origin.name}"
                if publication.qos:
                    assert publication.acknowledged, f"{what} is not acknowledged"
                    assert name not in publication.owed or world.bounded, f"{name} has not heard {what}"
                else:
                    assert world.model.heard_live(name, publication.number), f"{name} has not heard {what}"
