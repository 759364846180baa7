"""Modules within their limits: real wasm."""

from __future__ import annotations

import ctypes
import random
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from plugins.host import engine
from plugins.host.copying import copied
from plugins.host.engine import Instance, Program, wat2wasm
from plugins.host.frame import LONGEST_KEY, Fields, encode_request
from plugins.host.limits import Limits
from plugins.host.loading import read_module
from plugins.host.reasons import ModuleMissing, ModuleRefused, Trap
from tests.plugins import modules

FRAME = encode_request([Fields(b"t", b"payload")], 1, 1, 1)


def instance(process: str, limits: Limits | None = None, header: str = modules.HEADER) -> Instance:
    return Instance(
        modules.module(process, header), b"{}", limits or Limits(deadline_ms=5000), lambda key: None
    )


def test_the_binding_has_the_shape_that_fast_calls_need() -> None:
    assert engine.has_fast_calls()


@pytest.mark.parametrize("fast", [True, False])
def test_calls(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(engine, "has_fast_calls", lambda: fast)
    passing = instance(modules.PASSES)
    assert passing.process(FRAME, 1) is None
    passing.close()
    dropping = instance(modules.DROPS_ALL)
    answer = dropping.process(FRAME, 1)
    assert answer is not None
    assert answer[-1] == 1
    dropping.close()
    trapping = instance(modules.TRAPS)
    with pytest.raises(Trap, match="trapped"):
        trapping.process(FRAME, 1)
    trapping.close()


@pytest.mark.parametrize(
    ("process", "limits", "words"),
    [
        (modules.TRAPS, Limits(), "trapped"),
        (modules.LOOPS, Limits(deadline_ms=10_000), "used up its fuel"),
        (modules.LOOPS, Limits(fuel_base=10**15, deadline_ms=20), "ran past its deadline"),
        (modules.SPRAWLS, Limits(), "a result of 4294967295 bytes"),
        (modules.ELSEWHERE, Limits(), "an address outside the memory"),
        (modules.GROWS, Limits(), "trapped"),
        (modules.RECURSES, Limits(fuel_base=10**12, deadline_ms=5000), "overflowed its stack"),
    ],
    ids=["trap", "fuel", "deadline", "output", "address", "memory", "stack"],
)
def test_limits_hold(process: str, limits: Limits, words: str) -> None:
    found = instance(process, limits)
    with pytest.raises(Trap, match=words):
        found.process(FRAME, 1)
    found.close()


TOLD = modules.HEADER.replace(
    "(param i32 i32) (result i32) (i32.const 0)", "(param i32 i32) (result i32) (i32.load (i32.const 512))"
)
"""Refuses its configuration with the text whose address it has been told as the number of emits."""


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("emits", "words"), [(600, "told"), (2**40, "unknown")])
def test_module_is_told_how_much_it_may_emit(
    monkeypatch: pytest.MonkeyPatch, fast: bool, emits: int, words: str
) -> None:
    monkeypatch.setattr(engine, "has_fast_calls", lambda: fast)
    header = (
        TOLD
        + '(func (export "geomq_emits") (param i32) (i32.store (i32.const 512) (local.get 0)))'
        + modules.data(600, b"told\0")
    )
    with pytest.raises(ModuleRefused, match=words):
        instance(modules.PASSES, Limits(emits=emits), header)
    instance(modules.PASSES, Limits(emits=0), header).close()


def test_limits_hold_for_what_a_module_does_when_it_is_told() -> None:
    loops = modules.HEADER + '(func (export "geomq_emits") (param i32) (loop $again (br $again)))'
    with pytest.raises(ModuleRefused, match="geomq_emits failed: "):
        instance(modules.PASSES, header=loops)
    with pytest.raises(ModuleRefused, match="geomq_emits does not have the type"):
        instance(modules.PASSES, header=modules.HEADER + '(func (export "geomq_emits"))')


@pytest.mark.parametrize("length", [0, 1, 65_535, 65_536, 3_000_000])
def test_results_of_any_length_are_copied(length: int) -> None:
    source = random.Random(length).randbytes(length)
    room = ctypes.create_string_buffer(source, max(1, length))
    found = copied(ctypes.addressof(room), length)
    assert found == source
    assert len(found) == length
    ctypes.memset(room, 0, length)
    assert found == source
    assert hash(found) == hash(source)


def test_others_run_while_a_large_result_is_copied() -> None:
    """Nobody is made to let go of the interpreter meanwhile: who goes on has got it from the copying thread."""
    room = ctypes.create_string_buffer(32 << 20)
    turns = 0
    ends = threading.Event()

    def take_turns() -> None:
        nonlocal turns
        while not ends.is_set():
            turns += 1
            time.sleep(0)

    def go_on_while_copying() -> bool:
        before = turns
        copied(ctypes.addressof(room), len(room))
        return turns > before

    usual = sys.getswitchinterval()
    other = threading.Thread(target=take_turns)
    sys.setswitchinterval(30)
    other.start()
    try:
        assert any(go_on_while_copying() for _ in range(50))
    finally:
        ends.set()
        sys.setswitchinterval(usual)
        other.join()


def runs() -> None:
    found = instance(modules.LOOPS, Limits(fuel_base=10**15, deadline_ms=300))
    with pytest.raises(Trap, match="ran past its deadline"):
        found.process(FRAME, 1)
    found.close()


def starts() -> None:
    with pytest.raises(ModuleRefused, match="cannot be instantiated"):
        instance(modules.PASSES, header=modules.STARTS_LOOPING)


def compiles() -> None:
    body = "(i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.load (local.get 0)))"
    for _ in range(4):
        body = f"(if (result i32) {body} (then {body}) (else {body}))"
    functions = "".join(f"(func (param i32) (result i32) {body})" for _ in range(400))
    Program(wat2wasm(f"(module (memory 1) {functions})"))


@pytest.mark.parametrize("work", [runs, starts, compiles])
def test_other_threads_go_on_meanwhile(work: Callable[[], None]) -> None:
    """The interpreter is let go of while the engine is at work: the event loop is one of these others."""
    took: list[float] = []

    def measured() -> None:
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)

    thread = threading.Thread(target=measured)
    thread.start()
    steps = [time.perf_counter()]
    while thread.is_alive():
        time.sleep(0.001)
        steps.append(time.perf_counter())
    assert took[0] > 0.02
    # A few long ones may be the machine's.
    gaps = sorted(after - before for before, after in pairwise(steps))
    assert gaps[-1] < took[0] / 2
    assert len(gaps) > 10


def test_large_frame_needs_room() -> None:
    found = instance(modules.PASSES)
    with pytest.raises(Trap, match="outside the memory"):
        found.process(encode_request([Fields(b"t", bytes(1 << 20))], 1, 1, 1), 1)
    found.close()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", "the export memory is missing"),
        (
            modules.HEADER.replace("i32.const 1)", "i32.const 2)"),
            "made for version 2 of the interface, not 1",
        ),
        (modules.HEADER.replace("geomq_abi", "other"), "geomq_abi is missing"),
        (modules.HEADER.replace("geomq_init", "other"), "the export geomq_init is missing"),
        (
            modules.HEADER.replace(
                "(param i32 i32) (result i32) (i32.const 0)", "(result i32) (i32.const 0)"
            ),
            "geomq_init does not have the type",
        ),
        (
            modules.HEADER.replace(
                "(result i32) (i32.const 0))", '(result i32) (i32.const 16))(data (i32.const 16) "no\\00")'
            ),
            "^no$",
        ),
        (
            modules.HEADER.replace("(result i32) (i32.const 0))", "(result i32) unreachable)"),
            "geomq_init failed: trapped",
        ),
        (
            '(import "env" "now" (func (result i64)))' + modules.HEADER,
            "imports env.now, which is not offered",
        ),
        (modules.HEADER.replace('"memory") 2', '"memory") 2000'), "cannot be instantiated"),
        (
            modules.HEADER + "(func $s (loop $l (br $l))) (start $s)",
            "cannot be instantiated: used up its fuel",
        ),
    ],
)
def test_modules_that_do_not_fit_are_refused(header: str, words: str) -> None:
    with pytest.raises(ModuleRefused, match=words):
        instance(modules.PASSES, header=header)


def test_version_may_be_told_by_a_function() -> None:
    header = modules.HEADER.replace(
        '(global (export "geomq_abi") i32 (i32.const 1))',
        '(func (export "geomq_abi") (result i32) (i32.const 1))',
    )
    found = instance(modules.PASSES, header=header)
    assert found.process(FRAME, 1) is None
    found.close()


def test_not_a_module() -> None:
    with pytest.raises(ModuleRefused, match="not a wasm module"):
        Instance(b"\0asm", b"{}", Limits(), lambda key: None)


def test_missing_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ModuleMissing, match="No such file"):
        read_module(tmp_path / "none.wasm")


def test_no_wasm_on_this_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "UNAVAILABLE", "wasm cannot run on this machine: no library")
    with pytest.raises(ModuleMissing, match="wasm cannot run on this machine"):
        instance(modules.PASSES + "(drop (i32.const 7))")


STATE = """
  (import "geomq" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
"""


@pytest.mark.parametrize("fast", [True, False])
def test_state_is_read_through_the_only_import(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    monkeypatch.setattr(engine, "has_fast_calls", lambda: fast)
    code = wat2wasm(
        f"""(module {STATE} {modules.HEADER} (data (i32.const 16) "key")
        (func (export "geomq_process") (param i32 i32) (result i64)
          (if (i32.ne (call $get (i32.const 16) (i32.const 3) (i32.const 64) (i32.const 8)) (i32.const 5))
            (then unreachable))
          (if (i32.ne (i32.load8_u (i32.const 64)) (i32.const 118)) (then unreachable))
          (if (i32.ne (call $get (i32.const 16) (i32.const 2) (i32.const 64) (i32.const 8)) (i32.const -1))
            (then unreachable))
          (if (i32.ne (call $get (i32.const 2000000000) (i32.const 2) (i32.const 64) (i32.const 8)) (i32.const -1))
            (then unreachable))
          (if (i32.ne (call $get (i32.const 16) (i32.const 3) (i32.const -1) (i32.const 8)) (i32.const -1))
            (then unreachable))
          (if (i32.ne (call $get (i32.const 16) (i32.const 3) (i32.const 72) (i32.const 4)) (i32.const 5))
            (then unreachable))
          (if (i32.load8_u (i32.const 72)) (then unreachable))
          ;; The memory may move when it grows.
          (if (i32.ne (memory.grow (i32.const 100)) (i32.const 2)) (then unreachable))
          (if (i32.ne (call $get (i32.const 16) (i32.const 3) (i32.const 6600000) (i32.const 8)) (i32.const 5))
            (then unreachable))
          (if (i32.ne (i32.load8_u (i32.const 6600004)) (i32.const 101)) (then unreachable))
          (i64.const 0)))"""
    )
    found = Instance(code, b"", Limits(), {b"key": b"value"}.get)
    assert found.process(FRAME, 1) is None
    found.close()


def test_keys_longer_than_any_that_is_kept_are_not_looked_for() -> None:
    """Megabytes of them would be copied and hashed, while others wait for the interpreter."""
    asked: list[int] = []
    code = wat2wasm(
        f"""(module {STATE} {modules.HEADER} (func (export "geomq_process") (param i32 i32) (result i64)
          (if (i32.ne (call $get (i32.const 0) (i32.const 65535) (i32.const 0) (i32.const 0)) (i32.const 0))
            (then unreachable))
          (if (i32.ne (call $get (i32.const 0) (i32.const 65536) (i32.const 0) (i32.const 0)) (i32.const -1))
            (then unreachable))
          (i64.const 0)))"""
    )

    def state_get(key: bytes) -> bytes:
        asked.append(len(key))
        return b""

    found = Instance(code, b"", Limits(), state_get)
    assert found.process(FRAME, 1) is None
    assert asked == [LONGEST_KEY] == [65_535]
    found.close()
