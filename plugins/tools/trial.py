"""Rules on trial: what each makes of one message after the other, with everything that a node would not show."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from plugins.host import frame
from plugins.host.engine import Instance
from plugins.host.entry import Entry
from plugins.host.frame import Effect, Fields, FrameError, Place, decode_result, encode_request
from plugins.host.loading import Plan
from plugins.host.reasons import PluginError
from plugins.host.state import State

Call = Callable[[], bytes | None]

PASSED, CHANGED, DROPPED, FAILED, TICKED = "pass", "replace", "drop", "fail", "tick"

_VERDICTS = {frame.PASS: PASSED, frame.REPLACE: CHANGED, frame.DROP: DROPPED, frame.REJECT: FAILED}


class Attempt(NamedTuple):
    """What an entry made of a message, or of a second that passed (``before`` is None)."""

    entry: Entry
    verdict: str
    before: Fields | None
    after: Fields | None
    """The message as it goes on; None where it does not."""
    effects: list[Effect]
    reason: str
    """Why it failed; empty where it did not."""
    fuel: int
    microseconds: float

    def emitted(self) -> list[Fields]:
        """The messages that it publishes besides."""
        return [
            Fields(effect.first, effect.second, qos=effect.number & 3, retain=bool(effect.number & 4))
            for effect in self.effects
            if effect.kind == frame.EMIT
        ]


class Trial:
    """An entry on trial, one message a batch. PluginError where its module does not start.

    Times are wall-clock seconds; they should not go back. What the module has remembered stays for the trial only.
    """

    def __init__(self, entry: Entry, place: Place) -> None:
        self.entry = entry
        self._place = place
        self._state = State(entry.limits.state_keys, entry.limits.state_bytes)
        self._now = 0.0
        self._ticked = 0.0
        self._batch_id = 0
        self._plan = Plan(entry, None) if entry.module is not None else None
        self._instance: Instance | None = None
        self._start()

    def close(self) -> None:
        """Give the module's memory back."""
        if self._instance is not None:
            self._instance.close()
            self._instance = None

    def pass_time(self, now: float) -> Attempt | None:
        """Go on to a time: the module is told, if it wants to be and a second has passed; None where there was
        nothing to do."""
        self._now = now
        self._ticked = self._ticked or now
        instance = self._started()
        if instance is None or not instance.ticks or now - self._ticked < 1:
            return None
        self._ticked = now
        attempt = self._attempt(instance, None, lambda: instance.tick(int(now * 1e9)))
        return attempt if attempt.effects or attempt.reason else None

    def work_on(self, message: Fields, now: float) -> Attempt:
        """Hand a message over."""
        self._now = now
        instance = self._started()
        if instance is None:
            return Attempt(self.entry, PASSED, message, message, [], "", 0, 0.0)
        self._batch_id += 1
        place = self._place._replace(utc_offset=time.localtime(now).tm_gmtoff)
        request = encode_request([message], int(now * 1e9), self._batch_id, self.entry.stage, place)
        return self._attempt(instance, message, lambda: instance.process(request, 1))

    def _start(self) -> None:
        if self._plan is not None:
            self._instance = self._plan.make(lambda key: self._state.get(key, self._now))

    def _started(self) -> Instance | None:
        """A module that has trapped is started anew, as a node does it."""
        if self._instance is None:
            self._start()
        return self._instance

    def _attempt(self, instance: Instance, message: Fields | None, call: Call) -> Attempt:
        batch = [] if message is None else [message]
        started = time.perf_counter()
        try:
            found = call()
            took = (time.perf_counter() - started) * 1e6
            result = frame.Result(bytes(len(batch)), {}, [])
            if found is not None:
                result = decode_result(found, batch, self.entry.limits.most_emits(len(batch)))
        except (PluginError, FrameError) as error:
            took = (time.perf_counter() - started) * 1e6
            fuel = instance.fuel_used()
            self.close()
            after = None if self.entry.closed else message
            return Attempt(self.entry, FAILED, message, after, [], str(error), fuel, took)
        self._remember(result.effects)
        verdict = _VERDICTS[result.verdicts[0]] if batch else TICKED
        after = {PASSED: message, CHANGED: result.changes.get(0)}.get(verdict)
        reasons, effects = frame.rejections(result)
        reason = reasons.get(0, "")
        return Attempt(self.entry, verdict, message, after, effects, reason, instance.fuel_used(), took)

    def _remember(self, effects: list[Effect]) -> None:
        for effect in effects:
            if effect.kind == frame.STATE_PUT:
                self._state.put(effect.first, effect.second, effect.number, self._now)
