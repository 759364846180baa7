"""When an operator should hear of the outbox: how full it is, that it drops, who has been away for long; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILLED = 0.8
"""The part of the bound beyond which the outbox counts as filled."""
RELIEVED = 0.6
"""The part of the bound below which it does not any more."""
_LATE = 0.5
"""The part of the retention after which what waits for a node is a matter for its operator."""


class OutboxAlarms:
    """Raised once each, until what they are about is over."""

    def __init__(self, overflowed: int) -> None:
        self._overflowed = overflowed
        self._before = overflowed
        """What had been dropped before the alarm of dropping was raised."""
        self.filled = False
        self.dropping = False
        self.late: set[str] = set()
        """The destinations whose oldest message has waited for more than half of the retention."""
        self.raised = 0
        """Alarms since the start."""

    def update(
        self, size: int, capacity: int, overflowed: int, ages: Mapping[str, float], retention: float
    ) -> list[str]:
        """Take the newest figures; what has to be said about them, one line each.

        ``size`` and ``capacity`` are in bytes, ``overflowed`` counts the messages dropped at the bound,
        ``ages`` are the seconds for which each destination's oldest message has waited.
        """
        return [
            *self._fill(size, capacity, overflowed),
            *self._drops(overflowed),
            *self._lateness(ages, retention),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "filled": self.filled,
            "dropping": self.dropping,
            "late": sorted(self.late),
            "raised": self.raised,
        }

    def _fill(self, size: int, capacity: int, overflowed: int) -> list[str]:
        share = size / max(capacity, 1)
        if not self.filled and share > FILLED:
            self.filled = True
            self.raised += 1
            return [f"the outbox is filled to {share:.0%} of {capacity} bytes (mesh.outbox_bytes)"]
        if self.filled and share < RELIEVED:
            lost = f"; {overflowed - self._before} messages were dropped" if self.dropping else ""
            self.filled = self.dropping = False
            self._overflowed = overflowed
            return [f"the outbox has room again, it is filled to {share:.0%}{lost}"]
        return []

    def _drops(self, overflowed: int) -> list[str]:
        count, self._overflowed = overflowed - self._overflowed, overflowed
        if count <= 0 or self.dropping:
            return []
        self._before = overflowed - count
        # Over when there is room again, which is when all that were dropped are told.
        self.filled = self.dropping = True
        self.raised += 1
        return [f"the outbox is full: the oldest messages of the longest queue are dropped ({count} so far)"]

    def _lateness(self, ages: Mapping[str, float], retention: float) -> list[str]:
        late = {name for name, age in ages.items() if age > _LATE * retention}
        new, self.late = late - self.late, late
        self.raised += len(new)
        return [
            f"what waits for node {name} has waited for {ages[name]:.0f} s; it is dropped after "
            f"{retention:.0f} s (mesh.retention)"
            for name in sorted(new)
        ]
