"""Meshes that grow: what a join, a subscription and a publication cost, over the real pure parts in one process."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import psutil

from broker.message import Message
from broker.subscriptions import Subscriptions
from edge_mesh import envelope, relay
from edge_mesh.interest import MAX_FILTERS, LocalInterest, RemoteInterest
from edge_mesh.interest_change import decode_change, join_snapshot, snapshot_parts

_SAMPLES = 200


class Costs(NamedTuple):
    """Of one size of mesh. Times are processor seconds of one core."""

    nodes: int
    max_filters: int
    subscriptions: int
    told: int
    """Filters that all nodes together tell."""
    subscribe: float
    """For the node whose client subscribes; widening is in it."""
    subscribe_bytes: int
    """For each node that hears of a new filter."""
    hear: float
    """For each of them."""
    join: float
    """For the newcomer: to read the others' snapshots, into its tables."""
    join_bytes: int
    memory: int
    """Resident bytes of the tables that a node has about all others."""
    publish: float
    """To find out who wants a topic that was not asked for before, and to encode the message for them."""


def measure(nodes: int, subscriptions: int, max_filters: int = MAX_FILTERS) -> Costs:
    """``subscriptions`` are spread over the nodes: a tenth of each node's are for what happens elsewhere."""
    began = time.process_time()
    interests = [node_interest(number, nodes, subscriptions // nodes, max_filters) for number in range(nodes)]
    subscribe = (time.process_time() - began) / subscriptions
    snapshots = [list(snapshot_parts(interest.snapshot())) for interest in interests]
    told = sum(map(len, interests))
    gc.collect()
    before = psutil.Process().memory_info().rss
    began = time.process_time()
    trie = Subscriptions()
    remote: dict[str, RemoteInterest] = {}
    for number, parts in enumerate(snapshots[1:], 1):
        snapshot = join_snapshot(parts)
        assert snapshot is not None
        peer = remote[f"n{number}"] = RemoteInterest()
        added, _ = peer.apply_snapshot(snapshot)
        for topic_filter in added:
            trie.add_node(f"n{number}", topic_filter)
    join = time.process_time() - began
    memory = psutil.Process().memory_info().rss - before
    hear, size = _hear(interests[1], remote["n1"], trie)
    return Costs(
        nodes=nodes,
        max_filters=max_filters,
        subscriptions=subscriptions,
        told=told,
        subscribe=subscribe,
        subscribe_bytes=size,
        hear=hear,
        join=join,
        join_bytes=sum(len(part) for parts in snapshots[1:] for part in parts),
        memory=memory,
        publish=_publish(trie, nodes),
    )


def node_interest(number: int, nodes: int, count: int, max_filters: int) -> LocalInterest:
    """What one of the nodes tells, whose clients have ``count`` subscriptions."""
    interest = LocalInterest(1, max_filters)
    for device in range(count):
        if device % 10:
            interest.add(f"fleet/{number}/{device}/commands")
        else:
            interest.add(f"fleet/{(number + device // 10) % nodes}/{device}/position")
    interest.take_change()
    return interest


def _hear(local: LocalInterest, remote: RemoteInterest, trie: Subscriptions) -> tuple[float, int]:
    changes = [local.take_change().encode() for number in range(_SAMPLES) if local.add(f"new/{number}")]
    began = time.process_time()
    for data in changes:
        found = remote.apply(decode_change(data))
        assert found is not None
        for topic_filter in found[0]:
            trie.add_node("n1", topic_filter)
    return (time.process_time() - began) / len(changes), sum(map(len, changes)) // len(changes)


def _publish(trie: Subscriptions, nodes: int) -> float:
    topics = [f"fleet/{number % nodes}/{number * 10}/position" for number in range(_SAMPLES)]
    began = time.process_time()
    for topic in topics:
        names = trie.route(topic).nodes
        record = envelope.encode_record(Message(topic, bytes(64), 1))
        targets = [relay.Target(name, 0, 1, 1 << bit) for bit, name in enumerate(names[: relay.MAX_TARGETS])]
        if targets:
            data = envelope.encode(envelope.DURABLE, "n0", [record], 0.0, epoch=1, after=0, first=1)
            relay.encode(data, targets, [record], [(1 << len(targets)) - 1])
    return (time.process_time() - began) / len(topics)


def table(sizes: list[tuple[int, int, int]], told: Callable[[str], None]) -> list[str]:
    """The document's lines; ``told`` gets each as soon as it is there."""
    titles = (
        *("nodes", "subscriptions", "`max_filters`", "filters told", "a subscription"),
        *("heard by each node", "a join", "tables of a node", "a publication"),
    )
    lines = [f"| {' | '.join(titles)} |", "|" + " ---: |" * len(titles)]
    for size in sizes:
        # A process for each: what one has freed would hide what the next one takes.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            costs = process.submit(measure, *size).result()
        cells = (
            *(f"{costs.nodes:,}", f"{costs.subscriptions:,}", f"{costs.max_filters:,}", f"{costs.told:,}"),
            f"{costs.subscribe * 1e6:.0f} us",
            f"{costs.subscribe_bytes} B, {costs.hear * 1e6:.0f} us",
            f"{costs.join_bytes / 1e6:,.1f} MB, {costs.join:,.2f} s",
            f"{costs.memory / 1e6:,.0f} MB",
            f"{costs.publish * 1e6:.0f} us",
        )
        lines.append(f"| {' | '.join(cells)} |")
        told(lines[-1])
    return lines
