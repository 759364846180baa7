"""The built-in module with a configuration, called as the host calls it, its state kept as the host keeps it."""

from __future__ import annotations

import atexit
import json
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

from broker.config.rules import mistakes
from plugins.builtin import build
from plugins.host.engine import Instance, Program
from plugins.host.frame import (
    ALERT,
    EMIT,
    METRIC,
    PASS,
    REPLACE,
    STATE_PUT,
    Effect,
    Fields,
    Place,
    decode_result,
    encode_request,
    metric_value,
)
from plugins.host.limits import Limits
from plugins.host.state import State

PLACE = Place(b"gate-7", b"eu", 3600)
NOON = 1_767_265_200.0
"""12:00 in Berlin, 11:00 UTC, on Thursday, 1 January 2026."""


@cache
def program() -> Program:
    """The built-in module, compiled. Not before the tests begin: wasmtime's handling of traps has to come after
    pytest's handling of crashes."""
    return Program(build.MODULE.read_bytes())


# The library that it belongs to is gone when the interpreter has no more modules.
atexit.register(program.cache_clear)


class Emitted(NamedTuple):
    """An extra message."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Rules:
    """Steps at work; ``restart`` keeps only what the host has of the module's state."""

    def __init__(self, *steps: dict[str, Any], **config: Any) -> None:
        whole = {"steps": list(steps), **config}
        self._config = json.dumps(whole).encode()
        self._state = State()
        self.now = NOON
        self.emitted: list[Emitted] = []
        self.alerts: list[tuple[str, str]] = []
        self.puts = 0
        self.metrics: Counter[str] = Counter()
        self._instance = self._start()
        assert mistakes(whole) == [], "what the module takes, the configuration takes"

    def _start(self) -> Instance:
        return Instance(program(), self._config, Limits(fuel_base=100_000_000, deadline_ms=5000), self._get)

    def _get(self, key: bytes) -> bytes | None:
        return self._state.get(key, self.now)

    def restart(self) -> None:
        """A new instance, as after a trap."""
        self._instance.close()
        self._instance = self._start()

    def run(self, *messages: Fields, flags: int = 0) -> list[Fields | None]:
        """What becomes of a batch; None where a message is dropped."""
        request = encode_request(messages, int(self.now * 1e9), 1, 1, PLACE, flags)
        answer = self._instance.process(request, len(messages))
        if answer is None:
            return list(messages)
        verdicts, changes, effects = decode_result(answer, messages)
        self._apply(effects)
        return [
            changes[i] if verdict == REPLACE else messages[i] if verdict == PASS else None
            for i, verdict in enumerate(verdicts)
        ]

    def one(self, payload: bytes | str = b"", topic: str = "t", **more: Any) -> Fields | None:
        """What becomes of one message."""
        raw = payload.encode() if isinstance(payload, str) else payload
        (after,) = self.run(Fields(topic.encode(), raw, **more))
        return after

    def passes(self, payload: bytes | str = b"", topic: str = "t", **more: Any) -> bool:
        """Whether a message is not dropped."""
        return self.one(payload, topic, **more) is not None

    def tick(self) -> None:
        """The host's call about once a second."""
        answer = self._instance.tick(int(self.now * 1e9))
        if answer is not None:
            self._apply(decode_result(answer, []).effects)

    def close(self) -> None:
        """Give the memory back."""
        self._instance.close()

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if effect.kind == EMIT:
                qos, retain = effect.number & 3, bool(effect.number & 4)
                self.emitted.append(Emitted(effect.first.decode(), effect.second, qos, retain))
            elif effect.kind == ALERT:
                self.alerts.append((effect.first.decode(), effect.second.decode()))
            elif effect.kind == METRIC:
                self.metrics[effect.first.decode()] += int(metric_value(effect.number))
            elif effect.kind == STATE_PUT:
                self.puts += 1
                self._state.put(effect.first, effect.second, effect.number, self.now)


class Shop:
    """Makes rules and closes them."""

    def __init__(self) -> None:
        self._made: list[Rules] = []

    def __call__(self, *steps: dict[str, Any], **config: Any) -> Rules:
        self._made.append(Rules(*steps, **config))
        return self._made[-1]

    def close(self) -> None:
        for rules in self._made:
            rules.close()
