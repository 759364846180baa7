"""A rule as the operator configured it, and what it makes of messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from plugins.host.frame import Fields
from plugins.host.limits import Limits
from plugins.host.reasons import Reason

INGRESS, EGRESS, STORE = 1, 2, 4
STAGE_NAMES = {INGRESS: "ingress", EGRESS: "egress", STORE: "store"}

BUILTIN = Path(__file__).resolve().parents[1] / "builtin"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Where messages go that a rule could not work on: a topic of this node, a file.

    Of the file, when it has ``max_bytes``, one older one is kept beside it.
    """

    topic: str = ""
    file: Path | None = None
    max_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A rule as the operator configured it.

    ``module`` is the name of a built-in module or the path of a file; None keeps every message as it is.
    ``on_error`` says what happens to messages that the rule could not work on: ``drop`` or ``pass``. At the
    boundary (stage EGRESS) they are always dropped.
    """

    name: str
    stage: int
    module: str | None
    topics: tuple[str, ...]
    config: dict[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    on_error: str = "drop"
    dead_letter: DeadLetter | None = None

    @property
    def closed(self) -> bool:
        """Whether what the rule cannot work on is dropped."""
        return self.stage == EGRESS or self.on_error == "drop"

    @property
    def path(self) -> Path | None:
        """Where the module is."""
        if self.module is None:
            return None
        is_file = "/" in self.module or self.module.endswith(".wasm")
        return Path(self.module) if is_file else BUILTIN / f"{self.module}.wasm"


class Failed(NamedTuple):
    """A message that a rule could not work on, its place in the batch, and why."""

    place: int
    message: Fields
    reason: Reason


class Outcome(NamedTuple):
    """What a rule made of a batch."""

    messages: list[Fields | None]
    """One for each of the batch: the same object, a changed one, or None where it is dropped."""
    emitted: list[Fields]
    stored: list[Fields]
    failed: list[Failed]
