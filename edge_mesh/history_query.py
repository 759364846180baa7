"""Questions to the histories of all nodes: the data stays where it arose, answers pass the egress rules."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from broker.message import Message
from broker.ports import Failure
from edge_mesh import answers, envelope
from edge_mesh.boundary import Boundary, may_leave
from edge_mesh.filter_set import is_travelling
from edge_mesh.keys import Keys
from edge_mesh.link import Query, Replies
from edge_mesh.withheld import in_words

logger = logging.getLogger("geomq.mesh.history")

MAX_MESSAGES = 10_000
"""The most that one node answers."""
_MICROSECONDS = 1_000_000


class Stored(Protocol):
    """A message in a node's history; ``time`` is wall-clock seconds."""

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def time(self) -> float: ...  # noqa: D102
    @property
    def payload(self) -> bytes: ...  # noqa: D102
    @property
    def qos(self) -> int: ...  # noqa: D102
    @property
    def retain(self) -> bool: ...  # noqa: D102
    @property
    def properties(self) -> bytes: ...  # noqa: D102
    @property
    def publisher(self) -> str: ...  # noqa: D102
    @property
    def user(self) -> str: ...  # noqa: D102


class HistoryQuery(Protocol):
    """Reads a local history; may block. ``last`` limits the number, the times are wall-clock seconds."""

    def __call__(  # noqa: D102
        self, topic_filter: str, *, last: int | None, since: float | None, until: float | None
    ) -> Iterable[Stored]: ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every history."""

    topic_filter: str
    last: int | None = None
    since: float | None = None
    until: float | None = None

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(
            {"filter": self.topic_filter, "last": self.last, "since": self.since, "until": self.until}
        ).encode()


def decode_question(data: bytes) -> Question:
    """ValueError where the bytes are no question."""
    try:
        fields = json.loads(data)
        question = Question(fields["filter"], fields.get("last"), fields.get("since"), fields.get("until"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("not a question to a history") from None
    if not isinstance(question.topic_filter, str) or not is_travelling(question.topic_filter):
        raise ValueError(f"{question.topic_filter!r} is not a topic filter that nodes answer")
    if question.last is not None and (type(question.last) is not int or question.last < 1):
        raise ValueError(f"last: {question.last!r} is not a number of messages")
    for bound in (question.since, question.until):
        if bound is not None and type(bound) not in (int, float):
            raise ValueError(f"{bound!r} is not a time")
    return question


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A message out of a node's history, as the egress rules of that node left it."""

    node: str
    time: float
    message: Message


@dataclass(slots=True)
class HistoryAnswer:
    """What the nodes of the mesh answered, merged."""

    entries: list[HistoryEntry] = field(default_factory=list)
    """By time, the oldest first."""
    answered: list[str] = field(default_factory=list)
    """The nodes whose whole answer is in it."""
    incomplete: list[str] = field(default_factory=list)
    """The nodes of whose answer something is missing."""
    errors: list[str] = field(default_factory=list)
    """What is missing, and why: nodes that could not answer, and rules that failed, by name."""


class HistoryResponder:
    """Answers for this node's history; says nothing where there is none. ``wall()`` is the wall clock."""

    def __init__(
        self, name: str, query: HistoryQuery | None, boundary: Boundary, wall: Callable[[], float]
    ) -> None:
        self._name = name
        self.query = query
        self._boundary = boundary
        self._wall = wall

    async def answer(self, query: Query) -> None:
        """Answer one question, or say why not."""
        history = self.query
        if history is None:
            query.finish()
            return
        try:
            question = decode_question(query.payload)
            last = min(question.last or MAX_MESSAGES, MAX_MESSAGES)
            found = await asyncio.to_thread(_read, history, question, last)
        except ValueError as error:
            query.fail(f"{self._name}: {error}")
        except Exception:
            logger.exception("the local history could not be read")
            query.fail(f"{self._name}: the history could not be read")
        else:
            records, failures = await self._records(found)
            for part in answers.parts(self._name, records, self._wall()):
                query.reply(part)
            for text in in_words(failures):
                query.fail(f"{self._name}: {text}")
        finally:
            query.finish()

    async def _records(self, found: list[Stored]) -> tuple[list[bytes], Counter[Failure]]:
        messages = [
            Message(
                stored.topic,
                stored.payload,
                stored.qos,
                bool(stored.retain),
                stored.properties,
                0.0,
                stored.publisher,
                user=stored.user,
            )
            for stored in found
            if may_leave(stored.topic)
        ]
        times = [int(stored.time * _MICROSECONDS) for stored in found if may_leave(stored.topic)]
        told = await self._boundary.pass_messages(messages, self._wall())
        records = [
            envelope.encode_record(message, "", time)
            for message, time in zip(told.messages, times, strict=True)
            if message is not None and may_leave(message.topic)
        ]
        return records, told.failures


def _read(history: HistoryQuery, question: Question, last: int) -> list[Stored]:
    return list(history(question.topic_filter, last=last, since=question.since, until=question.until))


def collect(replies: Replies, last: int | None, now: float) -> HistoryAnswer:
    """Put together what came until the question ended; ``now`` is wall-clock seconds."""
    answer = HistoryAnswer(errors=list(replies.errors))
    headers: dict[str, list[envelope.Header]] = {}
    for key, payload in replies.answers:
        node = Keys.queried_node(key)
        seen = headers.setdefault(node, [])
        try:
            header = envelope.decode_header(payload)
            messages = envelope.decode_records(payload, header, now)
        except envelope.EnvelopeError as error:
            answer.errors.append(f"{node}: {error}")
            continue
        seen.append(header)
        for message in messages:
            time, message.stamp = message.stamp / _MICROSECONDS, 0
            answer.entries.append(HistoryEntry(node, time, message))
    for node, seen in sorted(headers.items()):
        (answer.answered if answers.is_complete(seen) else answer.incomplete).append(node)
    answer.entries.sort(key=lambda entry: (entry.time, entry.node))
    if last is not None:
        answer.entries = answer.entries[-last:]
    return answer
