"""What a module may use. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_EMITS_EACH = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What a module may use: fuel is about one unit an instruction; sizes are in bytes; ``emits`` are extra messages
    for one message or a tick; the last two are what the module may have remembered."""

    fuel_base: int = 20_000_000
    fuel_per_message: int = 2_000_000
    deadline_ms: int = 50
    memory_bytes: int = 16 << 20
    output_bytes: int = 4 << 20
    emits: int = 1000
    state_keys: int = 10_000
    state_bytes: int = 4 << 20

    def most_emits(self, count: int) -> int:
        """The extra messages that a result for so many messages, or a tick (0), may have.

        What a handful for each message is does not become too much by standing in a large batch.
        """
        return self.emits + max(0, count - 1) * min(self.emits, _EMITS_EACH)
