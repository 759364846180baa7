"""The node's own figures as retained messages under `$SYS/broker/`, by the names that Mosquitto uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from broker import __version__
from broker.engine import Engine
from broker.message import Message
from broker.observe.load import Load
from broker.observe.memory import most_memory, resident_memory
from broker.observe.mesh_topics import mesh_gauges

STATUS_TOPIC = "$SYS/broker/geomq/status"
"""Everything at once, as JSON: what `geomq status` shows and dashboards of several nodes need."""

_ROOT = "$SYS/broker/"


def gauges(engine: Engine, uptime: float) -> dict[str, object]:
    """How things are now."""
    stats = engine.stats
    connected = engine.roster.connected
    total = len(engine.roster)
    retained = engine.retained
    stored = len(retained) + stats.queued_messages
    return {
        "version": f"geomq version {__version__}",
        "uptime": f"{int(uptime)} seconds",
        "clients/active": connected,
        "clients/connected": connected,
        "clients/disconnected": total - connected,
        "clients/inactive": total - connected,
        "clients/maximum": stats.clients_maximum,
        "clients/total": total,
        "heap/current": resident_memory(),
        "heap/maximum": most_memory(),
        "messages/stored": stored,
        "store/messages/count": stored,
        "store/messages/bytes": retained.bytes + stats.queued_bytes,
        "subscriptions/count": engine.subscriptions.count,
        "shared_subscriptions/count": engine.subscriptions.shared,
        "retained messages/count": len(retained),
    }


def counters(engine: Engine) -> dict[str, int]:
    """What has been counted since the start."""
    stats = engine.stats
    return {
        "clients/expired": stats.sessions_expired,
        "messages/received": stats.publish_received + stats.control_received,
        "messages/sent": stats.publish_delivered + stats.control_sent,
        "publish/bytes/received": stats.payload_received,
        "publish/bytes/sent": stats.payload_sent,
        "publish/messages/dropped": stats.dropped_queue_full
        + stats.dropped_slow_consumer
        + stats.dropped_expired,
        "publish/messages/received": stats.publish_received,
        "publish/messages/sent": stats.publish_delivered,
        "bytes/received": stats.bytes_received,
        "bytes/sent": stats.bytes_sent,
    }


_LOADS = {
    "messages/received": "messages/received",
    "messages/sent": "messages/sent",
    "publish/dropped": "publish/messages/dropped",
    "publish/received": "publish/messages/received",
    "publish/sent": "publish/messages/sent",
    "bytes/received": "bytes/received",
    "bytes/sent": "bytes/sent",
}
"""Name under `load/` -> the counter that it averages."""


class SysTopics:
    """Publishes what changed since the last time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told: dict[str, str] = {}
        self._loads = {name: Load() for name in (*_LOADS, "sockets", "connections")}
        self._uptime = 0.0

    def publish(self, uptime: float, status: Mapping[str, Any], now: float) -> None:
        """Publish the figures that changed, and the status; remove those that there are no more."""
        counted = counters(self._engine)
        current: dict[str, object] = gauges(self._engine, uptime) | counted | mesh_gauges(status)
        self._average(counted, uptime)
        for name, load in self._loads.items():
            for minutes, average in load.averages.items():
                current[f"load/{name}/{minutes}min"] = f"{average:.2f}"
        told = {_ROOT + name: str(value) for name, value in current.items()}
        told[STATUS_TOPIC] = json.dumps(status, separators=(",", ":"))
        for topic, text in told.items():
            if self._told.get(topic) != text:
                self._told[topic] = text
                self._engine.publish_one(Message(topic, text.encode(), 0, True), now)
        # Such as the figures of a node that was forgotten, or that has no round trip while it is away.
        for topic in self._told.keys() - told.keys():
            del self._told[topic]
            self._engine.publish_one(Message(topic, b"", 0, True), now)
        self._engine.flush()

    def _average(self, counted: Mapping[str, int], uptime: float) -> None:
        stats = self._engine.stats
        values = {name: counted[counter] for name, counter in _LOADS.items()}
        values["sockets"] = stats.connections_accepted + stats.connections_refused
        values["connections"] = stats.connections_accepted
        for name, load in self._loads.items():
            load.update(values[name], uptime - self._uptime)
        self._uptime = uptime
