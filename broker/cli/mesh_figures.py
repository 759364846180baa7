"""The mesh as a whole, put together from what its nodes say about themselves; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

Statuses = Mapping[str, Mapping[str, Any]]
"""Node name -> its status, of those that answered."""


def overview(statuses: Statuses) -> dict[str, Any]:
    """Nodes, regions and links, ready for JSON.

    A node that others know and that did not answer is away; one whose name is another's is refused, and in no region.
    """
    members = {name: status for name, status in statuses.items() if not status.get("refused")}
    nodes = [_node(name, status) for name, status in statuses.items()] + list(_away(members))
    nodes.sort(key=lambda node: (node["region"], node["name"]))
    there = Counter(node["region"] for node in nodes if node["there"])
    known = Counter(node["region"] for node in nodes if not node["refused"])
    return {
        "nodes": nodes,
        "regions": [
            {"region": name, "nodes": count, "there": there[name], **_towards(name, members)}
            for name, count in sorted(known.items())
        ],
        "links": [_link(name, peer) for name, peer in _peers(members)],
    }


def of_node(mesh: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Of an overview what concerns one node."""
    nodes = [node for node in mesh["nodes"] if node["name"] == name]
    regions = {node["region"] for node in nodes}
    return {
        "nodes": nodes,
        "regions": [region for region in mesh["regions"] if region["region"] in regions],
        "links": [link for link in mesh["links"] if name in (link["node"], link["peer"])],
    }


def accounts(statuses: Statuses) -> list[dict[str, Any]]:
    """What became of the messages of each node for each other one, ready for JSON."""
    found = []
    for name, status in statuses.items():
        found += [_account(name, peer["name"], peer["ledger"], False) for peer in status.get("peers", ())]
        forgotten = (status.get("mesh") or {}).get("forgotten", {})
        found += [_account(name, gone, ledger, True) for gone, ledger in forgotten.items()]
    return found


def _account(node: str, destination: str, ledger: Mapping[str, Any], forgotten: bool) -> dict[str, Any]:
    dropped = dict(ledger["dropped"])
    accounted = ledger["acknowledged"] + ledger["queued"] + ledger["expired"] + sum(dropped.values())
    return {
        "node": node,
        "destination": destination,
        **{key: ledger[key] for key in ("accepted", "acknowledged", "queued", "expired")},
        "dropped": dropped,
        "balanced": ledger["accepted"] == accounted,
        "forgotten": forgotten,
    }


def _towards(region: str, statuses: Statuses) -> dict[str, Any]:
    """What nodes of other regions say of one: all name the same gateway, but for those that have just seen it go."""
    told = [one for status in statuses.values() for one in status.get("regions", ()) if one["name"] == region]
    gateways = Counter(one["gateway"] for one in told if one["gateway"] is not None)
    return {
        "gateway": gateways.most_common(1)[0][0] if gateways else None,
        "received": sum(one["sent"] for one in told),
        "received_bytes": sum(one["sent_bytes"] for one in told),
    }


def _peers(statuses: Statuses) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, status in statuses.items():
        for peer in status.get("peers", ()):
            yield name, peer


def _node(name: str, status: Mapping[str, Any]) -> dict[str, Any]:
    mesh = status.get("mesh") or {}
    return {
        "name": name,
        "region": status.get("region", ""),
        "there": not status.get("refused"),
        "refused": bool(status.get("refused")),
        "version": status.get("version", ""),
        "protocol": mesh.get("protocol"),
        "uptime": status.get("uptime"),
        "clients": status.get("clients"),
        "unwanted": status.get("counters", {}).get("publish_unwanted"),
        "outbox": mesh.get("outbox"),
    }


def _away(statuses: Statuses) -> Iterator[dict[str, Any]]:
    """Each node that is known only by what others say, once: as the one that saw it last has it."""
    last: dict[str, Mapping[str, Any]] = {}
    for _, peer in _peers(statuses):
        name = peer["name"]
        if name not in statuses and (name not in last or peer["since"] > last[name]["since"]):
            last[name] = peer
    for name, peer in last.items():
        yield {
            "name": name,
            "region": peer["region"],
            "there": False,
            "refused": False,
            "version": peer.get("version", ""),
            "protocol": None,
            "uptime": None,
            "clients": None,
            "unwanted": None,
            "outbox": None,
        }


def _link(name: str, peer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "node": name,
        "peer": peer["name"],
        "alive": peer["alive"],
        "since": peer["since"],
        "round_trip_ms": peer.get("round_trip_ms"),
        "clock_difference": peer.get("clock_difference"),
        "rates": peer.get("rates", {}),
        "backlog": peer["backlog"],
        "backlog_age": peer.get("backlog_age"),
    }
