"""One rule at work: a module attached to topics, with its limits, its failures and what it may not do to others."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from plugins.host import frame
from plugins.host.breaker import Breaker
from plugins.host.cache import CompiledCache
from plugins.host.engine import Instance
from plugins.host.entry import STAGE_NAMES, Entry, Failed, Outcome
from plugins.host.frame import NOWHERE, Fields, Place, Whole
from plugins.host.loading import Plan
from plugins.host.pace import Pace
from plugins.host.reasons import Overdue, PluginError, Reason, on_one_line
from plugins.host.state import State
from plugins.host.voice import Voice

logger = logging.getLogger("geomq.plugins")

_SEARCH_SECONDS = 0.2
"""For how long a failed batch is searched for the messages that make it fail: what is behind it waits meanwhile."""
_LITTLE_FUEL = 200_000
"""What takes a small part of a millisecond on any machine."""
_OF_ITS_TIME = (frame.EMIT, frame.STORE, frame.ALERT)
"""Effects that belong to a message's publication."""
_MAX_METRICS = 1000
_USUAL_EACH, _USUAL_BESIDE = 16, 64
"""What a module has the host do, effects and calls of state_get: for each message of a batch, and beside these."""
_REST = 20e-6
"""Seconds for which it is left alone for each that is more: so they take a small part of the interpreter's time."""
_REJECTED = "its module rejects them"
"""For others; the module's own words may be those of a message."""
_LEVELS = {
    b"debug": logging.DEBUG,
    b"info": logging.INFO,
    b"warning": logging.WARNING,
    b"error": logging.ERROR,
}
_COUNTED = (
    *("messages", "runs", "passed", "dropped", "replaced", "emitted", "failed", "alerts", "traps", "fuel"),
    "microseconds",
)


WholeResult = list[bytes | None] | tuple[list[Fields], Outcome]
"""What payloads are to be, None for one that is dropped; an empty list where all pass as they are. Or the messages,
and their outcome, where the module has said more than that."""


class Rule:
    """An entry at work. :meth:`run` and :meth:`tick` may be called from any thread, one at a time.

    ``state`` is what the module remembers; ``cache`` keeps compiled modules. A module that cannot be had yet is tried
    again.
    """

    def __init__(self, entry: Entry, state: State | None = None, cache: CompiledCache | None = None) -> None:
        self.entry = entry
        self.state = State() if state is None else state
        self.state.bound(entry.limits.state_keys, entry.limits.state_bytes)
        self.place = NOWHERE
        self.pace = Pace()
        self._voice = Voice()
        self._owed = 0.0
        self._host_work = 0
        self._cache = cache
        self._plan: Plan | None = None
        self._instance: Instance | None = None
        self._ticks = False
        self._breaker = Breaker()
        self._loading = Breaker(threshold=1, first=2.0)
        self._batch_id = 0
        self._minute = -1.0
        self._told_place = NOWHERE
        self._search_until = 0.0
        self._answers = False
        self._told = ""
        self.last_error = ""
        self.metrics: dict[str, float] = {}
        self.counts = dict.fromkeys(_COUNTED, 0)
        if entry.module is not None:
            self._load(time.monotonic())

    def close(self) -> None:
        """Give the module's memory back."""
        self._discard()

    def run(self, batch: Sequence[Fields], now: float, answer: bool = False) -> Outcome:
        """Work on a batch; ``now`` is wall-clock seconds. Never raises.

        ``answer``: the messages were published before, and are told to a node that asks for them. What the module wants
        to be emitted, kept or alerted of because of them was so then.
        """
        self.counts["messages"] += len(batch)
        if self.entry.module is None:
            self.counts["passed"] += len(batch)
            return Outcome(list(batch), [], [], [])
        outcome = Outcome([None] * len(batch), [], [], [])
        self._answers = answer
        clock = time.monotonic()
        if self._breaker.allows(clock) and self._ready(clock):
            began = time.thread_time()
            self.counts["runs"] += 1
            self._search_until = clock + _SEARCH_SECONDS
            for where in self._portions(len(batch)):
                if self._breaker.allows(time.monotonic()):
                    self._attempt(batch, where, outcome, now)
                else:
                    self._give_up(batch, where, outcome, self._standing)
            self._took(len(batch), began, clock)
            self._weigh(len(batch))
        else:
            self._give_up(batch, range(len(batch)), outcome, self._standing)
        self._answers = False
        return outcome

    def run_whole(self, whole: Whole, now: float) -> WholeResult | None:
        """:meth:`run` in one call of the module; None where that cannot be done. Never raises."""
        clock, began = time.monotonic(), time.thread_time()
        instance = self._instance
        count = whole.number
        if instance is None or self._breaker.opened or count > self._fitting:
            return None
        self._batch_id += 1
        place = self._place_at(now)
        request = frame.encode_whole(whole, int(now * 1e9), self._batch_id, self.entry.stage, place)
        try:
            answer = self._read_whole(instance.process(request, count), whole)
        except Overdue:
            # Whether that was the module's fault shows when it is run again.
            self._discard()
            return None
        except (PluginError, frame.FrameError) as error:
            self._failed(_reason(error))
            return None
        self._breaker.succeeded()
        counts = self.counts
        counts["messages"] += count
        counts["runs"] += 1
        counts["fuel"] += instance.fuel_used()
        self._took(count, began, clock)
        if isinstance(answer, frame.Payloads):
            self._count(answer.verdicts)
            self._weigh(count)
            return answer.payloads
        fields, result = answer
        outcome = Outcome([None] * count, [], [], [])
        self._apply(fields, 0, result, outcome)
        self._weigh(count)
        return fields, outcome

    def _took(self, count: int, began: float, clock: float) -> None:
        self.counts["microseconds"] += round((time.monotonic() - clock) * 1e6)
        self.pace.ran(count, time.thread_time() - began, clock)

    def take_rest(self) -> float:
        """Seconds for which the rule should get nothing to do, because it had much done by the host; told once."""
        owed, self._owed = self._owed, 0.0
        return owed

    def _read_whole(
        self, found: bytes | None, whole: Whole
    ) -> frame.Payloads | tuple[list[Fields], frame.Result]:
        if found is None:
            return frame.Payloads(bytes(whole.number), [])
        payloads = frame.decode_whole(found, whole, self.entry.limits.output_bytes)
        if payloads is not None:
            return payloads
        fields = whole.fields()
        return fields, self._decoded(found, fields)

    def is_quick(self, count: int) -> bool:
        """Whether :meth:`run` with so many messages may be called where nobody can wait a millisecond."""
        if self.entry.module is None:
            return True
        clock = time.monotonic()
        if self._instance is None:
            # Messages are given up in no time; a module is not loaded in that.
            return not (self._loading.allows(clock) and self._breaker.allows(clock))
        return self.pace.is_quick(count, clock)

    def at_once(self) -> int:
        """How many messages :meth:`run_whole` may be given where nobody can wait a millisecond."""
        return self.pace.at_once(time.monotonic()) if self._instance is not None else 0

    @property
    def ticks(self) -> bool:
        """Whether :meth:`tick` does something: the module wants it, or has to be loaded."""
        return self._ticks or (self.entry.module is not None and self._instance is None)

    def tick(self, now: float) -> Outcome:
        """Tell the module the time, for what it does without messages. Never raises."""
        outcome = Outcome([], [], [], [])
        clock = time.monotonic()
        # After a failure this loads the module: the next message need not wait for that, nor does its figure.
        if not (self._breaker.allows(clock) and self._ready(clock) and self._ticks):
            return outcome
        instance = self._instance
        assert instance is not None
        try:
            found = instance.tick(int(now * 1e9))
            result = None if found is None else self._decoded(found, ())
        except (PluginError, frame.FrameError) as error:
            self._failed(_reason(error, "geomq_tick: "))
            self._breaker.failed(clock)
            self._load(clock)
        else:
            self.counts["fuel"] += instance.fuel_used()
            if result is not None:
                self._apply((), 0, result, outcome)
        self._weigh(0)
        self.counts["microseconds"] += round((time.monotonic() - clock) * 1e6)
        return outcome

    # -- other modules and settings ----------------------------------------------------------------------

    @property
    def works(self) -> bool:
        """Whether the module has ever started."""
        return self.entry.module is None or self._plan is not None

    def prepare(self, entry: Entry) -> tuple[Plan, Instance] | None:
        """What :meth:`adopt` needs to go on as another entry; None where that needs no module.

        May be called from any thread at any time. PluginError where the module does not start.
        """
        if entry.module is None:
            return None
        plan = Plan(entry, self._cache)
        return plan, plan.make(self._state_get)

    def adopt(self, entry: Entry, prepared: tuple[Plan, Instance] | None, why_none: str = "") -> None:
        """Go on as another entry, between two batches; with nothing prepared its module is tried again and again."""
        self._discard()
        self.entry = entry
        self.state.bound(entry.limits.state_keys, entry.limits.state_bytes)
        self._plan, self._instance = prepared if prepared is not None else (None, None)
        self._ticks = self._instance is not None and self._instance.ticks
        self.pace = Pace()
        self._breaker = Breaker()
        self._loading = Breaker(threshold=1, first=2.0)
        self._told, self.last_error = "", why_none

    def stay(self, error: PluginError) -> None:
        """What should have taken this one's place does not start: say so."""
        self.last_error = str(error)
        logger.error("rule %s stays as it was: %s", self.entry.name, error)

    # -- figures -----------------------------------------------------------------------------------------

    def figures(self) -> dict[str, Any]:
        """What operators ask about the rule, ready for JSON."""
        return {
            "name": self.entry.name,
            "stage": STAGE_NAMES[self.entry.stage],
            "module": self.entry.module,
            "state": self._condition(),
            "breaker": "open" if self._breaker.opened else "closed",
            **{name: self.counts[name] for name in _COUNTED},
            "microseconds_per_message": round(self.pace.per_message * 1e6, 1),
            "state_keys": len(self.state),
            "state_bytes": self.state.bytes,
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
        try:
            plan = self._plan
            if plan is None:
                plan = Plan(self.entry, self._cache)
            self._instance = plan.make(self._state_get)
        except PluginError as error:
            self._loading.failed(clock)
            self._complain(_reason(error))
            return
        self._plan = plan
        self._ticks = self._instance.ticks
        if self._loading.opened:
            self._say_it_works()
        self._loading.succeeded()

    def _state_get(self, key: bytes) -> bytes | None:
        self._host_work += 1
        return self.state.get(key, time.monotonic())

    def _discard(self) -> None:
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.close()

    def _failed(self, reason: Reason) -> None:
        """A call failed: the instance cannot be used again."""
        self.counts["traps"] += 1
        self._discard()
        self.pace.distrust(time.monotonic())
        self._complain(reason)

    def _say_it_works(self) -> None:
        self._told = ""
        logger.info("rule %s works again", self.entry.name)

    def _complain(self, reason: Reason) -> None:
        """Tell an error once, however often it comes."""
        # The status, which other nodes ask for, too, must not tell what was in a message.
        self.last_error = reason.gist
        if reason.gist != self._told:
            self._told = reason.gist
            fate = "dropped" if self.entry.closed else "passed on unchanged"
            logger.error("rule %s fails, its messages are %s: %s", self.entry.name, fate, reason.text)

    @property
    def _standing(self) -> Reason:
        """Why nothing is tried at the moment."""
        return Reason(self.last_error, self.last_error)

    # -- a batch -----------------------------------------------------------------------------------------

    @property
    def _fitting(self) -> int:
        """How many messages should take no more than a quarter of the deadline."""
        return self.pace.fitting(self.entry.limits.deadline_ms / 4000)

    def _portions(self, count: int) -> Iterator[range]:
        """A batch in parts that fit."""
        size = self._fitting
        for start in range(0, count, size):
            yield range(start, min(start + size, count))

    def _attempt(self, batch: Sequence[Fields], where: range, outcome: Outcome, now: float) -> None:
        """Work on the part ``where`` of the batch; where that fails, on its halves."""
        part = batch[where.start : where.stop]
        try:
            result = self._call(part, now)
        except (PluginError, frame.FrameError) as error:
            reason = _reason(error)
            self._failed(reason)
            self._split(batch, where, outcome, now, reason)
            return
        if self._breaker.opened:
            self._say_it_works()
        self._breaker.succeeded()
        if result is None:
            outcome.messages[where.start : where.stop] = part
            self.counts["passed"] += len(part)
            return
        self._apply(part, where.start, result, outcome)

    def _call(self, part: Sequence[Fields], now: float, again: bool = False) -> frame.Result | None:
        if self._instance is None:
            self._load(time.monotonic())
        instance = self._instance
        if instance is None:
            raise PluginError(self.last_error)
        self._batch_id += 1
        request = frame.encode_request(
            part,
            int(now * 1e9),
            self._batch_id,
            self.entry.stage,
            self._place_at(now),
            frame.ANSWER if self._answers else 0,
        )
        try:
            found = instance.process(request, len(part))
        except Overdue:
            # The clock on the wall went on while the thread did not: that is no fault of the module's.
            if again or instance.fuel_used() > self.entry.limits.deadline_ms * _LITTLE_FUEL:
                raise
            self._discard()
            return self._call(part, now, again=True)
        self.counts["fuel"] += instance.fuel_used()
        return None if found is None else self._decoded(found, part)

    def _place_at(self, now: float) -> Place:
        """The place, with the node's local time, which is asked for anew each minute."""
        minute = now // 60
        if minute != self._minute or self._told_place[:2] != self.place[:2]:
            self._minute = minute
            self._told_place = self.place._replace(utc_offset=time.localtime(now).tm_gmtoff)
        return self._told_place

    def _decoded(self, found: bytes, part: Sequence[Fields]) -> frame.Result:
        limits = self.entry.limits
        return frame.decode_result(found, part, limits.most_emits(len(part)), limits.output_bytes)

    def _split(
        self, batch: Sequence[Fields], where: range, outcome: Outcome, now: float, reason: Reason
    ) -> None:
        """One message must not take those beside it along: search for it, but not without end."""
        clock = time.monotonic()
        if len(where) == 1 or self._breaker.opened or clock >= self._search_until:
            self._breaker.failed(clock)
            self._give_up(batch, where, outcome, reason)
            return
        middle = where.start + len(where) // 2
        self._attempt(batch, range(where.start, middle), outcome, now)
        self._attempt(batch, range(middle, where.stop), outcome, now)

    def _give_up(self, batch: Sequence[Fields], where: range, outcome: Outcome, reason: Reason) -> None:
        self.counts["failed"] += len(where)
        part = batch[where.start : where.stop]
        outcome.failed.extend(Failed(place, batch[place], reason) for place in where)
        if not self.entry.closed:
            outcome.messages[where.start : where.stop] = part

    def _apply(self, part: Sequence[Fields], start: int, result: frame.Result, outcome: Outcome) -> None:
        verdicts, changes, effects = result
        messages = outcome.messages
        messages[start : start + len(part)] = part
        for index, fields in changes.items():
            messages[start + index] = fields
        if frame.DROP in verdicts:
            for index, verdict in enumerate(verdicts, start):
                if verdict == frame.DROP:
                    messages[index] = None
        if frame.REJECT in verdicts:
            reasons, effects = frame.rejections(result)
            self._reject(part, start, reasons, outcome)
        self._count(verdicts)
        self._host_work += len(effects)
        for effect in effects:
            if not self._answers or effect.message == frame.NO_MESSAGE or effect.kind not in _OF_ITS_TIME:
                self._do(effect, outcome)

    def _weigh(self, messages: int) -> None:
        """What is done for one rule holds the interpreter, on which all others depend."""
        unusual = self._host_work - _USUAL_EACH * messages - _USUAL_BESIDE
        self._host_work = 0
        if unusual > 0:
            self._owed += unusual * _REST
            if messages:
                self.pace.distrust(time.monotonic())

    def _count(self, verdicts: bytes) -> None:
        self.counts["passed"] += verdicts.count(frame.PASS)
        self.counts["dropped"] += verdicts.count(frame.DROP)
        self.counts["replaced"] += verdicts.count(frame.REPLACE)

    def _reject(self, part: Sequence[Fields], start: int, reasons: dict[int, str], outcome: Outcome) -> None:
        """The module works, and says that it cannot work on these: never passed on, and no failure of its own."""
        self.counts["failed"] += len(reasons)
        for index, reason in reasons.items():
            outcome.messages[start + index] = None
            outcome.failed.append(Failed(start + index, part[index], Reason(reason, _REJECTED)))

    def _do(self, effect: frame.Effect, outcome: Outcome) -> None:
        kind = effect.kind
        if kind == frame.EMIT:
            self.counts["emitted"] += 1
            qos, retain = effect.number & 3, bool(effect.number & 4)
            outcome.emitted.append(Fields(effect.first, effect.second, qos=qos, retain=retain))
        elif kind == frame.STORE:
            outcome.stored.append(Fields(effect.first, effect.second))
        elif kind == frame.STATE_PUT:
            self.state.put(effect.first, effect.second, effect.number, time.monotonic())
        elif kind == frame.METRIC:
            name = frame.text(effect.first, 100)
            if name in self.metrics or len(self.metrics) < _MAX_METRICS:
                self.metrics[name] = self.metrics.get(name, 0.0) + frame.metric_value(effect.number)
        else:
            self._speak(effect)

    def _speak(self, effect: frame.Effect) -> None:
        is_alert = effect.kind == frame.ALERT
        self.counts["alerts"] += is_alert
        level = logging.WARNING if is_alert else _LEVELS.get(effect.first, logging.INFO)
        if not logger.isEnabledFor(level) or not self._voice.may_speak(time.monotonic()):
            return
        name = self.entry.name
        if unheard := self._voice.take_unheard():
            logger.warning("rule %s: %d lines were left out, for it says too much", name, unheard)
        text = on_one_line(frame.text(effect.second))
        if is_alert:
            logger.warning("rule %s: alert %s: %s", name, on_one_line(effect.first.decode()), text)
        else:
            logger.log(level, "rule %s: %s", name, text)


def _reason(error: PluginError | frame.FrameError, where: str = "") -> Reason:
    gist = error.gist if isinstance(error, frame.FrameError) else str(error)
    return Reason(f"{where}{error}", f"{where}{gist}")
