"""A rule at work: what becomes of messages when its module fails, and what its effects do."""

from __future__ import annotations

import json
import logging
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.host import frame
from plugins.host.breaker import Breaker
from plugins.host.engine import Instance
from plugins.host.entry import EGRESS, INGRESS, STORE, Entry
from plugins.host.frame import Fields, Whole
from plugins.host.limits import Limits
from plugins.host.pipeline import Rule
from plugins.host.reasons import Overdue
from plugins.host.state import State, StateChange
from tests.plugins import modules
from tests.plugins.bench import SLOW

BATCH = [Fields(b"t", b"%d" % number) for number in range(10)]


def rule(
    folder: Path,
    process: str,
    stage: int = INGRESS,
    on_error: str = "drop",
    limits: Limits | None = None,
    header: str = modules.HEADER,
) -> Rule:
    path = folder / "rule.wasm"
    path.write_bytes(modules.module(process, header))
    return Rule(Entry("rule", stage, str(path), ("#",), {}, limits or Limits(deadline_ms=5000), on_error))


def test_pass_and_drop(tmp_path: Path) -> None:
    passing = rule(tmp_path, modules.PASSES)
    messages = passing.run(BATCH, 1.0).messages
    assert all(after is before for after, before in zip(messages, BATCH, strict=True))
    dropping = rule(tmp_path, modules.DROPS_ALL)
    assert dropping.run(BATCH, 1.0).messages == [None] * 10
    assert dropping.figures()["dropped"] == 10
    assert dropping.figures()["state"] == "ready"


@pytest.mark.parametrize(
    "process", [modules.TRAPS, modules.LOOPS, modules.SPRAWLS, modules.ELSEWHERE, modules.GROWS]
)
@pytest.mark.parametrize(
    ("stage", "on_error", "kept"),
    [
        (INGRESS, "pass", True),
        (INGRESS, "drop", False),
        (STORE, "pass", True),
        (EGRESS, "drop", False),
        (EGRESS, "pass", False),
    ],
)
def test_failure(tmp_path: Path, process: str, stage: int, on_error: str, kept: bool) -> None:
    failing = rule(tmp_path, process, stage, on_error)
    assert failing.run(BATCH, 1.0).messages == (BATCH if kept else [None] * 10)
    assert failing.figures()["failed"] == 10
    assert failing.figures()["last_error"]


def test_one_poisonous_message_does_not_take_the_others_along(tmp_path: Path) -> None:
    found = rule(tmp_path, modules.TRAPS_ON_BANG)
    batch = [*BATCH[:3], Fields(b"t", b"!"), *BATCH[3:]]
    assert found.run(batch, 1.0).messages == [*BATCH[:3], None, *BATCH[3:]]
    assert found.figures()["failed"] == 1
    assert found.figures()["passed"] == 10
    assert found.run(BATCH, 1.0).messages == BATCH


def test_module_is_loaded_again_without_a_message(tmp_path: Path) -> None:
    found = rule(tmp_path, modules.TRAPS_ON_BANG)
    found.run([Fields(b"t", b"!")], 1.0)
    assert found.figures()["state"] == "failing"
    assert found.ticks
    found.tick(2.0)
    assert found.figures()["state"] == "ready"
    assert not found.ticks, "it is loaded, and does not want to be told the time"


def test_ticks_do_not_forgive_what_keeps_failing(tmp_path: Path) -> None:
    failing = rule(tmp_path, modules.TRAPS)
    for _ in range(5):
        failing.run(BATCH[:1], 1.0)
        failing.tick(2.0)
    assert failing.figures()["state"] == "open"


def test_breaker_stops_what_keeps_failing(tmp_path: Path) -> None:
    failing = rule(tmp_path, modules.TRAPS)
    for _ in range(10):
        failing.run(BATCH[:1], 1.0)
    runs = failing.figures()["runs"]
    assert failing.figures()["state"] == "open"
    for _ in range(10):
        failing.run(BATCH[:1], 1.0)
    assert failing.figures()["runs"] == runs
    assert failing.figures()["failed"] == 20


def test_missing_module_is_told_once_and_found_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "late.wasm"
    late = Rule(Entry("late", EGRESS, str(path), ("#",)))
    for _ in range(3):
        assert late.run(BATCH, 1.0).messages == [None] * 10
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert "rule late fails, its messages are dropped: " in told[0].message
    assert "No such file" in told[0].message
    path.write_bytes(modules.module(modules.PASSES))
    monkeypatch.setattr(late, "_loading", Breaker())
    assert late.run(BATCH, 1.0).messages == BATCH
    assert late.figures()["state"] == "ready"


def test_refused_configuration_fails_closed(tmp_path: Path) -> None:
    refused = Rule(Entry("mask", EGRESS, "rules", ("#",), {"steps": [{"path": "a", "action": "foo"}]}))
    assert refused.run(BATCH, 1.0).messages == [None] * 10
    assert refused.figures()["last_error"].startswith('steps[0].action: "foo" is not one of')


def test_effects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One effect of each kind, built in memory by data segments."""
    data = modules.result(
        1,
        [
            (frame.EMIT, frame.NO_MESSAGE, b"x/y", b"news", 1 | 4),
            (frame.STORE, frame.NO_MESSAGE, b"x/y", b"news", 0),
            (frame.STATE_PUT, frame.NO_MESSAGE, b"x/y", b"news", 0),
            (frame.METRIC, frame.NO_MESSAGE, b"x/y", b"", 0x4000000000000000),
            (frame.LOG, frame.NO_MESSAGE, b"info", b"news", 0),
            (frame.ALERT, frame.NO_MESSAGE, b"x/y", b"news", 0),
        ],
    )
    code = modules.module(f"(i64.const {8192 << 32 | len(data)})", modules.HEADER + modules.data(8192, data))
    path = tmp_path / "effects.wasm"
    path.write_bytes(code)
    found = Rule(Entry("effects", INGRESS, str(path), ("#",)))
    outcome = found.run(BATCH[:1], 1.0)
    assert outcome.messages == BATCH[:1]
    assert outcome.emitted == [Fields(b"x/y", b"news", b"", b"", 1, True)]
    assert outcome.stored == [Fields(b"x/y", b"news")]
    assert found.figures()["metrics"] == {"x/y": 2.0}
    assert found.figures()["alerts"] == 1
    assert found.state.get(b"x/y", time.monotonic()) == b"news"
    assert "rule effects: alert x/y: news" in caplog.text


def test_what_devices_say_stays_on_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    alert = {"action": "alert", "name": "hot", "text": "{path:t} degrees"}
    found = Rule(Entry("forged", INGRESS, "rules", ("#",), {"steps": [alert]}))
    forged = json.dumps({"t": "9\n2026-01-01 ERROR geomq: all is lost\x1b[2J\u2028\u00fc"})
    found.run([Fields(b"a", forged.encode())], 1.0)
    told = "alert hot: 9\\n2026-01-01 ERROR geomq: all is lost\\x1b[2J\\u2028\u00fc degrees"
    assert [record.message for record in caplog.records] == [f"rule forged: {told}"]


def test_tick_has_effects_without_messages(tmp_path: Path) -> None:
    path = tmp_path / "ticks.wasm"
    path.write_bytes(modules.ticking(modules.result(0, [(frame.EMIT, frame.NO_MESSAGE, b"w", b"1", 0)])))
    found = Rule(Entry("ticks", INGRESS, str(path), ("#",)))
    assert found.ticks
    assert found.tick(1.0).emitted == [Fields(b"w", b"1")]
    assert found.run(BATCH, 1.0).messages == BATCH
    assert not rule(tmp_path, modules.PASSES).ticks


def test_tick_is_told_the_wall_clock(tmp_path: Path) -> None:
    path = tmp_path / "clock.wasm"
    tick = """(func (export "geomq_tick") (param $now i64) (result i64)
      (if (i64.ne (local.get $now) (i64.const 1700000000500000000)) (then unreachable)) (i64.const 0))"""
    path.write_bytes(modules.module(modules.PASSES, modules.HEADER + tick))
    found = Rule(Entry("clock", INGRESS, str(path), ("#",)))
    found.tick(1700000000.5)
    assert found.figures()["traps"] == 0
    found.tick(1700000001.5)
    assert found.figures()["traps"] == 1
    assert found.last_error == "geomq_tick: trapped"
    assert found.run(BATCH, 1.0).messages == BATCH


@pytest.mark.parametrize("many", [3, 4])
def test_emits_are_bounded(tmp_path: Path, many: int) -> None:
    data = modules.result(1, [(frame.EMIT, 0, b"t", b"x", 0)] * many)
    path = tmp_path / "emits.wasm"
    path.write_bytes(
        modules.module(f"(i64.const {8192 << 32 | len(data)})", modules.HEADER + modules.data(8192, data))
    )
    found = Rule(Entry("emits", INGRESS, str(path), ("#",), limits=Limits(emits=3)))
    outcome = found.run(BATCH[:1], 1.0)
    assert len(outcome.emitted) == (many if many <= 3 else 0)
    assert found.figures()["failed"] == (many > 3)
    if many > 3:
        assert found.last_error == "a result with 4 messages more, 3 are allowed"


WORDS = "fields of more than 10000 bytes in all"


@pytest.mark.parametrize(("output", "emitted", "error"), [(100_000, 50, ""), (10_000, 0, WORDS)])
def test_fields_together_are_bounded_as_results_are(
    tmp_path: Path, output: int, emitted: int, error: str
) -> None:
    """Some 80,000 bytes of payloads, from a result of less than two thousand."""
    process, header = modules.sharing(50)
    found = rule(tmp_path, process, limits=Limits(output_bytes=output), header=header)
    assert len(found.run(BATCH[:1], 1.0).emitted) == emitted
    assert found.last_error == error


@pytest.mark.parametrize(("output", "error"), [(240, ""), (200, "fields of more than 200 bytes in all")])
def test_payloads_together_are_bounded_as_results_are(tmp_path: Path, output: int, error: str) -> None:
    """Two messages in one piece, each to be the whole result, which has 120 bytes."""
    changes = b"".join(struct.pack("<8IBB6x", number, 2, 0, 0, 0, 120, 0, 0, 0, 0) for number in range(2))
    data = struct.pack("<8I", frame.RESULT_MAGIC, 2, 32, 2, 40, 0, 0, 0) + b"\2\2".ljust(8, b"\0") + changes
    header = modules.HEADER + modules.data(8192, data)
    found = rule(
        tmp_path, f"(i64.const {8192 << 32 | 120})", limits=Limits(output_bytes=output), header=header
    )
    assert found.run_whole(Whole(b"t", b"ab", 2, 1, 0, b"", b""), 1.0) == (None if error else [data, data])
    assert found.last_error == error


def test_names_of_metrics_are_cut(tmp_path: Path) -> None:
    process, header = modules.saying(1, frame.METRIC, b"m" * 200, b"")
    found = rule(tmp_path, process, header=header)
    found.run(BATCH[:1], 1.0)
    assert found.metrics == {"m" * 100: 0.0}


def test_what_a_message_may_add_is_not_too_much_in_a_large_batch() -> None:
    steps = [{"action": "emit", "topic": f"{{topic}}/{number}"} for number in range(5)]
    found = Rule(
        Entry("copies", INGRESS, "rules", ("#",), {"steps": steps}, limits=Limits(deadline_ms=60_000))
    )
    found.run(BATCH, 1.0)
    batch = [Fields(b"t%d" % number, b"{}") for number in range(2000)]
    assert len(found.run(batch, 1.0).emitted) == 10_000
    assert found.counts["runs"] == 2
    assert (found.counts["traps"], found.counts["failed"]) == (0, 0)
    found.close()


@given(emits=st.integers(0, 2000), count=st.integers(0, 5000), each=st.integers(0, 20))
def test_bound_of_a_batch(emits: int, count: int, each: int) -> None:
    allowed = Limits(emits=emits).most_emits(count)
    if each <= min(emits, 16):
        assert each * count <= allowed
    assert emits <= allowed <= emits + 16 * count
    assert emits or not allowed


def test_topic_that_is_none_is_shown_here_and_not_in_figures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Other nodes ask for the figures, and the topic may be made of a payload."""
    data = modules.result(1, [(frame.EMIT, 0, b"of/Ana/#", b"x", 0)])
    path = tmp_path / "emits.wasm"
    path.write_bytes(
        modules.module(f"(i64.const {8192 << 32 | len(data)})", modules.HEADER + modules.data(8192, data))
    )
    found = Rule(Entry("emits", INGRESS, str(path), ("#",)))
    (failed,) = found.run(BATCH[:1], 1.0).failed
    assert failed == (0, BATCH[0], ("a topic that is none: 'of/Ana/#'", "a topic that is none"))
    assert "a topic that is none: 'of/Ana/#'" in caplog.text
    assert found.figures()["last_error"] == "a topic that is none"


def test_figures_count_what_a_module_takes(tmp_path: Path) -> None:
    found = rule(tmp_path, modules.PASSES)
    found.run(BATCH, 1.0)
    figures = found.figures()
    assert figures["fuel"] > 0
    assert figures["microseconds_per_message"] > 0
    assert (figures["messages"], figures["passed"], figures["traps"]) == (10, 10, 0)


def test_sporadic_poison_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = rule(tmp_path, modules.TRAPS_ON_BANG)
    for _ in range(3):
        found.run([Fields(b"t", b"!"), *BATCH], 1.0)
    assert len([record for record in caplog.records if record.name == "geomq.plugins"]) == 1


def test_thread_that_did_not_run_is_no_fault_of_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran past its deadline on the wall, but not by the processor's time: it gets another try, one."""
    process = Instance.process
    for often, messages in ((1, BATCH), (1000, [None] * 10)):
        found = rule(tmp_path, modules.PASSES)
        calls = 0

        def late(self: Instance, data: bytes, count: int, often: int = often) -> bytes | None:
            nonlocal calls
            calls += 1
            if calls <= often:
                raise Overdue("ran past its deadline")
            return process(self, data, count)

        with monkeypatch.context() as patched:
            patched.setattr(Instance, "process", late)
            assert found.run(BATCH, 1.0).messages == messages
        assert found.figures()["failed"] == (0 if often == 1 else 10)


def test_many_messages_are_handed_over_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of a slow module must not run into its deadline only because it is large."""
    process = Instance.process
    parts: list[float] = []

    def measured(self: Instance, data: bytes, count: int) -> bytes | None:
        began = time.thread_time()
        try:
            return process(self, data, count)
        finally:
            parts.append(time.thread_time() - began)

    many = [Fields(b"t", b"%d" % number) for number in range(5000)]
    # A busy machine may take so long that no deadline is kept: only the parts know of this one.
    limits = Limits(fuel_base=10**12, deadline_ms=60_000)
    found = rule(tmp_path, SLOW, limits=limits)
    found.run(BATCH, 1.0)
    found.entry = replace(found.entry, limits=replace(limits, deadline_ms=800))
    monkeypatch.setattr(Instance, "process", measured)
    for _ in range(2):
        parts.clear()
        assert found.run(many, 1.0).messages == many
        assert sum(parts) > 0.8, "as a whole they would"
        assert max(parts) < 0.4


def test_breaker() -> None:
    breaker = Breaker(threshold=2, first=1.0, longest=4.0)
    breaker.failed(0.0)
    assert breaker.allows(0.0)
    for pause, now in ((1.0, 0.0), (2.0, 10.0), (4.0, 20.0), (4.0, 30.0)):
        breaker.failed(now)
        assert breaker.opened
        assert not breaker.allows(now + pause - 0.1)
        assert breaker.allows(now + pause)
    breaker.succeeded()
    assert breaker.allows(30.0)
    assert not breaker.opened


def test_state_is_bounded_and_forgets() -> None:
    state = State(max_keys=2, max_bytes=100)
    state.put(b"a", b"1", 0, 0.0)
    state.put(b"b", b"2", 1000, 0.0)
    assert state.get(b"b", 0.5) == b"2"
    assert state.get(b"b", 1.0) is None
    state.put(b"b", b"2", 0, 0.0)
    state.put(b"c", b"3", 0, 0.0)
    assert state.get(b"a", 0.0) is None
    state.put(b"d", bytes(98), 0, 0.0)
    assert (len(state), state.bytes) == (1, 99)
    state.put(b"e", bytes(101), 0, 0.0)
    assert (len(state), state.bytes) == (0, 0)


def test_state_collects_what_changed() -> None:
    state = State(max_keys=2)
    state.put(b"a", b"1", 0, 0.0)
    state.put(b"b", b"2", 1000, 0.0)
    changes = state.collect(0.5)
    assert changes == [StateChange(b"a", b"1", 0.0), StateChange(b"b", b"2", 1.0)]
    assert state.collect(0.5) == []
    state.give_back(changes)
    assert state.collect(0.5) == changes
    state.put(b"c", b"3", 0, 0.5)
    assert state.collect(1.0) == [
        StateChange(b"c", b"3", 0.0),
        StateChange(b"a", None, 0.0),
        StateChange(b"b", None, 0.0),
    ]


def test_a_tick_that_keeps_failing_opens_the_breaker(tmp_path: Path) -> None:
    path = tmp_path / "trap.wasm"
    trap = '(func (export "geomq_tick") (param i64) (result i64) unreachable)'
    path.write_bytes(modules.module(modules.PASSES, modules.HEADER + trap))
    found = Rule(Entry("trap", INGRESS, str(path), ("#",)))
    try:
        for _ in range(5):
            assert found.figures()["breaker"] == "closed"
            found.tick(2.0)
        assert found.figures()["breaker"] == "open"
        assert "geomq_tick" in found.last_error
    finally:
        found.close()
