"""Messages on their way through a stage's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from broker.message import Message
from broker.ports import Failure, Later, LaterRun, Processed, Stage
from plugins.convert import changed, to_fields
from plugins.host.entry import Failed, Outcome
from plugins.host.frame import Fields, Whole

AT_ONCE = 64
"""Messages that a job has emitted, or that have got through slow rules, until others have their turn."""


class Job:
    """Messages that go through the rules of a stage together; ``at`` is how many of these they have behind them.

    ``answer`` says that they were published before, and are told to a node that asks for them.

    What rules emit goes on behind the messages, through the rules that are left. ``then`` is told the outcome where
    they do not get through at once.
    """

    __slots__ = (
        "answer",
        "at",
        "counted",
        "failed",
        "follows",
        "is_told",
        "keys",
        "messages",
        "named",
        "originals",
        "sources",
        "stage",
        "then",
    )

    def __init__(self, stage: Stage, batch: Sequence[Message], then: Later, answer: bool = False) -> None:
        self.stage = stage
        self.answer = answer
        self.originals = batch
        self.messages: list[Message | None] = list(batch)
        self.failed: dict[int, Failure] | None = None
        self.named: set[int] = set()
        """The places of those that any rule of the store stage was for."""
        self.sources: set[object] = set()
        """The rules that have given messages of it another topic, or emitted some."""
        self.keys: frozenset[object] = frozenset()
        """What keeps others behind it, while it waits: see :meth:`order`."""
        self.then = then
        self.at = 0
        self.counted = (0, 0)
        """As how many messages, and bytes, it counts among those that wait."""
        self.is_told = False
        """Whether ``then`` knows already what has become of the messages, if not of all that was emitted."""
        self.follows = False
        """Whether another part of the same job has nothing but what was emitted."""

    def fields(self, places: Sequence[int]) -> list[Fields]:
        """The messages in these places as a rule sees them."""
        found = map(self.messages.__getitem__, places)
        return [to_fields(message) for message in found if message is not None]

    def take(self, places: Sequence[int], before: Sequence[Fields], outcome: Sequence[Fields | None]) -> bool:
        """Have the messages in these places be as a rule left them; whether one has another topic."""
        messages = self.messages
        renamed = False
        for place, fields, result in zip(places, before, outcome, strict=True):
            if result is fields:
                continue
            if result is None:
                messages[place] = None
                continue
            message = messages[place]
            assert message is not None
            messages[place] = changed(message, fields, result)
            if result[0] is not fields[0]:
                renamed = True
        if self.stage is Stage.STORE:
            self.named.update(places)
        return renamed

    def order(self) -> frozenset[object]:
        """Jobs that have one of these in common stay in order: topics that messages had at first, and rules from which
        the topics come that they have now.
        """
        return frozenset({message.topic for message in self.originals} | self.sources)

    def note(self, rule: str, places: Sequence[int], failed: Mapping[int, Failed], start: int = 0) -> None:
        """Remember on which messages a rule failed; these places begin at ``start`` of its batch.

        Nobody is told of those that rules have emitted.
        """
        own = len(self.originals)
        for number, place in enumerate(places, start):
            found = failed.get(number)
            if found is not None and place < own and self.messages[place] is None:
                self.failed = self.failed or {}
                self.failed[place] = Failure(rule, found.reason.gist)

    def kept(self) -> list[Message]:
        """What the store stage's rules have named, and left."""
        return [
            message
            for place, message in enumerate(self.messages)
            if message is not None and place in self.named
        ]

    @property
    def has_more(self) -> bool:
        """Whether rules have emitted something."""
        return len(self.messages) > len(self.originals)

    def processed(self) -> Processed:
        """What has become of the messages, and what is left of those that were emitted."""
        count = len(self.originals)
        if not self.has_more:
            return Processed(self.messages, [], failed=self.failed)
        emitted = [one for one in self.messages[count:] if one is not None]
        return Processed(self.messages[:count], emitted, failed=self.failed)

    def tell(self, now: float) -> bool:
        """Tell ``then`` what has become of the messages, and a part of what was emitted, with each call a further one;
        whether there is more of it.
        """
        count = len(self.originals)
        end = count + AT_ONCE
        originals, messages, failed = self.originals, self.messages[:count], self.failed
        emitted = [one for one in self.messages[count:end] if one is not None]
        self.originals, self.messages, self.failed = (), self.messages[end:], None
        self.is_told = True
        left = bool(self.messages)
        self.then(originals, Processed(messages, emitted, failed=failed, more=left or self.follows), now)
        return left

    def parts(self, places: list[int], size: int) -> list[tuple[Job, list[int]]]:
        """Jobs that go on in this one's place, one behind the other, with so many of these places each.

        The messages between them belong to the part before.
        """
        if len(places) <= size:
            return [(self, places)]
        starts = [0, *places[size::size]]
        ends = [*places[size::size], len(self.messages)]
        found = []
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            chosen = places[number * size : (number + 1) * size]
            found.append((self._part(start, end), [place - start for place in chosen]))
        return found

    def _part(self, start: int, end: int) -> Job:
        part = Job(self.stage, self.originals[start:end], self.then, self.answer)
        part.messages = self.messages[start:end]
        part.named = {place - start for place in self.named if start <= place < end}
        if self.failed:
            part.failed = {place - start: one for place, one in self.failed.items() if start <= place < end}
        part.sources, part.at = set(self.sources), self.at
        part.follows = self.follows or len(self.originals) <= end < len(self.messages)
        return part


class Packets(NamedTuple):
    """Packets of one topic that go through a rule together; ``then`` is told what has become of them."""

    whole: Whole
    topic: str
    publisher: str
    user: str
    then: LaterRun

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.whole.packets)

    def job(self, stage: Stage, payloads: Sequence[bytes | None]) -> Job:
        """Their messages, for rules that have more to do with them; with these payloads, None where one is dropped."""
        messages = [
            Message(self.topic, payload or b"", publisher=self.publisher, user=self.user)
            for payload in payloads
        ]
        left = len(messages)

        def then(originals: Sequence[Message], processed: Processed, now: float) -> None:
            nonlocal left
            left -= len(originals)
            self.then(processed._replace(more=processed.more or left > 0), now)

        job = Job(stage, messages, then)
        if None in payloads:
            job.messages = [
                message if payload is not None else None
                for message, payload in zip(messages, payloads, strict=True)
            ]
        return job


def nothing(count: int) -> Outcome:
    """The outcome of a rule that broke: all is dropped."""
    return Outcome([None] * count, [], [], [])
