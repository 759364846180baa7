"""A rule at its place in a stage: what takes long is done on a thread, one batch after the other."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from broker.message import Message
from plugins.convert import new_message
from plugins.host.entry import Failed, Outcome
from plugins.host.frame import Fields, Whole
from plugins.host.pipeline import Rule, WholeResult
from plugins.job import AT_ONCE, Job, Packets, nothing

logger = logging.getLogger("geomq.plugins")

_THREADS = max(2, os.cpu_count() or 1)
_TOGETHER = 1024
"""Messages that a rule works on in one turn of a thread, at most, when they had to wait."""
_TURN = 0.05
"""Seconds that such a turn should last: the other rules that need a thread come next."""
_SWITCH_INTERVAL = 0.0001
"""Seconds after which such a thread must let go of the interpreter when the event loop wants it: with less of it others
are served sooner, and switching costs more, so that it is so only while such a thread works."""
_CHEAPER = 8
"""How many messages cost as much as one, as long as they stay in their packets."""


class Workers:
    """The threads that all rules share; each works for one of them at a time.

    They have the event loop's priority: one with less would be put off while it holds the interpreter lock.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pool = ThreadPoolExecutor(_THREADS, "geomq-rule")
        self._stopped = False
        self._working = 0
        self._interval = sys.getswitchinterval()

    def start(self, work: Callable[[], Callable[[], None]]) -> None:
        """Do something on a thread; what it returns is called on the event loop."""
        if not self._working:
            self._interval = sys.getswitchinterval()
            sys.setswitchinterval(min(self._interval, _SWITCH_INTERVAL))
        self._working += 1
        self.pool.submit(self._run, work)

    def _run(self, work: Callable[[], Callable[[], None]]) -> None:
        finish = work()
        self.loop.call_soon_threadsafe(self._done, finish)

    def _done(self, finish: Callable[[], None]) -> None:
        self._working -= 1
        if not self._working:
            sys.setswitchinterval(self._interval)
        self._finish(finish)

    def _finish(self, finish: Callable[[], None]) -> None:
        if not self._stopped:
            finish()

    def later(self, seconds: float, finish: Callable[[], None]) -> None:
        """Call something on the event loop, in its next turn or after a time."""
        self.loop.call_later(seconds, self._finish, finish)

    async def stop(self) -> None:
        """Wait for the threads; what they have done does not count any more, nor does what waits for them."""
        self._stopped = True
        sys.setswitchinterval(self._interval)
        await asyncio.to_thread(self.pool.shutdown, cancel_futures=True)


class Piece(NamedTuple):
    """Some messages of a job, by their places."""

    job: Job
    places: list[int]


class Said(NamedTuple):
    """What a rule says beside what becomes of messages."""

    emitted: list[Message]
    stored: list[Message]
    letters: list[Message]


class Done(NamedTuple):
    """What has become of packets, where a rule did nothing but to their payloads."""

    packets: Packets
    payloads: list[bytes | None]


class Unpacked(NamedTuple):
    """What has become of packets, message by message."""

    packets: Packets
    fields: list[Fields]
    outcome: Outcome
    said: Said


class Master(Protocol):
    """Whoever has the rules: :class:`plugins.stages.Stages`. Called on the event loop."""

    def letters(self, post: Post, failed: Sequence[Failed]) -> list[Message]:
        """What to tell of messages that a rule failed on. May be called on any thread."""

    def apply(self, post: Post, job: Job | None, said: Said) -> None:
        """See to what a rule said: the job is the last of those that were worked on together; None: a tick."""

    def go_on(self, job: Job) -> bool:
        """A job has got through a rule that took long; whether this has to be called again, for it says much."""

    def packets_done(self, post: Post, done: Done) -> Job | None:
        """A rule that took long is through with packets; what they :meth:`go_on` as where others have to come first."""

    def unpacked(self, post: Post, found: Unpacked) -> Job:
        """The messages of packets as a rule that took long has left them: they have to :meth:`go_on`."""

    def idles(self) -> None:
        """A rule has nothing to do any more."""


class Post:
    """A rule, and who waits for it."""

    def __init__(self, rule: Rule, workers: Workers | None, master: Master) -> None:
        self.rule = rule
        self._workers = workers
        self._master = master
        self._queue: deque[Piece | Packets | None] = deque()
        """None is a tick."""
        self._busy = False
        self._order: Counter[object] = Counter()
        """Of those that it is working on, and who wait."""
        self.telling = 0
        """What it said in ticks and is still on its way through the rules behind: until then there are no more."""

    @property
    def idle(self) -> bool:
        """Whether nothing is being worked on, and nobody waits."""
        return not (self._busy or self._queue)

    def is_quick(self, count: int) -> bool:
        """Whether so many messages can be worked on at once."""
        return self._workers is None or (self.idle and self.rule.is_quick(count))

    @property
    def at_once(self) -> int:
        """How many messages can be worked on in one piece, at once."""
        if self._workers is None:
            return sys.maxsize
        return self.rule.at_once() if self.idle else 0

    def run(self, job: Job, places: list[int], now: float) -> None:
        """Work on messages at once."""
        fields = job.fields(places)
        self.settle(job, places, fields, self.rule.run(fields, now, job.answer))

    def settle(
        self,
        job: Job,
        places: Sequence[int],
        before: Sequence[Fields],
        outcome: Outcome,
        said: Said | None = None,
    ) -> None:
        """Have the messages in these places be as the rule left them, and see to what else it wants."""
        if job.take(places, before, outcome.messages):
            job.sources.add(self)
        if outcome.failed:
            job.note(self.rule.entry.name, places, {one.place: one for one in outcome.failed})
        self._apply(job, said or self._said(outcome, job.answer))

    def _said(self, outcome: Outcome, answer: bool = False) -> Said:
        """May be called on any thread: where it is much the event loop need not wait for it."""
        try:
            return Said(
                [new_message(fields) for fields in outcome.emitted],
                [new_message(fields) for fields in outcome.stored],
                # Of what is asked for there were letters when it was published.
                self._master.letters(self, outcome.failed) if outcome.failed and not answer else [],
            )
        except Exception:
            # What is said besides must not keep the messages.
            logger.exception("rule %s: what it said is lost", self.rule.entry.name)
            return Said([], [], [])

    def _apply(self, job: Job | None, said: Said) -> None:
        if job is not None and job.answer:
            # A window that has come to its end meanwhile is nothing that was asked for.
            job = None
        if job is not None and said.emitted:
            job.sources.add(self)
        if any(said):
            self._master.apply(self, job, said)

    def keeps(self, job: Job) -> bool:
        """Whether a job that is no concern of the rule has to wait here for its turn all the same."""
        return not self.idle and not self._order.keys().isdisjoint(job.order())

    def keeps_topic(self, topic: str) -> bool:
        """Whether messages of a topic that are no concern of the rule have to wait here for their turn."""
        return topic in self._order

    def put(self, job: Job, places: list[int]) -> None:
        """Work on messages later, behind whatever waits."""
        job.keys = job.order()
        self._order.update(job.keys)
        self._queue.append(Piece(job, places))
        self._start()

    def put_packets(self, packets: Packets) -> None:
        """Work on packets later, behind whatever waits."""
        self._order.update((packets.topic,))
        self._queue.append(packets)
        self._start()

    def _forget(self, keys: Iterable[object]) -> None:
        order = self._order
        for key in keys:
            order[key] -= 1
            if not order[key]:
                del order[key]

    @property
    def turn(self) -> int:
        """How many messages one turn of a thread should be about."""
        return min(_TOGETHER, self.rule.pace.fitting(_TURN))

    def tick(self, now: float) -> None:
        """Tell the module the time, soon."""
        if self.telling or not self.rule.ticks:
            return
        if self._workers is None:
            self._apply(None, self._said(self.rule.tick(now)))
        elif None not in self._queue:
            self._queue.append(None)
            self._start()

    def _start(self) -> None:
        if self._busy or not self._queue:
            return
        assert self._workers is not None
        self._busy = True
        first = self._queue.popleft()
        if first is None:
            if self.telling:
                self._free()
            else:
                self._workers.start(self._tick)
            return
        if isinstance(first, Packets):
            several = self._several(first)
            if not self._queue and sum(one.whole.number for one in several) <= self.rule.at_once():
                # So little that to wait for a thread would take longer; and the rule is idle again.
                self._work_on_packets(several)()
            else:
                self._workers.start(lambda: self._work_on_packets(several))
            return
        pieces = [first]
        count, most = len(first.places), self.turn
        while self._queue and isinstance(more := self._queue[0], Piece):
            count += len(more.places)
            if count > most or more.job.answer != first.job.answer:
                break
            pieces.append(more)
            self._queue.popleft()
        self._workers.start(lambda: self._work(pieces))

    def _several(self, first: Packets) -> list[Packets]:
        """Packets for one visit to a thread."""
        found = [first]
        count, most = first.whole.number, self.turn
        while count < most and self._queue and isinstance(more := self._queue[0], Packets):
            count += more.whole.number
            found.append(more)
            self._queue.popleft()
        return found

    # -- on a thread -------------------------------------------------------------------------------------

    def _tick(self) -> Callable[[], None]:
        try:
            outcome = self.rule.tick(time.time())
        except Exception:
            logger.exception("rule %s", self.rule.entry.name)
            outcome = nothing(0)
        said = self._said(outcome)
        return lambda: self._finish_tick(said)

    def _work(self, pieces: list[Piece]) -> Callable[[], None]:
        fields = [job.fields(places) for job, places in pieces]
        together = [one for part in fields for one in part]
        answer = pieces[0].job.answer
        try:
            # A job may be here only for its turn.
            outcome = self.rule.run(together, time.time(), answer) if together else nothing(0)
        except Exception:
            # The rule promises not to raise; if it does nothing must get through.
            logger.exception("rule %s: %d messages are dropped", self.rule.entry.name, len(together))
            outcome = nothing(len(together))
        said = self._said(outcome, answer)
        return lambda: self._finish(pieces, fields, outcome, said)

    def _work_on_packets(self, several: list[Packets]) -> Callable[[], None]:
        found: list[Done | Unpacked] = []
        for packets in several:
            result = self._result(packets.whole)
            if isinstance(result, list):
                found.append(Done(packets, result))
            else:
                found.append(Unpacked(packets, *result, self._said(result[1])))
        return lambda: self._finish_packets(found)

    def _result(self, whole: Whole) -> WholeResult:
        try:
            result = self.rule.run_whole(whole, time.time())
            if result is not None:
                return result
            fields = whole.fields()
            return fields, self.rule.run(fields, time.time())
        except Exception:
            # As above.
            logger.exception("rule %s: %d messages are dropped", self.rule.entry.name, whole.number)
            return whole.fields(), nothing(whole.number)

    # -- on the event loop again -------------------------------------------------------------------------

    def _finish_tick(self, said: Said) -> None:
        now, later = said.emitted[:AT_ONCE], said.emitted[AT_ONCE:]
        self._apply(None, said._replace(emitted=now))
        if later:
            self._soon(lambda: self._finish_tick(Said(later, [], [])))
        else:
            self._rest()

    def _finish(
        self, pieces: list[Piece], fields: Sequence[Sequence[Fields]], outcome: Outcome, said: Said
    ) -> None:
        start = 0
        failed = {one.place: one for one in outcome.failed}
        for (job, places), before in zip(pieces, fields, strict=True):
            end = start + len(places)
            if job.take(places, before, outcome.messages[start:end]):
                job.sources.add(self)
            if failed:
                job.note(self.rule.entry.name, places, failed, start)
            start = end
        self._apply(pieces[-1].job, said)
        self._pass_on(deque(job for job, _ in pieces))

    def _finish_packets(self, found: list[Done | Unpacked]) -> None:
        self._pass_on(
            deque(one if isinstance(one, Done) else self._master.unpacked(self, one) for one in found)
        )

    def _pass_on(self, done: deque[Job | Done]) -> None:
        """Have messages go on. What is much takes several turns of the event loop: others have theirs in between.

        Still busy: whoever comes meanwhile waits behind those that go on now.
        """
        left = AT_ONCE
        while done and left > 0:
            first = done[0]
            if isinstance(first, Done):
                job = self._master.packets_done(self, first)
                if job is not None:
                    done[0] = job
                    continue
                left -= first.packets.whole.number // _CHEAPER
                self._forget((first.packets.topic,))
            else:
                left -= len(first.originals) or AT_ONCE
                keys = first.keys
                if self._master.go_on(first):
                    break
                self._forget(keys)
            done.popleft()
        if done:
            self._soon(lambda: self._pass_on(done))
        else:
            self._rest()

    def _soon(self, call: Callable[[], None], seconds: float = 0.0) -> None:
        assert self._workers is not None
        self._workers.later(seconds, call)

    def _rest(self) -> None:
        seconds = self.rule.take_rest()
        if seconds:
            self._soon(self._free, seconds)
        else:
            self._free()

    def _free(self) -> None:
        self._busy = False
        self._start()
        if self.idle:
            self._master.idles()
