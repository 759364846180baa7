"""The operators' rules behind the engine's port: which topics have some, and having messages pass them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from broker.message import Message
from broker.ports import Failure, Later, LaterRun, Processed, RunResult, Stage
from broker.protocol.packets import PublishRun
from broker.protocol.topics import matches
from plugins.dead_letters import DeadLetters
from plugins.host.cache import CompiledCache
from plugins.host.entry import Entry, Failed, Outcome
from plugins.host.frame import NOWHERE, Fields, Place, Whole
from plugins.host.pipeline import Rule
from plugins.host.state import State
from plugins.job import Job, Packets
from plugins.post import Done, Post, Said, Unpacked, Workers
from plugins.renewal import Renewal, Wanted

logger = logging.getLogger("geomq.plugins")

_MAX_TOPICS = 16_384
_MUCH_MESSAGES = 4096
_MUCH_BYTES = 16 << 20
"""What may be on its way through slow rules before publishers are asked to wait."""


class Keeper(Protocol):
    """Where the store stage puts messages: :class:`plugins.store.history.History`."""

    def append(self, messages: Sequence[Message], now: float) -> None:
        """Keep messages; returns at once."""


class Memory(Protocol):
    """Where the state of modules is kept: :class:`plugins.store.rule_state.StateStore`."""

    def open(self, entry: str) -> State:
        """The state of an entry, as it was left; the same one each time."""


class Surroundings(Protocol):
    """What rules cause besides: :class:`broker.engine_face.RulesFace`. Called on the event loop."""

    def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
        """A rule said something without a message's occasion."""

    def dead(self, messages: Sequence[Message]) -> None:
        """Rules could not work on messages: tell those of this node who want to know."""

    def rules_changed(self) -> None:
        """Other topics have rules than before."""


class Stages:
    """Implements :class:`broker.ports.Pipeline`.

    ``history`` keeps what the store stage lets through, ``memory`` what modules remember, ``cache`` what was compiled;
    without the last two it lasts as long as the process. Without ``workers`` all is done at once, however long that is.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        history: Keeper | None = None,
        memory: Memory | None = None,
        cache: CompiledCache | None = None,
        place: Place = NOWHERE,
        workers: Workers | None = None,
    ) -> None:
        self.surroundings: Surroundings | None = None
        self.history = history
        self._memory = memory
        self._cache = cache
        self._place = place
        self._workers = workers
        self._posts = {
            stage: [self._post(entry) for entry in entries if entry.stage == stage] for stage in Stage
        }
        self._chosen: dict[Stage, dict[str, tuple[Post, ...]]] = {stage: {} for stage in Stage}
        self._letters = DeadLetters()
        self._messages_waiting = 0
        self._bytes_waiting = 0
        self._wanted = Wanted(entries)
        self._renewing: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._all_idle: asyncio.Future[None] | None = None
        self._held: list[Job] | None = None
        """What came while others wait for the rules to be idle; None where nobody does."""

    # -- the engine's port -------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """Whether so much is on its way through slow rules that publishers should wait."""
        return self._messages_waiting >= _MUCH_MESSAGES or self._bytes_waiting >= _MUCH_BYTES

    def stages(self, topic: str) -> int:
        """The stages that have a rule for this topic."""
        return sum(stage for stage in Stage if self._posts_for(stage, topic))

    def run(
        self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool = False
    ) -> Processed:
        """Run a stage's rules one after the other over the messages whose topics they name.

        A message that a rule has given another topic is one of that topic for the rules behind it. What a rule emits
        goes through these, too: a mask at the end of the egress stage sees all that leaves.
        """
        if self._held is not None:
            self._held.append(Job(stage, batch, then, answer))
            self._count(self._held[-1])
            return _later(self._held[-1])
        return self._run(stage, batch, now, then, answer)

    def at_once(self, topic: str) -> int:
        """See the port."""
        posts = self._posts_for(Stage.INGRESS, topic)
        if self._held is not None or len(posts) != 1 or self._has_to_wait(topic, posts[0]):
            return -1
        return posts[0].at_once

    def _has_to_wait(self, topic: str, post: Post) -> bool:
        """Whether there are messages of a topic that wait for a rule behind the only one for it."""
        return any(other.keeps_topic(topic) for other in self._posts[Stage.INGRESS] if other is not post)

    def run_ingress(
        self, run: PublishRun, topic: str, publisher: str, user: str, now: float
    ) -> RunResult | None:
        """See the port."""
        post, packets = self._packets(run, topic, publisher, user, self._hand_on)
        result = post.rule.run_whole(packets.whole, now)
        if result is None or isinstance(result, list):
            return result
        job = self._unpacked(post, packets, *result)
        return job.processed() if self._walk(job, now) else Processed([], [])

    def _hand_on(self, result: RunResult, now: float) -> None:
        """Messages of a run have got through rules that took long, behind a quick one that has given them to these."""
        assert isinstance(result, Processed)
        messages = [message for message in result.messages if message is not None]
        if self.surroundings is not None:
            self.surroundings.emitted(Stage.INGRESS, messages + result.emitted)

    def run_ingress_later(
        self, run: PublishRun, topic: str, publisher: str, user: str, then: LaterRun
    ) -> None:
        """See the port."""
        post, packets = self._packets(run, topic, publisher, user, then)
        if packets.whole.number <= post.turn:
            self._messages_waiting += packets.whole.number
            self._bytes_waiting += packets.size
            post.put_packets(packets)
        else:
            job = self._job(post, packets, packets.whole.payloads())
            self._put(post, job, list(range(packets.whole.number)))

    def _packets(
        self, run: PublishRun, topic: str, publisher: str, user: str, then: LaterRun
    ) -> tuple[Post, Packets]:
        (post,) = self._posts_for(Stage.INGRESS, topic)
        whole = Whole(
            topic.encode(), run.frames, run.count, run.size, run.payload_at, publisher.encode(), user.encode()
        )
        return post, Packets(whole, topic, publisher, user, then)

    def packets_done(self, post: Post, done: Done) -> Job | None:
        """A rule that took long is through with packets."""
        packets, payloads = done
        if self._has_to_wait(packets.topic, post):
            return self._counted(packets, self._job(post, packets, payloads or packets.whole.payloads()))
        self._messages_waiting -= packets.whole.number
        self._bytes_waiting -= packets.size
        packets.then(payloads, time.time())
        return None

    def unpacked(self, post: Post, found: Unpacked) -> Job:
        """The messages of packets as a rule that took long has left them, for those behind it."""
        return self._counted(found.packets, self._unpacked(post, *found))

    def _unpacked(
        self,
        post: Post,
        packets: Packets,
        fields: list[Fields],
        outcome: Outcome,
        said: Said | None = None,
    ) -> Job:
        job = self._job(post, packets, [one.payload for one in fields])
        post.settle(job, range(len(fields)), fields, outcome, said)
        return job

    def _job(self, post: Post, packets: Packets, payloads: Sequence[bytes | None]) -> Job:
        job = packets.job(Stage.INGRESS, payloads)
        job.at = self._posts[Stage.INGRESS].index(post) + 1
        return job

    def _counted(self, packets: Packets, job: Job) -> Job:
        """The job in the place of packets that have waited."""
        job.counted = packets.whole.number, packets.size
        job.keys = frozenset((packets.topic,))
        return job

    def _run(
        self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool
    ) -> Processed:
        count = len(batch)
        # All rules, for a message may come to have the topic of any: nothing then has to wait half-way.
        if count == 1 or all(post.is_quick(count) for post in self._posts[stage]):
            return self._begin(stage, batch, now, then, answer)
        groups: dict[tuple[Post, ...], list[int]] = {}
        for place, message in enumerate(batch):
            groups.setdefault(self._posts_for(stage, message.topic), []).append(place)
        if len(groups) == 1:
            return self._begin(stage, batch, now, then, answer)
        messages: list[Message | None] = [None] * count
        emitted: list[Message] = []
        failed: dict[int, Failure] = {}
        later: set[int] = set()
        for places in groups.values():
            processed = self._begin(stage, [batch[place] for place in places], now, then, answer)
            emitted += processed.emitted
            failed.update((places[number], why) for number, why in (processed.failed or {}).items())
            later.update(places[number] for number in processed.later)
            for place, result in zip(places, processed.messages, strict=True):
                messages[place] = result
        return Processed(messages, emitted, frozenset(later), failed)

    def counters(self) -> list[dict[str, Any]]:
        """The figures of every rule, in the order of their running."""
        return [post.rule.figures() for posts in self._posts.values() for post in posts]

    def unready(self) -> dict[str, str]:
        """Why rules are not at work as the configuration has them, by their names."""
        rules = [post.rule for posts in self._posts.values() for post in posts]
        never = {rule.entry.name: rule.last_error for rule in rules if not rule.works}
        return never | self._wanted.stayed

    def stand(self, place: Place) -> None:
        """The node is called so, or its region is."""
        self._place = place
        for posts in self._posts.values():
            for post in posts:
                post.rule.place = place

    def tick(self, now: float) -> None:
        """About once a second: modules that want to be are told the time; those whose files changed are loaded."""
        for posts in self._posts.values():
            for post in posts:
                post.tick(now)
        if self._renewing is None and self._workers is not None and self._wanted.has_changed_files:
            self._renewing = asyncio.create_task(self.renew(self._wanted.entries))
            self._renewing.add_done_callback(self._renewed)

    def close(self) -> None:
        """Give the modules' memory back. Nothing may be worked on any more."""
        self._letters.close()
        for posts in self._posts.values():
            for post in posts:
                post.rule.close()

    async def renew(self, entries: Sequence[Entry]) -> None:
        """Have other rules from now on, between two batches: none is lost, or overtaken, or sees half of them.

        What differs is loaded first; a module that does not start leaves the rule as it was, loudly.
        """
        async with self._one_at_a_time:
            posts = [post for posts in self._posts.values() for post in posts]
            renewal = await self._wanted.prepare(entries, posts, self._post)
            if renewal.posts == posts and not renewal.changes:
                return
            self._held = []
            try:
                await self.drain()
                self._take_over(renewal, posts)
            finally:
                self._release()

    async def drain(self, longest: float | None = None) -> None:
        """Wait until nothing is being worked on, for so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                while not self._is_idle():
                    if self._all_idle is None or self._all_idle.done():
                        self._all_idle = asyncio.get_running_loop().create_future()
                    await asyncio.shield(self._all_idle)

    async def stop(self) -> None:
        """Wait for what is being worked on, then close."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self._workers is not None:
            await self._workers.stop()
        self.close()

    # -- a job's way -------------------------------------------------------------------------------------

    def _begin(
        self, stage: Stage, batch: Sequence[Message], now: float, then: Later, answer: bool
    ) -> Processed:
        """Send messages on their way; those of one topic begin in order, and none overtakes another."""
        job = Job(stage, batch, then, answer)
        return job.processed() if self._walk(job, now) else _later(job)

    def _put(self, post: Post, job: Job, places: list[int]) -> None:
        self._count_no_more(job)
        for part, chosen in job.parts(places, post.turn):
            self._count(part)
            post.put(part, chosen)

    def _count(self, job: Job) -> None:
        """What waits, with what rules have emitted: where it is too much publishers wait."""
        size = sum(len(message.payload) for message in job.messages if message is not None)
        job.counted = len(job.messages), size
        self._messages_waiting += len(job.messages)
        self._bytes_waiting += size

    def _count_no_more(self, job: Job) -> None:
        messages, size = job.counted
        self._messages_waiting -= messages
        self._bytes_waiting -= size
        job.counted = 0, 0

    def _walk(self, job: Job, now: float) -> bool:
        """Have a job go on as far as it gets at once, or to the end; whether it is through."""
        concerned = self._concerned(job)
        for post in self._posts[job.stage][job.at :]:
            job.at += 1
            if post not in concerned:
                if post.keeps(job):
                    self._put(post, job, [])
                    return False
                continue
            places = self._places(job, post)
            if not post.is_quick(len(places)):
                self._put(post, job, places)
                return False
            post.run(job, places, now)
            # Messages may have other topics now, and there may be more.
            concerned = self._concerned(job)
        if job.stage is Stage.STORE:
            self._keep(job.kept(), now)
        return True

    def _concerned(self, job: Job) -> Collection[Post]:
        """The posts that have something to do with a job as it is now."""
        topics = {message.topic for message in job.messages if message is not None}
        if len(topics) == 1:
            return self._posts_for(job.stage, topics.pop())
        return {post for topic in topics for post in self._posts_for(job.stage, topic)}

    def _places(self, job: Job, post: Post) -> list[int]:
        """Where a job has messages that a rule is for."""
        stage, known = job.stage, self._chosen[job.stage]
        return [
            place
            for place, message in enumerate(job.messages)
            if message is not None
            and post in (known.get(message.topic) or self._posts_for(stage, message.topic))
        ]

    def go_on(self, job: Job) -> bool:
        """A job has got through a rule that took long; whether it has to come again, for its rules emitted much."""
        now = time.time()
        if not job.is_told:
            if not self._walk(job, now):
                return False
            self._count_no_more(job)
        return job.tell(now)

    def idles(self) -> None:
        """A rule has nothing to do any more."""
        if self._all_idle is not None and not self._all_idle.done() and self._is_idle():
            self._all_idle.set_result(None)

    def letters(self, post: Post, failed: Sequence[Failed]) -> list[Message]:
        """What to tell of messages that a rule failed on. May be called on any thread."""
        return self._letters.put(post.rule.entry, failed, time.time())

    def apply(self, post: Post, job: Job | None, said: Said) -> None:
        """See to what a rule says beside what becomes of messages."""
        self._keep(said.stored, time.time())
        if said.letters and self.surroundings is not None:
            self.surroundings.dead(said.letters)
        if job is not None:
            job.messages += said.emitted
        elif said.emitted:
            self._emit(post, said.emitted)

    def _emit(self, post: Post, emitted: list[Message]) -> None:
        """Send what a rule says without a message's occasion through the rules behind it, and on."""
        stage, now = Stage(post.rule.entry.stage), time.time()
        post.telling += 1

        def leave(_: Sequence[Message], processed: Processed, __: float) -> None:
            if not processed.more:
                post.telling -= 1
            if processed.emitted and self.surroundings is not None:
                self.surroundings.emitted(stage, processed.emitted)

        job = Job(stage, (), leave)
        job.messages += emitted
        job.sources.add(post)
        job.at = self._posts[stage].index(post) + 1
        if self._walk(job, now):
            leave((), job.processed(), now)

    def _keep(self, messages: list[Message], now: float) -> None:
        if messages and self.history is not None:
            self.history.append(messages, now)

    # -- other rules -------------------------------------------------------------------------------------

    def _is_idle(self) -> bool:
        return all(post.idle for posts in self._posts.values() for post in posts)

    def _take_over(self, renewal: Renewal, before: list[Post]) -> None:
        for post, entry, prepared, why_none in renewal.changes:
            post.rule.adopt(entry, prepared, why_none)
        for post in before:
            if post not in renewal.posts:
                post.rule.close()
        self._posts = {
            stage: [post for post in renewal.posts if post.rule.entry.stage == stage] for stage in Stage
        }
        for known in self._chosen.values():
            known.clear()
        if self.surroundings is not None:
            self.surroundings.rules_changed()
        names = [change.entry.name for change in renewal.changes]
        logger.info(
            "the rules have changed: %d of them, %s loaded again", len(renewal.posts), names or "none"
        )

    def _release(self) -> None:
        """Let those go on, in order, that came meanwhile."""
        held = self._held or []
        while held:
            # Whoever comes while one of them is passed on still has to wait behind the others.
            job = held.pop(0)
            self._count_no_more(job)
            now = time.time()
            processed = self._run(job.stage, job.originals, now, job.then, job.answer)
            done = [place for place in range(len(job.originals)) if place not in processed.later]
            if done:
                messages = [processed.messages[place] for place in done]
                originals = [job.originals[place] for place in done]
                known = processed.failed or {}
                failed = {number: known[place] for number, place in enumerate(done) if place in known}
                job.then(originals, Processed(messages, processed.emitted, failed=failed), now)
        self._held = None

    def _renewed(self, task: asyncio.Task[None]) -> None:
        self._renewing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the rules stay as they were", exc_info=error)

    # -- which rules -------------------------------------------------------------------------------------

    def _post(self, entry: Entry) -> Post:
        rule = Rule(entry, self._memory.open(entry.name) if self._memory else None, self._cache)
        rule.place = self._place
        return Post(rule, self._workers, self)

    def _posts_for(self, stage: Stage, topic: str) -> tuple[Post, ...]:
        known = self._chosen[stage]
        chosen = known.get(topic)
        if chosen is None:
            if len(known) >= _MAX_TOPICS:
                known.clear()
            chosen = known[topic] = tuple(
                post
                for post in self._posts[stage]
                if any(matches(topic_filter, topic) for topic_filter in post.rule.entry.topics)
            )
        return chosen


def _later(job: Job) -> Processed:
    """All messages of a job are still being worked on."""
    count = len(job.originals)
    return Processed(job.messages[:count], [], frozenset(range(count)))
