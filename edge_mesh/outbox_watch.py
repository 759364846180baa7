"""The outbox under the eyes of its operator: alarms in the log, figures in the status."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from edge_mesh.alarms import OutboxAlarms
from edge_mesh.outbox import Outbox
from edge_mesh.settings import MeshSettings

logger = logging.getLogger("geomq.mesh.outbox")


class OutboxWatch:
    """Looks at an outbox from time to time; what earlier processes dropped is no alarm."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._alarms = OutboxAlarms(outbox.overflowed)

    def look(self, settings: MeshSettings, destinations: Iterable[str]) -> None:
        """Log what has to be said now."""
        outbox = self._outbox
        ages = {name: outbox.backlog_age(name) for name in destinations}
        for line in self._alarms.update(
            outbox.bytes, settings.outbox_bytes, outbox.overflowed, ages, settings.retention_seconds
        ):
            logger.warning("%s", line)

    def status(self, settings: MeshSettings) -> dict[str, Any]:
        """How full the outbox is (bytes), and its alarms; ready for JSON."""
        return {
            "bytes": self._outbox.bytes,
            "capacity": settings.outbox_bytes,
            "retention": settings.retention_seconds,
            "dropped": self._outbox.overflowed,
            "alarms": self._alarms.as_dict(),
        }
