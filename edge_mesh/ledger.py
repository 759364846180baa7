"""What became of the messages that a durable lane took; pure."""

from __future__ import annotations

from dataclasses import dataclass

REASONS = ("age", "overflow", "forgotten")
"""Why a message was dropped: older than the retention, outbox full, receiver away for good."""


@dataclass(slots=True)
class Ledger:
    """One destination's account. It balances after every call."""

    accepted: int = 0
    acknowledged: int = 0
    queued: int = 0
    expired: int = 0
    age: int = 0
    overflow: int = 0
    forgotten: int = 0

    def accept(self, count: int) -> None:
        """Messages were taken for the destination."""
        self.accepted += count
        self.queued += count

    def acknowledge(self, count: int) -> None:
        """The destination has queued messages durably."""
        self._leave(count)
        self.acknowledged += count

    def expire(self, count: int) -> None:
        """Queued messages reached the end of their Message Expiry Interval."""
        self._leave(count)
        self.expired += count

    def drop(self, count: int, reason: str) -> None:
        """Queued messages were given up for one of :data:`REASONS`; KeyError for any other."""
        if reason not in REASONS:
            raise KeyError(reason)
        self._leave(count)
        setattr(self, reason, getattr(self, reason) + count)

    def _leave(self, count: int) -> None:
        if not 0 <= count <= self.queued:
            raise ValueError(f"{count} of {self.queued} queued messages cannot leave")
        self.queued -= count

    @property
    def dropped(self) -> int:
        """Messages given up, for whatever reason."""
        return self.age + self.overflow + self.forgotten

    @property
    def balanced(self) -> bool:
        """Every message taken is accounted for."""
        return self.accepted == self.acknowledged + self.queued + self.expired + self.dropped

    def as_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return {
            "accepted": self.accepted,
            "acknowledged": self.acknowledged,
            "queued": self.queued,
            "expired": self.expired,
            "dropped": {reason: getattr(self, reason) for reason in REASONS},
        }
