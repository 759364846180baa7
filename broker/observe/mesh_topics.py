"""The mesh's part of the `$SYS` topics, from the node's status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LEDGER = ("accepted", "acknowledged", "queued", "expired")
_OPTIONAL = ("round_trip_ms", "clock_difference")


def mesh_gauges(status: Mapping[str, Any]) -> dict[str, object]:
    """Name below `$SYS/broker/` -> value; empty for a node without a mesh."""
    mesh = status.get("mesh")
    if not mesh:
        return {}
    outbox = mesh["outbox"]
    alarms = outbox["alarms"]
    found: dict[str, object] = {
        "geomq/mesh/unwanted": status["counters"]["publish_unwanted"],
        "geomq/mesh/retained_withheld": mesh["retained_withheld"],
        "geomq/outbox/bytes": outbox["bytes"],
        "geomq/outbox/capacity": outbox["capacity"],
        "geomq/outbox/dropped": outbox["dropped"],
        "geomq/outbox/alarms/filled": int(alarms["filled"]),
        "geomq/outbox/alarms/dropping": int(alarms["dropping"]),
        "geomq/outbox/alarms/late": len(alarms["late"]),
        "geomq/outbox/alarms/raised": alarms["raised"],
    }
    for peer in status["peers"]:
        root = f"geomq/mesh/{peer['name']}/"
        found.update((root + name, value) for name, value in _peer(peer).items())
    return found


def _peer(peer: Mapping[str, Any]) -> dict[str, object]:
    ledger = peer["ledger"]
    return {
        "alive": int(peer["alive"]),
        "version": peer["version"] or "unknown",
        "backlog_age": peer["backlog_age"],
        **{name: peer[name] for name in _OPTIONAL if peer[name] is not None},
        **{name: ledger[name] for name in _LEDGER},
        **{f"dropped/{reason}": count for reason, count in ledger["dropped"].items()},
        **{f"rate/{name}": rate for name, rate in peer["rates"].items()},
    }
