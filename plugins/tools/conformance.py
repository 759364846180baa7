"""Does a module keep to the interface (docs/plugins.md)? One check after the other, each on instances of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from plugins.host import frame
from plugins.host.engine import ABI, Anatomy, Instance, Program, anatomy
from plugins.host.frame import Fields, FrameError, decode_result
from plugins.host.limits import Limits
from plugins.host.reasons import ModuleRefused, PluginError, Trap
from plugins.host.state import State
from plugins.tools.frames import (
    NOW_NS,
    batch,
    request,
    with_more_fields,
    with_table_last,
    with_unknown_flags,
)

EXPORTS = {
    "memory": ("memory",),
    "geomq_abi": ("i32", "() -> i32"),
    "geomq_alloc": ("(i32) -> i32",),
    "geomq_init": ("(i32 i32) -> i32",),
    "geomq_process": ("(i32 i32) -> i64",),
}
"""The exports that a module has to have, and the types that they may be of."""
OPTIONAL = {"geomq_tick": ("(i64) -> i64",), "geomq_emits": ("(i32) -> ()",)}
IMPORTS = {"geomq.state_get": "(i32 i32 i32 i32) -> i32"}

WRONG_CONFIGS = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe{",
    b'{"nonsense": [{"a": 1}]}',
    b'{"a":' * 2000,
    b'{"x": "' + b"y" * 65536 + b'"}',
    b'{"x": "\\',
)
_GENEROUS_MS = 2000
"""A check says whether a module is right, not whether this machine is quick."""
_ALLOCATIONS = (0, 1, 7, 8, 1000, 65_536, 1 << 20)
_ROUNDS = 400
_HUGE = 0x7FFF_0000


class Check(NamedTuple):
    """What was looked at, and what is wrong with it; an empty ``problem`` where nothing is.

    ``note`` says what its author may want to know, though nothing is wrong with it.
    """

    name: str
    problem: str
    note: str = ""


class _Broken(Exception):
    """What is wrong."""


def conformance(code: bytes, config: bytes, limits: Limits) -> Iterator[Check]:
    """Check a module with the configuration that it is to have. Ends where a failure makes the rest meaningless."""
    try:
        parts = anatomy(code)
    except ModuleRefused as error:
        yield Check("is a WebAssembly module", str(error))
        return
    yield Check("is a WebAssembly module", "")
    shape = [_imports(parts), *_exports(parts)]
    yield from shape
    if any(check.problem for check in shape):
        return
    module = _Module(code, config, limits)
    for name, check in (
        (f"starts, for version {ABI} of the interface", module.starts),
        ("takes its configuration", module.takes_configuration),
    ):
        found = _checked(name, check)
        yield found
        if found.problem:
            return
    for name, check in module.checks("geomq_tick" in dict(parts.exports)):
        yield _checked(name, check)
    yield module.answers()


def _checked(name: str, check: Callable[[], None]) -> Check:
    try:
        check()
    except (_Broken, PluginError, FrameError) as error:
        return Check(name, str(error))
    return Check(name, "")


def _imports(parts: Anatomy) -> Check:
    wrong = [f"{name} {kind}" for name, kind in parts.imports if IMPORTS.get(name) != kind]
    return Check("imports nothing but geomq.state_get", ", ".join(wrong))


def _exports(parts: Anatomy) -> Iterator[Check]:
    found = dict(parts.exports)
    for name, allowed in (EXPORTS | OPTIONAL).items():
        if name not in found:
            if name in EXPORTS:
                yield Check(f"exports {name}", "it is missing")
            continue
        wrong = found[name] not in allowed
        yield Check(
            f"exports {name}", f"as {found[name]}; it has to be {' or '.join(allowed)}" if wrong else ""
        )


class _Module:
    """A module under examination."""

    def __init__(self, code: bytes, config: bytes, limits: Limits) -> None:
        self._program = Program(code)
        self._config = config
        self._limits = replace(limits, deadline_ms=_GENEROUS_MS)

    def checks(self, ticks: bool) -> Iterator[tuple[str, Callable[[], None]]]:
        """(what is checked, how) once the module takes its configuration."""
        yield "geomq_alloc: 8-byte aligned", self.allocates
        yield "geomq_alloc: uses room again", self.allocates_again
        yield "geomq_alloc: no room is told, by 0 or a trap", self.refuses_too_much
        yield "a batch without messages", lambda: self.works_on(0)
        for count in (1, 64, 512):
            yield f"a batch of {count}", lambda count=count: self.works_on(count)  # type: ignore[misc]
        yield "a message of 256 KiB", self.works_on_a_large_message
        yield "batches one after the other, in bounded memory", self.goes_on
        yield "the same result for the same batch", lambda: self.same_for(lambda data: data)
        yield "fields that later versions append are passed over", lambda: self.same_for(with_more_fields)
        yield "entries behind what they point to", lambda: self.same_for(with_table_last)
        yield "flags that later versions set are passed over", lambda: self.same_for(with_unknown_flags)
        yield "an unknown stage", lambda: self.works_on(3, stage=64)
        yield "wrong configurations are refused in words, or taken", self.refuses_in_words
        if ticks:
            yield "geomq_tick: effects only", self.ticks

    # -- one check each; PluginError, FrameError or _Broken says what is wrong ---------------------------

    def starts(self) -> None:
        Instance(self._program, None, self._limits, lambda key: None).close()

    def takes_configuration(self) -> None:
        with self._instance():
            pass

    def allocates(self) -> None:
        with self._instance() as instance:
            for size in _ALLOCATIONS:
                address = instance.allocate(size)
                if address == 0:
                    raise _Broken(f"no room for {size} bytes")
                if address % 8:
                    raise _Broken(f"{size} bytes at {address}, which is not a multiple of 8")
                self._check_inside(address, size)

    def allocates_again(self) -> None:
        size = 65_536
        with self._instance() as instance:
            for number in range(2 * self._limits.memory_bytes // size):
                address = instance.allocate(size)
                if address == 0:
                    raise _Broken(f"no room for {size} bytes after {number} calls that handed out as much")
                self._check_inside(address, size)

    def _check_inside(self, address: int, size: int) -> None:
        if address + size > self._limits.memory_bytes:
            raise _Broken(f"{size} bytes at {address}, outside of any memory that it may have")

    def refuses_too_much(self) -> None:
        with self._instance() as instance:
            try:
                address = instance.allocate(_HUGE)
            except Trap:
                return
            if address:
                raise _Broken(f"{_HUGE} bytes at {address}: the memory has {self._limits.memory_bytes}")

    def works_on(self, count: int, stage: int = 1) -> None:
        messages = batch(count)
        with self._instance() as instance:
            _process(instance, request(messages, stage=stage), messages)

    def works_on_a_large_message(self) -> None:
        messages = [Fields(b"a", b'{"text":"' + b"x" * (256 << 10) + b'"}')]
        with self._instance() as instance:
            _process(instance, request(messages), messages)

    def goes_on(self) -> None:
        messages = batch(64)
        with self._instance() as instance:
            for number in range(_ROUNDS):
                data = request(messages, number, now_ns=NOW_NS + number * 10**9)
                try:
                    _process(instance, data, messages)
                except (PluginError, FrameError) as error:
                    raise _Broken(f"batch {number + 1} of {_ROUNDS}: {error}") from None

    def same_for(self, change: Callable[[bytes], bytes]) -> None:
        messages = batch(24)
        data = request(messages)
        with self._instance() as first, self._instance() as second:
            if _process(first, data, messages) != _process(second, change(data), messages):
                raise _Broken("the results of two new instances differ")

    def refuses_in_words(self) -> None:
        for config in WRONG_CONFIGS:
            shown = f"{config[:40]!r}{'...' if len(config) > 40 else ''}"
            try:
                Instance(self._program, config, self._limits, lambda key: None).close()
            except ModuleRefused as error:
                text = str(error)
                if text.startswith("geomq_init failed"):
                    raise _Broken(f"{shown}: {text}") from None
                if not text.strip() or not text.isprintable():
                    raise _Broken(f"{shown}: refused with the text {text!r}") from None

    def ticks(self) -> None:
        messages = batch(24)
        with self._instance() as instance:
            _tick(instance, NOW_NS)
            _process(instance, request(messages), messages)
            for seconds in (1, 2, 100_000):
                _tick(instance, NOW_NS + seconds * 10**9)
            _process(instance, request(messages), messages)

    def answers(self) -> Check:
        """Whether messages that are told again count as published once more: a module need not know of that flag."""
        name = "answers for other nodes"
        messages = batch(24)
        data = request(messages)
        try:
            with self._instance() as asked, self._instance() as fresh:
                _process(asked, request(messages, flags=frame.ANSWER), messages)
                leaves_a_trace = _process(asked, data, messages) != _process(fresh, data, messages)
        except (PluginError, FrameError) as error:
            return Check(name, str(error))
        note = "it remembers them as messages that are published" if leaves_a_trace else ""
        return Check(name, "", note)

    @contextmanager
    def _instance(self) -> Iterator[Instance]:
        """A new instance, with nothing remembered yet."""
        state = State()
        instance = Instance(self._program, self._config, self._limits, lambda key: state.get(key, 0.0))
        try:
            yield instance
        finally:
            instance.close()


def _process(instance: Instance, data: bytes, messages: Sequence[Fields]) -> frame.Result:
    """What comes of a batch; nothing at all is the same as a result in which every message passes."""
    found = instance.process(data, len(messages))
    if found is None:
        return frame.Result(bytes(len(messages)), {}, [])
    return decode_result(found, messages)


def _tick(instance: Instance, now_ns: int) -> None:
    found = instance.tick(now_ns)
    if found is not None:
        try:
            decode_result(found, ())
        except FrameError as error:
            raise Trap(str(error)) from None
