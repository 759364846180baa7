"""From one configuration to another: what holds at once, and what it means for clients."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from broker.config import NodeConfig, load_text
from broker.new_limits import change_limits
from broker.reload import Outcome, Reloader, compare
from tests.engine.harness import Broker
from tests.protocol import wire

OLD = """
node: {name: a, region: r}
listeners: [{bind: "127.0.0.1:1883"}]
mesh: {enabled: true, connect: [tcp/127.0.0.1:1], retention: 1d}
"""


def test_same_configuration_is_no_change() -> None:
    change = compare(load_text(OLD), load_text(OLD))
    assert (change.live, change.waiting) == ([], [])
    assert change.config == load_text(OLD)


def test_what_can_hold_at_once_is_told_from_what_cannot() -> None:
    new = load_text("""
node: {name: b, region: s}
listeners: [{bind: "127.0.0.1:1884"}]
mesh: {enabled: true, connect: [tcp/127.0.0.1:2], retention: 1d, namespace: other, max_filters: 7}
mqtt: {queue_qos0: true, keep_alive_max: 60}
limits: {ban_after: 3, message_rate: 5, disk_reserve: 1MiB}
durability: memory
""")
    change = compare(load_text(OLD), new)
    assert change.live == [
        "node.region",
        "mqtt.keep_alive_max",
        "limits.message_rate",
        "limits.ban_after",
        "limits.disk_reserve",
        "mesh.connect",
        "mesh.max_filters",
    ]
    assert change.waiting == [
        *("node.name", "listeners", "mqtt.queue_qos0", "durability", "mesh.namespace"),
    ]
    config = change.config
    assert (config.node.name, config.node.region) == ("a", "s")
    assert config.mesh.connect == new.mesh.connect
    assert config.mesh.namespace == "geomq"
    assert config.mesh.retention == 24 * 3600.0
    assert config.limits.message_rate == 5
    assert config.listeners[0].port == 1883
    assert compare(config, new).live == []
    assert compare(config, new).waiting == change.waiting


def test_rules_and_the_bounds_of_the_history_may_change() -> None:
    rule = "[{name: r, topics: [t], module: rules, config: {steps: []}}]"
    with_rules = load_text(f"{OLD}plugins: {{ingress: {rule}, history: {{retention: 1d}}}}")
    change = compare(load_text(OLD), with_rules)
    assert (change.live, change.waiting) == (["plugins.ingress", "plugins.history"], [])
    stores = load_text(f"{OLD}plugins: {{store: {rule}}}")
    assert compare(load_text(OLD), stores).live == compare(stores, load_text(OLD)).live == ["plugins.store"]


async def test_who_asks_while_the_file_is_read_is_told_of_the_next_reading() -> None:
    """What is read already may be the file as it was before it was changed."""
    names = iter("abcd")
    taking, go_on = asyncio.Event(), asyncio.Semaphore(0)

    async def take(config: NodeConfig) -> Outcome:
        taking.set()
        await go_on.acquire()
        if config.node.name == "c":
            raise OSError
        return Outcome([config.node.name])

    reloader = Reloader(lambda: load_text(f"node: {{name: {next(names)}}}"), take)
    running = asyncio.create_task(reloader.run())
    first = asyncio.create_task(reloader.outcome())
    await taking.wait()
    later = [asyncio.create_task(reloader.outcome()) for _ in range(2)]
    go_on.release()
    assert (await first).changed == ["a"]
    later[0].cancel()
    go_on.release()
    assert (await later[1]).changed == ["b"]
    go_on.release()
    assert (await reloader.outcome()).mistakes == ["it could not be taken over; the node's log has the error"]
    taking.clear()
    last = asyncio.create_task(reloader.outcome())
    await taking.wait()
    running.cancel()
    await asyncio.wait([running, last])
    assert last.cancelled(), "a node that stops has no answer"


def test_queues_of_sessions_and_new_connections_keep_to_new_limits() -> None:
    broker = Broker()
    engine = broker.engine
    absent = broker.client("absent", clean=False, properties=wire.props((0x11, 100)))
    absent.subscribe(("t", 1))
    absent.drop()
    publisher = broker.client("publisher")
    old = engine.limits
    change_limits(engine, [(old, replace(old, queue_max_messages=2, connection_rate=1.0))])
    for number in range(4):
        publisher.publish("t", b"%d" % number, 1, number + 1)
    assert engine.stats.dropped_queue_full == 2
    answers = [broker.peer().ask(wire.connect(f"c{number}", 5)).reason for number in range(3)]
    assert answers[0] == 0
    assert answers[-1] == 0x9F
    change_limits(engine, [(engine.limits, old)])
    assert broker.peer().ask(wire.connect("late", 5)).reason == 0


def test_sessions_of_a_listener_keep_to_its_own_limits() -> None:
    broker = Broker()
    engine = broker.engine
    client = broker.client("c")
    (session,) = engine.roster
    own = session.limits = replace(engine.limits, queue_max_messages=7)
    new = replace(engine.limits, max_inflight=5)
    change_limits(engine, [(engine.limits, new), (own, replace(new, queue_max_messages=7))])
    assert (session.limits.queue_max_messages, session.limits.max_inflight) == (7, 5)
    assert engine.limits is new
    assert client.subscribe(("t", 1)) == [1]


def test_retained_messages_beyond_a_smaller_bound_stay() -> None:
    broker = Broker()
    publisher = broker.client("publisher")
    for topic in ("a", "b"):
        publisher.publish(topic, b"kept", retain=True)
    old = broker.engine.limits
    change_limits(broker.engine, [(old, replace(old, retained_max_messages=1))])
    publisher.publish("c", b"none", retain=True)
    publisher.publish("a", b"newer", retain=True)
    watcher = broker.client("watcher")
    watcher.subscribe(("#", 0))
    assert sorted(watcher.heard()) == [("a", b"newer"), ("b", b"kept")]
