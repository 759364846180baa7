"""One rule at work: a module attached to topics, with its limits, its failures and what it may not do to others."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from plugins.host import frame
from plugins.host.breaker import Breaker
from plugins.host.engine import Instance, Limits, PluginError, read_module
from plugins.host.frame import Fields
from plugins.host.state import State

logger = logging.getLogger("geomq.plugins")

BUILTIN = Path(__file__).resolve().parents[1] / "builtin"
_SEARCH_SECONDS = 0.2
"""For how long a failed batch is searched for the messages that make it fail: everybody else waits meanwhile."""
_MAX_METRICS = 1000
_LEVELS = {
    b"debug": logging.DEBUG,
    b"info": logging.INFO,
    b"warning": logging.WARNING,
    b"error": logging.ERROR,
}

INGRESS, EGRESS, STORE = 1, 2, 4
STAGE_NAMES = {INGRESS: "ingress", EGRESS: "egress", STORE: "store"}


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


class Outcome(NamedTuple):
    """What a rule made of a batch."""

    messages: list[Fields | None]
    """One for each of the batch: the same object, a changed one, or None where it is dropped."""
    emitted: list[Fields]
    stored: list[Fields]


class Rule:
    """An entry at work. Called from one thread at a time."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._config = json.dumps(entry.config).encode()
        self._closed = entry.stage == EGRESS or entry.on_error == "drop"
        self._instance: Instance | None = None
        self._breaker = Breaker()
        self._loading = Breaker(threshold=1, first=2.0)
        self._state = State()
        self._batch_id = 0
        self._search_until = 0.0
        self._told = ""
        self.last_error = ""
        self.metrics: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.microseconds = 0
        if entry.module is not None:
            self._load(time.monotonic())

    def close(self) -> None:
        """Give the module's memory back."""
        self._discard()

    def run(self, batch: Sequence[Fields], now: float) -> Outcome:
        """Work on a batch; ``now`` is wall-clock seconds. Never raises."""
        self.counts["messages"] += len(batch)
        if self.entry.module is None:
            self.counts["passed"] += len(batch)
            return Outcome(list(batch), [], [])
        clock = time.monotonic()
        outcome = Outcome([None] * len(batch), [], [])
        if self._breaker.allows(clock) and self._ready(clock):
            self.counts["runs"] += 1
            self._search_until = clock + _SEARCH_SECONDS
            self._attempt(batch, range(len(batch)), outcome, now)
            self.microseconds += round((time.monotonic() - clock) * 1e6)
        else:
            self._give_up(batch, range(len(batch)), outcome)
        return outcome

    def figures(self) -> dict[str, Any]:
        """What operators ask about the rule, ready for JSON."""
        names = ("messages", "runs", "passed", "dropped", "replaced", "emitted", "failed", "alerts")
        return {
            "name": self.entry.name,
            "stage": STAGE_NAMES[self.entry.stage],
            "module": self.entry.module,
            "state": self._condition(),
            **{name: self.counts[name] for name in names},
            "microseconds": self.microseconds,
            "metrics": dict(self.metrics),
            "last_error": self.last_error,
        }

    def _condition(self) -> str:
        if self.entry.module is None or (self._instance is not None and not self._breaker.opened):
            return "ready"
        return "open" if self._breaker.opened else "failing"

    # -- the module --------------------------------------------------------------------------------------

    def _ready(self, clock: float) -> bool:
        if self._instance is None and self._loading.allows(clock):
            self._load(clock)
        return self._instance is not None

    def _load(self, clock: float) -> None:
        module = self.entry.module
        assert module is not None
        path = Path(module) if "/" in module or module.endswith(".wasm") else BUILTIN / f"{module}.wasm"
        try:
            self._instance = self._make(path)
        except PluginError as error:
            self._loading.failed(clock)
            self._complain(str(error))
            return
        self._loading.succeeded()
        if self._told:
            logger.info("rule %s works again", self.entry.name)
            self._told = ""

    def _make(self, path: Path) -> Instance:
        return Instance(read_module(path), self._config, self.entry.limits, self._state_get)

    def _state_get(self, key: bytes) -> bytes | None:
        return self._state.get(key, time.monotonic())

    def _discard(self) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.close()

    def _complain(self, text: str) -> None:
        """Tell an error once, however often it comes."""
        self.last_error = text
        if text != self._told:
            self._told = text
            fate = "dropped" if self._closed else "passed on unchanged"
            logger.error("rule %s fails, its messages are %s: %s", self.entry.name, fate, text)

    # -- a batch -----------------------------------------------------------------------------------------

    def _attempt(self, batch: Sequence[Fields], where: range, outcome: Outcome, now: float) -> None:
        """Work on the part ``where`` of the batch; where that fails, on its halves."""
        part = batch[where.start : where.stop]
        try:
            result = self._call(part, now)
        except (PluginError, frame.FrameError) as error:
            self._discard()
            self._complain(str(error))
            self._split(batch, where, outcome, now)
            return
        self._breaker.succeeded()
        if result is None:
            outcome.messages[where.start : where.stop] = part
            self.counts["passed"] += len(part)
            return
        self._apply(part, where.start, result, outcome)

    def _call(self, part: Sequence[Fields], now: float) -> frame.Result | None:
        if self._instance is None:
            self._load(time.monotonic())
        if self._instance is None:
            raise PluginError(self.last_error)
        self._batch_id += 1
        request = frame.encode_request(part, int(now * 1e9), self._batch_id, self.entry.stage)
        found = self._instance.process(request, len(part))
        return None if found is None else frame.decode_result(found, part)

    def _split(self, batch: Sequence[Fields], where: range, outcome: Outcome, now: float) -> None:
        """One message must not take those beside it along: search for it, but not without end."""
        clock = time.monotonic()
        if len(where) == 1 or self._breaker.opened or clock >= self._search_until:
            self._breaker.failed(clock)
            self._give_up(batch, where, outcome)
            return
        middle = where.start + len(where) // 2
        self._attempt(batch, range(where.start, middle), outcome, now)
        self._attempt(batch, range(middle, where.stop), outcome, now)

    def _give_up(self, batch: Sequence[Fields], where: range, outcome: Outcome) -> None:
        self.counts["failed"] += len(where)
        if not self._closed:
            outcome.messages[where.start : where.stop] = batch[where.start : where.stop]

    def _apply(self, part: Sequence[Fields], start: int, result: frame.Result, outcome: Outcome) -> None:
        verdicts, changes, effects = result
        messages = outcome.messages
        for index, verdict in enumerate(verdicts):
            if verdict == frame.PASS:
                messages[start + index] = part[index]
            elif verdict == frame.REPLACE:
                messages[start + index] = changes[index]
        dropped = verdicts.count(frame.DROP)
        self.counts["dropped"] += dropped
        self.counts["replaced"] += len(changes)
        self.counts["passed"] += len(part) - dropped - len(changes)
        for effect in effects:
            self._do(effect, outcome)

    def _do(self, effect: frame.Effect, outcome: Outcome) -> None:
        kind = effect.kind
        if kind == frame.EMIT:
            self.counts["emitted"] += 1
            qos, retain = effect.number & 3, bool(effect.number & 4)
            outcome.emitted.append(Fields(effect.first, effect.second, qos=qos, retain=retain))
        elif kind == frame.STORE:
            outcome.stored.append(Fields(effect.first, effect.second))
        elif kind == frame.STATE_PUT:
            self._state.put(effect.first, effect.second, effect.number, time.monotonic())
        elif kind == frame.METRIC:
            name = effect.first.decode("utf-8", "replace")[:100]
            if name in self.metrics or len(self.metrics) < _MAX_METRICS:
                self.metrics[name] = self.metrics.get(name, 0.0) + frame.metric_value(effect.number)
        else:
            self._speak(effect)

    def _speak(self, effect: frame.Effect) -> None:
        text = effect.second.decode("utf-8", "replace")[:1000]
        if effect.kind == frame.ALERT:
            self.counts["alerts"] += 1
            logger.warning("rule %s: alert %s: %s", self.entry.name, effect.first.decode(), text)
        else:
            logger.log(_LEVELS.get(effect.first, logging.INFO), "rule %s: %s", self.entry.name, text)
