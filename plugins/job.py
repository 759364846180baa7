"""Messages on their way through a stage's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from broker.message import Message
from broker.ports import Later, LaterRun, Processed, Stage
from plugins.convert import changed, new_message, to_fields
from plugins.host.entry import Outcome
from plugins.host.frame import Fields, Whole

AT_ONCE = 64
"""Messages that a job has emitted, or that have got through slow rules, until others have their turn."""


class Job:
    """Messages that go through the rules of a stage together; ``at`` is how many of these they have behind them.

    ``then`` is told the outcome where they do not get through at once.
    """

    __slots__ = ("at", "emitted", "messages", "named", "originals", "renamed", "size", "stage", "then")

    def __init__(self, stage: Stage, batch: Sequence[Message], then: Later) -> None:
        self.stage = stage
        self.originals = batch
        self.messages: list[Message | None] = list(batch)
        self.emitted: list[Fields] = []
        self.named: set[int] = set()
        """The places of those that any rule of the store stage was for."""
        self.renamed = False
        """Whether a rule that gives other topics was among them: others may be on the way to the same topic."""
        self.then = then
        self.at = 0
        self.size = 0
        """Bytes of payload."""

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

    def kept(self) -> list[Message]:
        """What the store stage's rules have named, and left."""
        return [
            message
            for place, message in enumerate(self.messages)
            if message is not None and place in self.named
        ]

    def processed(self) -> Processed:
        """What has become of the messages."""
        return Processed(self.messages, [new_message(fields) for fields in self.emitted])

    def tell(self, now: float) -> bool:
        """Tell ``then`` what has become of the messages, and with this and further calls what was emitted; whether
        there is more of that.
        """
        said, self.emitted = self.emitted[:AT_ONCE], self.emitted[AT_ONCE:]
        originals, messages = self.originals, self.messages
        self.originals, self.messages = [], []
        more = bool(self.emitted)
        self.then(originals, Processed(messages, [new_message(fields) for fields in said], more=more), now)
        return more

    # -- parts -------------------------------------------------------------------------------------------

    def parts(self, places: list[int], size: int) -> list[tuple[Job, list[int]]]:
        """Jobs that go on in this one's place, one behind the other, with so many of these places each.

        The messages between them belong to the part before.
        """
        if len(places) <= size:
            return [(self, places)]
        starts = [0, *places[size::size]]
        ends = [*places[size::size], len(self.originals)]
        found = []
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            chosen = places[number * size : (number + 1) * size]
            found.append((self._part(start, end), [place - start for place in chosen]))
        found[0][0].emitted = self.emitted
        return found

    def _part(self, start: int, end: int) -> Job:
        part = Job(self.stage, self.originals[start:end], self.then)
        part.messages = self.messages[start:end]
        part.named = {place - start for place in self.named if start <= place < end}
        part.renamed, part.at = self.renamed, self.at
        # Where it has been counted already, by any measure, the parts come to the same.
        part.size = (
            end * self.size // len(self.originals) - start * self.size // len(self.originals)
            if self.size
            else sum(len(message.payload) for message in part.originals)
        )
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

    def job(self, stage: Stage, fields: Sequence[Fields]) -> Job:
        """Their messages, for rules that have more to do with them."""
        messages = [
            Message(self.topic, one.payload, publisher=self.publisher, user=self.user) for one in fields
        ]
        left = len(messages)

        def then(originals: Sequence[Message], processed: Processed, now: float) -> None:
            nonlocal left
            left -= len(originals)
            self.then(processed._replace(more=processed.more or left > 0), now)

        job = Job(stage, messages, then)
        job.size = self.size
        return job


def nothing(count: int) -> Outcome:
    """The outcome of a rule that broke: all is dropped."""
    return Outcome([None] * count, [], [], [])
