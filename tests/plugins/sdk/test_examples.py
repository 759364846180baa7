"""The examples of the SDKs: the same vectors for each, whatever language it is written in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from plugins.host import frame
from plugins.host.engine import Instance
from plugins.host.frame import (
    ANSWER,
    DROP,
    PASS,
    REJECT,
    REPLACE,
    Fields,
    Place,
    decode_result,
    encode_request,
)
from plugins.host.limits import Limits
from plugins.host.reasons import ModuleRefused
from plugins.host.state import State
from tests.plugins.sdk.toolchains import BY_LIBRARY, EVERY, built

SECOND = 10**9
LANGUAGES = sorted({language for language, _ in BY_LIBRARY})


class Running:
    """A module with what it has the host remember."""

    def __init__(
        self,
        language: str,
        example: str,
        config: Any,
        state: State | None = None,
        limits: Limits = Limits(deadline_ms=5000),  # noqa: B008 - frozen
    ) -> None:
        self.state = state or State()
        raw = config if isinstance(config, bytes) else json.dumps(config).encode()
        code = built(language, example).read_bytes()
        self.instance = Instance(code, raw, limits, lambda key: self.state.get(key, 1.0))
        self.metrics: dict[bytes, float] = {}
        self.emitted: list[tuple[bytes, bytes]] = []
        self.rejected: list[str] = []
        """Why it could not work on messages."""

    def process(self, *messages: bytes | Fields, now: int = SECOND, flags: int = 0) -> list[bytes | None]:
        """The payloads that come out, None for those that are dropped."""
        batch = [m if isinstance(m, Fields) else Fields(b"a/topic", m) for m in messages]
        answer = self.instance.process(
            encode_request(batch, now, 1, 1, Place(b"node", b"region", 0), flags), len(batch)
        )
        if answer is None:
            return [fields.payload for fields in batch]
        result = decode_result(answer, batch)
        reasons, effects = frame.rejections(result)
        self.rejected += reasons.values()
        self.take(effects)
        outcome = {
            PASS: lambda i: batch[i].payload,
            REPLACE: lambda i: result.changes[i].payload,
            DROP: lambda i: None,
            REJECT: lambda i: None,
        }
        return [outcome[verdict](index) for index, verdict in enumerate(result.verdicts)]

    def take(self, effects: list[frame.Effect]) -> None:
        for effect in effects:
            if effect.kind == frame.STATE_PUT:
                self.state.put(effect.first, effect.second, effect.number, 1.0)
            elif effect.kind == frame.METRIC:
                value = self.metrics.get(effect.first, 0.0)
                self.metrics[effect.first] = value + frame.metric_value(effect.number)
            else:
                assert (effect.kind, effect.number) == (frame.EMIT, 0)
                self.emitted.append((effect.first, effect.second))


Run = Callable[..., Running]


@pytest.fixture(params=LANGUAGES)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    running: list[Running] = []

    def start(example: str, config: Any, *more: Any) -> Running:
        running.append(Running(request.param, example, config, *more))
        return running[-1]

    yield start
    for one in running:
        one.instance.close()


def test_the_filter(run: Run) -> None:
    rule = run("filter", {"member": "speed", "at_least": -2.5})
    kept = [
        b'{"speed":61.5}',
        b' {"name" : "x}{", "list":[1,{"speed":-9}],"speed" :\t-2.5} ',
        b'{"speed":1e3,"text":"\\"speed\\":-9"}',
        b'{"speed":0}',
        b'{"speed":0.25E+2}',
        '{"é":"ü","speed":7}'.encode(),
    ]
    dropped = [
        b'{"speed":-3}',
        b'{"speed":"61.5"}',
        b'{"speed":true}',
        b'{"speed":01}',
        b'{"speed":1.}',
        b'{"speed":.5}',
        b'{"speed":+5}',
        b'{"speed":1_000}',
        b'{"speed":nan}',
        b'{"speed":Infinity}',
        b'{"speed":0x10}',
        b'{"speed":1e}',
        b'{"speed":-}',
        b'{"speed":}',
        b'{"speed":5',
        b'{"speed":5}}',
        b'{"speed":5,}',
        b'{"speed":5 "x":1}',
        b'{"speed":5,"speed":6}',
        b'{"sp\\u0065ed":5,"speed":6}',
        b'{"inner":{"speed":6}}',
        b'["speed",5]',
        b'{"text":"',
        b'{"text":"\\',
        b'{"a":[}',
        b"{}",
        b"{",
        b"61.5",
        b"",
        b"\x00\xff",
    ]
    assert rule.process(*kept, *dropped) == kept + [None] * len(dropped)
    assert rule.metrics == {b"dropped": len(dropped)}
    assert rule.process(*kept) == kept
    for payload in dropped:
        assert rule.process(payload) == [None]


def test_the_mask_remembers(run: Run) -> None:
    config = {"member": "driver", "prefix": "d-"}
    rule = run("mask", config)
    assert rule.process(
        b'{"driver":"Magdalena","n":1.50}',
        b'{ "driver" : "Ruedi" }',
        b'{"driver":"Magdalena"}',
        b'{"driver":{"name":"Ruedi"}}',
        b'{"n":1}',
    ) == [
        b'{"driver":"d-1","n":1.50}',
        b'{ "driver" : "d-2" }',
        b'{"driver":"d-1"}',
        b'{"driver":"d-3"}',
        b'{"n":1}',
    ]
    assert rule.process(b'{"driver":"Ruedi"}', b'{"driver":null}') == [
        b'{"driver":"d-2"}',
        b'{"driver":"d-4"}',
    ]
    restarted = run("mask", config, rule.state)
    assert restarted.process(b'{"driver":null}', b'{"driver":"new"}') == [
        b'{"driver":"d-4"}',
        b'{"driver":"d-5"}',
    ]


def test_the_mask_lets_nothing_through_that_it_cannot_read(run: Run) -> None:
    rule = run("mask", {"member": "driver", "prefix": ""})
    secrets = [
        b'{"driver":"Magdalena"',
        b'{"driver":"Magdalena","driver":"Ruedi"}',
        b'{"dr\\u0069ver":"Magdalena"}',
        b'[{"driver":"Magdalena"}]',
        b"Magdalena",
        b"",
    ]
    assert rule.process(*secrets) == [None] * len(secrets)
    assert rule.rejected == ["the payload is no object that can be read"] * len(secrets)
    rule.rejected.clear()
    long = b'{"driver":"' + b"x" * 260 + b'"}'
    assert rule.process(long, b'{"n":1}', long) == [None, b'{"n":1}', None]
    assert rule.rejected == ["what is masked is too long"] * 2


def test_many_names_in_one_batch(run: Run) -> None:
    rule = run("mask", {"member": "driver", "prefix": "d"})
    batch = [b'{"driver":"%d"}' % (number % 200) for number in range(512)]
    assert rule.process(*batch) == [b'{"driver":"d%d"}' % (number % 200 + 1) for number in range(512)]


def reading(topic: str, value: object) -> Fields:
    return Fields(topic.encode(), json.dumps({"temperature": value}).encode())


def test_the_aggregate(run: Run) -> None:
    rule = run("aggregate", {"member": "temperature", "seconds": 1.5, "topic": "sum"})
    assert rule.process(reading("a", 20.5), reading("b", -1), reading("a", "x"), now=SECOND) == [None] * 3
    assert rule.process(reading("a", 22), now=2 * SECOND) == [None]
    assert rule.emitted == []
    rule.process(reading("a", 0.0004), now=5 * SECOND // 2)
    assert rule.emitted == [
        (b"sum/a", b'{"count":2,"min":20.500,"max":22.000,"mean":21.250}'),
        (b"sum/b", b'{"count":1,"min":-1.000,"max":-1.000,"mean":-1.000}'),
    ]
    assert rule.metrics == {b"skipped": 1}
    rule.emitted.clear()
    rule.process(reading("c", 1e300), reading("d", -0.0005), now=4 * SECOND)
    assert rule.emitted == [(b"sum/a", b'{"count":1,"min":0.000,"max":0.000,"mean":0.000}')]
    rule.emitted.clear()
    rule.process(reading("c", 1), now=9 * SECOND)
    assert rule.emitted == [
        (b"sum/c", b'{"count":1,"min":null,"max":null,"mean":null}'),
        (b"sum/d", b'{"count":1,"min":-0.001,"max":-0.001,"mean":-0.001}'),
    ]


def test_answers_are_counted_in_no_window(run: Run) -> None:
    rule = run("aggregate", {"member": "temperature", "seconds": 1, "topic": "sum"})
    rule.process(reading("a", 1), now=SECOND)
    assert rule.process(reading("a", 9), reading("b", 9), reading("b", "x"), flags=ANSWER) == [None] * 3
    assert rule.metrics == {}
    rule.process(reading("a", 2), now=2 * SECOND)
    assert rule.emitted == [(b"sum/a", b'{"count":1,"min":1.000,"max":1.000,"mean":1.000}')]


def test_the_mask_hides_names_in_answers_and_remembers_them(run: Run) -> None:
    rule = run("mask", {"member": "driver", "prefix": "d"})
    assert rule.process(b'{"driver":"a"}', b'{"driver":"b"}', flags=ANSWER) == [
        b'{"driver":"d1"}',
        b'{"driver":"d2"}',
    ]
    assert rule.process(b'{"driver":"b"}', b'{"driver":"c"}') == [b'{"driver":"d2"}', b'{"driver":"d3"}']


def test_more_topics_than_the_aggregate_holds(run: Run) -> None:
    rule = run("aggregate", {"member": "temperature", "seconds": 60, "topic": "sum"})
    rule.process(*(reading(f"t/{number}", number) for number in range(150)))
    assert [topic for topic, _ in rule.emitted] == [b"sum/t/%d" % number for number in range(128)]


@pytest.mark.parametrize("most", [0, 1, 5])
def test_the_aggregate_keeps_to_what_the_host_takes_of_a_tick(run: Run, most: int) -> None:
    config = {"member": "temperature", "seconds": 60, "topic": "sum"}
    rule = run("aggregate", config, None, Limits(deadline_ms=5000, emits=most))
    rule.process(*(reading(f"t/{number}", number) for number in range(12)))
    early = len(rule.emitted)
    assert early == (10 if most == 5 else 11)
    answer = rule.instance.tick(61 * SECOND)
    assert answer is not None
    rule.take(decode_result(answer, []).effects)
    assert len(rule.emitted) - early <= max(1, most)
    assert [topic for topic, _ in rule.emitted] == [b"sum/t/%d" % number for number in range(12)]


@pytest.mark.parametrize(
    ("example", "config", "words"),
    [
        ("filter", {}, "member: "),
        ("filter", b"", "member: "),
        ("filter", {"member": 5, "at_least": 5}, "member: "),
        ("filter", {"member": "a", "at_least": "5"}, "at_least: a number is expected"),
        ("mask", {"member": "a"}, "prefix: "),
        ("mask", {"member": "a", "prefix": 'a"b'}, "prefix: "),
        ("aggregate", {"member": "a", "seconds": 0, "topic": "t"}, "seconds: "),
        ("aggregate", {"member": "a", "seconds": 1, "topic": ""}, "topic: "),
    ],
)
def test_wrong_settings_are_told(run: Run, example: str, config: Any, words: str) -> None:
    with pytest.raises(ModuleRefused, match=f"^{words}"):
        run(example, config)


@pytest.mark.parametrize(("language", "example"), EVERY)
def test_memory_is_given_back(language: str, example: str) -> None:
    """64 MB pass through a module that may have 16."""
    config = {"member": "a", "at_least": 1, "prefix": "p", "seconds": 1, "topic": "t"}
    rule = Running(language, example, config)
    payload = b'{"a":5,"b":"' + b"x" * 20_000 + b'"}'
    for number in range(320):
        rule.process(*[payload] * 10, now=number * SECOND)
    rule.instance.close()


def test_the_text_format() -> None:
    rule = Running("wat", "empty", {})
    assert rule.process(b"", b"x", b"") == [None, b"x", None]
    assert rule.process(b"x", b"y") == [b"x", b"y"]
    assert rule.process(*[b""] * 5000) == [None] * 5000
    rule.instance.close()
