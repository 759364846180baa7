"""The operators' rules behind the engine's port: which topics have some, and running them over messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from broker.message import Message
from broker.ports import Processed, Stage
from broker.protocol.topics import matches
from plugins.host.entry import Entry, Outcome
from plugins.host.frame import Fields
from plugins.host.pipeline import Rule

_MAX_TOPICS = 16_384


class Keeper(Protocol):
    """Where the store stage puts messages: :class:`plugins.store.history.History`."""

    def append(self, messages: Sequence[Message], now: float) -> None:
        """Keep messages; returns at once."""


class Stages:
    """Implements :class:`broker.ports.Pipeline`. ``history`` keeps what the store stage lets through."""

    def __init__(self, entries: Sequence[Entry], history: Keeper | None) -> None:
        self._rules = {stage: [Rule(entry) for entry in entries if entry.stage == stage] for stage in Stage}
        self._history = history
        self._chosen: dict[tuple[Stage, str], tuple[Rule, ...]] = {}

    def stages(self, topic: str) -> int:
        """The stages that have a rule for this topic."""
        return sum(stage for stage in Stage if self._rules_for(stage, topic))

    def run(self, stage: Stage, batch: Sequence[Message], now: float) -> Processed:
        """Run a stage's rules one after the other over the messages whose topics they name.

        A message that a rule has given another topic is one of that topic for the rules behind it.
        """
        messages: list[Message | None] = list(batch)
        emitted: list[Message] = []
        named = [False] * len(messages)
        for rule in self._rules[stage]:
            where = [
                index
                for index, message in enumerate(messages)
                if message is not None and rule in self._rules_for(stage, message.topic)
            ]
            if where:
                self._run_rule(rule, messages, where, emitted, now)
            for index in where:
                named[index] = True
        if stage is Stage.STORE:
            self._keep([m for m, keep in zip(messages, named, strict=True) if m is not None and keep], now)
        return Processed(messages, emitted)

    def counters(self) -> list[dict[str, Any]]:
        """The figures of every rule, in the order of their running."""
        return [rule.figures() for rules in self._rules.values() for rule in rules]

    def close(self) -> None:
        """Give the modules' memory back."""
        for rules in self._rules.values():
            for rule in rules:
                rule.close()

    def _rules_for(self, stage: Stage, topic: str) -> tuple[Rule, ...]:
        key = (stage, topic)
        chosen = self._chosen.get(key)
        if chosen is None:
            if len(self._chosen) >= _MAX_TOPICS:
                self._chosen.clear()
            chosen = self._chosen[key] = tuple(
                rule
                for rule in self._rules[stage]
                if any(matches(topic_filter, topic) for topic_filter in rule.entry.topics)
            )
        return chosen

    def _run_rule(
        self, rule: Rule, messages: list[Message | None], where: list[int], emitted: list[Message], now: float
    ) -> None:
        fields = [_to_fields(messages[index]) for index in where]
        outcome: Outcome = rule.run(fields, now)
        for index, before, after in zip(where, fields, outcome.messages, strict=True):
            if after is None:
                messages[index] = None
            elif after is not before:
                messages[index] = _changed(messages[index], after)
        emitted += map(_new, outcome.emitted)
        if outcome.stored:
            self._keep([_new(stored) for stored in outcome.stored], now)

    def _keep(self, messages: list[Message], now: float) -> None:
        if messages and self._history is not None:
            self._history.append(messages, now)


def _to_fields(message: Message | None) -> Fields:
    assert message is not None
    return Fields(
        message.topic.encode(),
        message.payload,
        message.properties,
        message.publisher.encode(),
        message.qos,
        message.retain,
    )


def _changed(message: Message | None, fields: Fields) -> Message:
    assert message is not None
    topic, payload, properties, _, qos, retain, _ = fields
    return Message(
        topic.decode(),
        payload,
        qos,
        retain,
        properties,
        message.expires_at,
        message.publisher,
        message.origin,
        message.stamp,
    )


def _new(fields: Fields) -> Message:
    return Message(fields.topic.decode(), fields.payload, fields.qos, fields.retain)
