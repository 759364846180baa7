"""The node's own figures as retained messages under `$SYS/broker/`, by the names that Mosquitto uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from broker import __version__
from broker.engine import Engine
from broker.message import Message

STATUS_TOPIC = "$SYS/broker/geomq/status"
"""Everything at once, as JSON: what `geomq status` shows and dashboards of several nodes need."""


def figures(engine: Engine, uptime: float) -> dict[str, str]:
    """What goes under `$SYS/broker/`, by topic."""
    stats = engine.stats
    dropped = stats.dropped_queue_full + stats.dropped_slow_consumer + stats.dropped_expired
    connected = engine.roster.connected
    total = len(engine.roster)
    values: dict[str, object] = {
        "version": f"geomq version {__version__}",
        "uptime": f"{int(uptime)} seconds",
        "clients/connected": connected,
        "clients/disconnected": total - connected,
        "clients/total": total,
        "subscriptions/count": engine.subscriptions.count,
        "retained messages/count": len(engine.retained),
        "bytes/received": stats.bytes_received,
        "bytes/sent": stats.bytes_sent,
        "publish/messages/received": stats.publish_received,
        "publish/messages/sent": stats.publish_delivered,
        "publish/messages/dropped": dropped,
    }
    return {f"$SYS/broker/{name}": str(value) for name, value in values.items()}


class SysTopics:
    """Publishes what changed since the last time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told: dict[str, str] = {}

    def publish(self, uptime: float, status: Mapping[str, Any], now: float) -> None:
        """Publish the figures that changed, and the status."""
        current = figures(self._engine, uptime)
        current[STATUS_TOPIC] = json.dumps(status, separators=(",", ":"))
        for topic, text in current.items():
            if self._told.get(topic) != text:
                self._told[topic] = text
                self._engine.publish_one(Message(topic, text.encode(), 0, True), now)
        self._engine.flush()
