"""Stages with workers, on real wasm, and rules that take their time."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence

from broker.message import Message
from broker.ports import Failure, Processed, RunResult, Stage
from broker.protocol import encode
from broker.protocol.packets import PublishRun
from plugins.host.entry import Entry
from plugins.host.limits import Limits
from plugins.post import Workers
from plugins.stages import Stages

SLOW = """
  (local $i i32)
  (local.set $i (i32.mul (i32.load offset=4 (local.get $at)) (i32.const 500000)))
  (loop $again (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
  (i64.const 0)
"""
"""Passes every message, after a quarter of a millisecond or more for each."""
SOMETIMES_SLOW = f"""
  (local $i i32)
  ;; Two of three batches.
  (if (i64.ne (i64.rem_u (i64.load offset=16 (local.get $at)) (i64.const 3)) (i64.const 0))
    (then (return (i64.const 0))))
  {SLOW.replace("(local $i i32)", "")}
"""
LIMITS = Limits(fuel_base=10**12, deadline_ms=60_000)


def run_of(topic: str, payloads: Sequence[bytes], version: int) -> PublishRun:
    """Messages of one length as a client sends them."""
    packets = [b"".join(encode.publish(topic, payload, 0, False, version, b"")) for payload in payloads]
    size = len(packets[0])
    return PublishRun(topic.encode(), b"".join(packets), len(packets), size, size - len(payloads[0]))


class Bench:
    """Stages with workers, and what came out of them, by topic."""

    def __init__(self, *entries: Entry) -> None:
        self.stages = Stages(entries, workers=Workers(asyncio.get_running_loop()))
        self.stages.surroundings = self
        self.came: dict[str, list[bytes]] = defaultdict(list)
        self.failed: list[tuple[bytes, Failure]] = []
        """On which payloads rules failed."""
        self.later = 0
        self.packets = 0
        """How often messages were worked on later, in one piece."""

    def publish(self, *messages: Message, stage: Stage = Stage.INGRESS) -> Processed:
        concerned = [message for message in messages if self.stages.stages(message.topic) & stage]
        for message in messages:
            if message not in concerned:
                self._take(message)
        processed = self.stages.run(stage, concerned, time.time(), self._then)
        self.later += len(processed.later)
        for number, message in enumerate(processed.messages):
            if number not in processed.later:
                self._take(message)
        for message in processed.emitted:
            self._take(message)
        self._note(concerned, processed)
        return processed

    def publish_run(self, topic: str, payloads: Sequence[bytes]) -> None:
        """As the engine does it: in one piece where that can be done, at once or later."""
        run = run_of(topic, payloads, 4)
        most = self.stages.at_once(topic)
        if most >= run.count:
            result = self.stages.run_ingress(run, topic, "", "", time.time())
            if result is not None:
                self._take_result(topic, payloads, result)
                return
        elif most >= 0:
            self.later += run.count
            self.packets += 1

            def then(result: RunResult, now: float) -> None:
                assert abs(now - time.time()) < 5
                if not (isinstance(result, Processed) and result.more):
                    self.later -= run.count
                self._take_result(topic, payloads, result)

            self.stages.run_ingress_later(run, topic, "", "", then)
            return
        self.publish(*(Message(topic, payload) for payload in payloads))

    def _take_result(self, topic: str, payloads: Sequence[bytes], result: RunResult) -> None:
        if isinstance(result, Processed):
            for message in result.messages + result.emitted:
                self._take(message)
        else:
            self.came[topic] += [payload for payload in result or payloads if payload is not None]

    def _then(self, messages: Sequence[Message], processed: Processed, now: float) -> None:
        assert len(messages) == len(processed.messages)
        assert not processed.later
        assert abs(now - time.time()) < 5
        self.later -= len(messages)
        for message in processed.messages + processed.emitted:
            self._take(message)
        self._note(messages, processed)

    def _note(self, messages: Sequence[Message], processed: Processed) -> None:
        for number, failure in (processed.failed or {}).items():
            assert number not in processed.later
            self.failed.append((messages[number].payload, failure))

    def emitted(self, stage: Stage, messages: Sequence[Message]) -> None:
        """As the engine hears it; so it hears messages of runs that were quick, and waited for another rule."""
        for message in messages:
            self._take(message)

    def dead(self, messages: Sequence[Message]) -> None:
        """Nobody wants to know."""

    def rules_changed(self) -> None:
        """There is nothing that depends on it."""

    def _take(self, message: Message | None) -> None:
        if message is not None:
            self.came[message.topic].append(message.payload)

    async def all_through(self) -> None:
        async with asyncio.timeout(30):
            while self.later:
                await asyncio.sleep(0.002)
        await self.stages.drain(30)
