"""Rules on trial one after the other, as a node has messages go through them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from broker.protocol.topics import matches
from plugins.host.entry import EGRESS, INGRESS, STORE
from plugins.host.frame import Fields
from plugins.tools.trial import Attempt, Trial

_STAGES = (INGRESS, EGRESS, STORE)


class Step(NamedTuple):
    """What an entry made of a message, or of a second that passed."""

    attempt: Attempt
    emitted: bool
    """Whether the message is one that a rule has emitted."""


class Left(NamedTuple):
    """What the rules of a stage have left of a message, and of those that they emitted."""

    message: Fields | None
    emitted: list[Fields]


class Course:
    """What ingress rules leave of a message goes to those of the other stages, what a rule emits to those behind it."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._stages = {stage: [trial for trial in trials if trial.entry.stage == stage] for stage in _STAGES}

    def take(self, message: Fields, now: float) -> Iterator[Step]:
        """Have a message go through the rules; times are wall-clock seconds, and do not go back."""
        left = yield from self._through(self._stages[INGRESS], message, now, False)
        if left.message is not None:
            yield from self._onward(left.message, now, False)
        for one in left.emitted:
            yield from self._onward(one, now, True)

    def pass_time(self, now: float) -> Iterator[Step]:
        """Go on to a time: rules that want to be are told."""
        for stage, chain in self._stages.items():
            for place, trial in enumerate(chain, 1):
                attempt = trial.pass_time(now)
                if attempt is None:
                    continue
                yield Step(attempt, False)
                emitted = yield from self._emitted(attempt, chain[place:], now)
                for one in emitted if stage != EGRESS else ():
                    yield from (
                        self._onward(one, now, True) if stage == INGRESS else self._leave(one, now, True)
                    )

    def _through(
        self, chain: Sequence[Trial], message: Fields, now: float, emitted: bool
    ) -> Generator[Step, None, Left]:
        """A stage."""
        left = Left(message, [])
        for place, trial in enumerate(chain, 1):
            if left.message is None or not _concerns(trial, left.message):
                continue
            attempt = trial.work_on(left.message, now)
            yield Step(attempt, emitted)
            more = yield from self._emitted(attempt, chain[place:], now)
            left = Left(attempt.after, left.emitted + more)
        return left

    def _emitted(
        self, attempt: Attempt, behind: Sequence[Trial], now: float
    ) -> Generator[Step, None, list[Fields]]:
        """What is left of the messages that a rule has emitted, behind the other rules of its stage."""
        all_left: list[Fields] = []
        for message in attempt.emitted():
            left = yield from self._through(behind, message, now, True)
            all_left += [message for message in (left.message, *left.emitted) if message is not None]
        return all_left

    def _onward(self, message: Fields, now: float, emitted: bool) -> Iterator[Step]:
        """Behind the ingress rules: to other nodes, and into the history."""
        yield from self._leave(message, now, emitted)
        stored = yield from self._through(self._stages[STORE], message, now, emitted)
        for one in stored.emitted:
            yield from self._leave(one, now, True)

    def _leave(self, message: Fields, now: float, emitted: bool) -> Iterator[Step]:
        yield from self._through(self._stages[EGRESS], message, now, emitted)


def _concerns(trial: Trial, message: Fields) -> bool:
    topics = trial.entry.topics
    return not topics or any(matches(one, message.topic.decode()) for one in topics)
