"""Running WebAssembly modules within limits. The only file that imports wasmtime.

A call of the binding's public ``Func`` takes 22 us, because it looks up types and converts values each time; the
C function behind it takes 1.4 us with prepared arguments. So the calls of the data path use names that are private
to the package: the version is pinned, a test proves that the shape is as expected, and where it is not, the
public call is used. The same holds for ``state_get``, the call back: 14 us through the binding, 7 us behind it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import math
import platform
import threading
from collections import OrderedDict
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

from plugins.host.cache import CompiledCache
from plugins.host.copying import copied
from plugins.host.frame import LONGEST_KEY
from plugins.host.limits import Limits
from plugins.host.reasons import (
    ConfigRefused,
    ModuleMissing,
    ModuleRefused,
    Overdue,
    Trap,
    cause,
    explain,
)

try:
    import wasmtime
    from wasmtime import _ffi as ffi
except (ImportError, OSError, RuntimeError) as error:  # no library for this processor
    UNAVAILABLE: str = f"wasm cannot run on this machine: {error}"
    _VERSION = ""
else:
    UNAVAILABLE = ""
    _VERSION = f"{metadata.version('wasmtime')}-{platform.machine()}"

ABI = 1
EPOCH_SECONDS = 0.02
"""How often the clock that deadlines are counted by moves on."""
_REMEMBERED = 32
"""Compiled modules that are at hand, whether or not there are instances of them."""
INIT_FUEL = 200_000_000
_MAGIC = b"\0asm"
_MOST_TOLD = 0x7FFFFFFF
_INIT_TICKS = math.ceil(1.0 / EPOCH_SECONDS)

StateGet = Callable[[bytes], bytes | None]


class _Runtime:
    """The engine that all modules share, and the thread that moves its epoch while there are instances."""

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.consume_fuel = True
        config.epoch_interruption = True
        config.parallel_compilation = False
        config.wasm_threads = False
        self.engine = wasmtime.Engine(config)
        self._instances = 0
        self._lock = threading.Lock()
        self._compiling = threading.Lock()
        self._idle = threading.Event()
        self._programs: OrderedDict[str, Any] = OrderedDict()

    def compile(self, code: bytes, cache: CompiledCache | None) -> Any:
        """The compiled module; ModuleRefused where the bytes are none. Equal code is compiled once."""
        name = f"{hashlib.sha256(code).hexdigest()}-{_VERSION}"
        with self._compiling:
            program = self._programs.get(name)
            if program is None:
                program = self._programs[name] = self._compile(code, name, cache)
            self._programs.move_to_end(name)
            while len(self._programs) > _REMEMBERED:
                self._programs.popitem(last=False)
        return program

    def _compile(self, code: bytes, name: str, cache: CompiledCache | None) -> Any:
        saved = cache.load(name) if cache is not None else None
        if saved is not None:
            # It is of another machine, or settings, where this fails.
            with contextlib.suppress(wasmtime.WasmtimeError):
                return wasmtime.Module.deserialize(self.engine, saved)
        if not code.startswith(_MAGIC):
            # The engine would take it for the text format, and complain in its terms.
            what = "it does not begin as one" if code else "it is empty"
            raise ModuleRefused(f"not a wasm module: {what}")
        try:
            program = wasmtime.Module(self.engine, code)
        except wasmtime.WasmtimeError as error:
            raise ModuleRefused(f"not a wasm module: {cause(error)}") from None
        if cache is not None:
            cache.save(name, bytes(program.serialize()))
        return program

    def acquire(self) -> None:
        with self._lock:
            self._instances += 1
            if self._instances == 1:
                self._idle.clear()
                threading.Thread(target=self._tick, name="geomq-epoch", daemon=True).start()

    def release(self) -> None:
        with self._lock:
            self._instances -= 1
            if self._instances == 0:
                self._idle.set()

    def _tick(self) -> None:
        while not self._idle.wait(EPOCH_SECONDS):
            self.engine.increment_epoch()


_runtime: _Runtime | None = None


def _get_runtime() -> _Runtime:
    global _runtime  # noqa: PLW0603 - one engine for the process, made when the first module is loaded
    if UNAVAILABLE:
        raise ModuleMissing(UNAVAILABLE)
    if _runtime is None:
        _runtime = _Runtime()
    return _runtime


def wat2wasm(text: str) -> bytes:
    """The text format as a module; ModuleRefused where it is none."""
    _get_runtime()
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise ModuleRefused(f"not the text of a module: {str(error).strip()}") from None


class Anatomy(NamedTuple):
    """What a module brings along and wants, as text: (name, type)."""

    imports: list[tuple[str, str]]
    exports: list[tuple[str, str]]
    memory: tuple[int, int | None] | None
    """The least and the most that its exported memory may have, in bytes; None where it exports none."""


def anatomy(code: bytes) -> Anatomy:
    """What a module consists of, whether it is one of this interface or not; ModuleRefused where it is none at all."""
    compiled = _get_runtime().compile(code, None)
    exports = [(port.name, port.type) for port in compiled.exports]
    memories = [kind.limits for _, kind in exports if isinstance(kind, wasmtime.MemoryType)]
    return Anatomy(
        [(f"{port.module}.{port.name}", _type_name(port.type)) for port in compiled.imports],
        [(name, _type_name(kind)) for name, kind in exports],
        (memories[0].min << 16, None if memories[0].max is None else memories[0].max << 16)
        if memories
        else None,
    )


def _type_name(kind: Any) -> str:
    if isinstance(kind, wasmtime.FuncType):
        parameters, results = (" ".join(map(str, types)) for types in (kind.params, kind.results))
        return f"({parameters}) -> {results or '()'}"
    if isinstance(kind, wasmtime.GlobalType):
        return f"{'mutable ' if kind.mutable else ''}{kind.content}"
    return type(kind).__name__.removesuffix("Type").lower()


class Program:
    """A compiled module, from which instances are made. ModuleRefused where the code is none of this interface."""

    def __init__(self, code: bytes, cache: CompiledCache | None = None) -> None:
        self.compiled = _get_runtime().compile(code, cache)
        _check_imports(self.compiled)


class Instance:
    """A module (or its code) with its memory, ready to be called. After a Trap it must be closed and not called again.

    ``config`` is handed to the module as it is (JSON); with None the module is not begun, so only :meth:`allocate` may
    be called. ModuleRefused says what is wrong with either. Calls may come from any thread, one at a time.
    """

    def __init__(
        self, module: Program | bytes, config: bytes | None, limits: Limits, state_get: StateGet
    ) -> None:
        program = module if isinstance(module, Program) else Program(module)
        runtime = _get_runtime()
        self._limits = limits
        self._fuel = 0
        self._deadline_ticks = math.ceil(limits.deadline_ms / 1000 / EPOCH_SECONDS) + 1
        self._store = wasmtime.Store(runtime.engine)
        self._store.set_limits(
            memory_size=limits.memory_bytes, instances=1, memories=1, tables=10, table_elements=10_000
        )
        self._refuel(INIT_FUEL, _INIT_TICKS)
        self._runtime = runtime
        runtime.acquire()
        self._open = True
        try:
            self._instantiate(program.compiled, state_get)
            if config is not None:
                self._init(config)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the memory back."""
        if self._open:
            self._open = False
            self._runtime.release()
            self._store.close()

    def allocate(self, size: int) -> int:
        """Ask the module for room, as is done before each call; the address, 0 for none. Trap where that fails."""
        self._refuel(self._limits.fuel_base, self._deadline_ticks)
        return self._alloc(size) & 0xFFFFFFFF

    def process(self, frame: bytes, count: int) -> bytes | None:
        """Hand a request frame over; the result frame, None for "all pass". Trap where the call fails."""
        limits = self._limits
        self._refuel(limits.fuel_base + count * limits.fuel_per_message, self._deadline_ticks)
        address = self._alloc(len(frame)) & 0xFFFFFFFF
        self._write(address, frame)
        return self._result(self._process(address, len(frame)))

    @property
    def ticks(self) -> bool:
        """Whether the module wants to be called about once a second."""
        return self._tick is not None

    def tick(self, now_ns: int) -> bytes | None:
        """Tell the module the time; a result frame that has only effects, None for none. Trap where that fails."""
        assert self._tick is not None
        self._refuel(self._limits.fuel_base, self._deadline_ticks)
        return self._result(self._tick(now_ns))

    def fuel_used(self) -> int:
        """What the last call took."""
        return self._fuel - int(self._store.get_fuel())

    def _result(self, packed: int) -> bytes | None:
        packed &= 0xFFFFFFFFFFFFFFFF
        if packed == 0:
            return None
        length = packed & 0xFFFFFFFF
        if length > self._limits.output_bytes:
            raise Trap(f"a result of {length} bytes, {self._limits.output_bytes} are allowed")
        return self._read(packed >> 32, length)

    # -- setting up --------------------------------------------------------------------------------------

    def _refuel(self, fuel: int, ticks: int) -> None:
        self._fuel = fuel
        self._store.set_fuel(fuel)
        self._store.set_epoch_deadline(ticks)

    def _instantiate(self, program: Any, state_get: StateGet) -> None:
        linker = wasmtime.Linker(self._runtime.engine)
        if list(program.imports):
            self._offered = _offer_state(linker, _state_getter(state_get))
        try:
            instance = linker.instantiate(self._store, program)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            raise ModuleRefused(f"cannot be instantiated: {explain(error)}") from None
        exports = instance.exports(self._store)
        memory = _export(exports, "memory", wasmtime.Memory)
        _check_abi(self._store, exports)
        self._memory = memory
        self._memory_at = self._memory_size = 0
        self._alloc = self._function(exports, "geomq_alloc", ["i32"], "i32")
        self._call_init = self._function(exports, "geomq_init", ["i32", "i32"], "i32")
        self._process = self._function(exports, "geomq_process", ["i32", "i32"], "i64")
        self._tick = self._tell_emits = None
        if "geomq_tick" in exports:
            self._tick = self._function(exports, "geomq_tick", ["i64"], "i64")
        if "geomq_emits" in exports:
            self._tell_emits = self._function(exports, "geomq_emits", ["i32"], "")

    def _function(self, exports: Any, name: str, parameters: list[str], result: str) -> Callable[..., int]:
        function = _export(exports, name, wasmtime.Func)
        _check_type(name, function.type(self._store), parameters, result)
        return _caller(self._store, function, parameters, result)

    def _init(self, config: bytes) -> None:
        name = "geomq_emits"
        try:
            if self._tell_emits is not None:
                self._tell_emits(min(self._limits.emits, _MOST_TOLD))
            name = "geomq_init"
            address = self._alloc(len(config)) & 0xFFFFFFFF
            self._write(address, config)
            problem = self._call_init(address, len(config)) & 0xFFFFFFFF
        except Trap as error:
            raise ModuleRefused(f"{name} failed: {error}") from None
        if problem:
            raise ConfigRefused(self._text_at(problem))

    # -- memory ------------------------------------------------------------------------------------------

    def _write(self, address: int, data: bytes) -> None:
        if address == 0:
            raise Trap(f"no room for {len(data)} bytes")
        ctypes.memmove(self._at(address, len(data)), data, len(data))

    def _read(self, address: int, length: int) -> bytes:
        return copied(self._at(address, length), length)

    def _at(self, address: int, length: int) -> int:
        """The host's address of a part of the memory, which moves only when it grows."""
        size = self._memory.data_len(self._store)
        if size != self._memory_size:
            self._memory_at = _address(self._memory, self._store, 0, 0)
            self._memory_size = size
        if address + length > size:
            raise Trap("an address outside the memory")
        return self._memory_at + address

    def _text_at(self, address: int) -> str:
        longest = max(0, min(1000, self._memory.data_len(self._store) - address))
        return (
            self._read(address, longest).split(b"\0", 1)[0].decode("utf-8", "replace")
            if longest
            else "unknown"
        )


def _export(exports: Any, name: str, kind: type) -> Any:
    try:
        found = exports[name]
    except KeyError:
        raise ModuleRefused(f"the export {name} is missing") from None
    if not isinstance(found, kind):
        raise ModuleRefused(f"the export {name} is not a {kind.__name__.lower()}")
    return found


def _check_abi(store: Any, exports: Any) -> None:
    """The version stands in a global, or is told by a function, for C and Rust cannot give a global a value."""
    try:
        found = exports["geomq_abi"]
        version = found.value(store) if isinstance(found, wasmtime.Global) else found(store)
    except (KeyError, TypeError, AttributeError, wasmtime.WasmtimeError, wasmtime.Trap):
        raise ModuleRefused("the export geomq_abi is missing, or does not tell a version") from None
    if version != ABI:
        raise ModuleRefused(f"made for version {version} of the interface, not {ABI}")


def _check_imports(program: Any) -> None:
    for wanted in program.imports:
        if (wanted.module, wanted.name) != ("geomq", "state_get"):
            raise ModuleRefused(f"imports {wanted.module}.{wanted.name}, which is not offered")


def _check_type(name: str, function_type: Any, parameters: list[str], result: str) -> None:
    found = ([str(kind) for kind in function_type.params], [str(kind) for kind in function_type.results])
    if found != (parameters, [result] if result else []):
        raise ModuleRefused(f"the export {name} does not have the type of the interface")


def _offer_state(linker: Any, get: Callable[..., int]) -> Any:
    """Define the import; what it returns has to be kept for as long as the module may call it."""
    i32 = wasmtime.ValType.i32()
    kind = wasmtime.FuncType([i32] * 4, [i32])
    if not has_fast_calls():
        linker.define_func("geomq", "state_get", kind, get, access_caller=True)
        return None

    def answer(_: Any, caller: Any, values: Any, count: int) -> int:
        asked = [values[i].i32 for i in range(count)]
        values[0].i32 = -1  # and not the key's address, where an interrupt ends what follows
        values[0].i32 = get(wasmtime.Caller(caller), *asked)
        return 0

    callback = ffi.wasmtime_func_unchecked_callback_t(answer)
    names = (ctypes.create_string_buffer(b"geomq"), 5, ctypes.create_string_buffer(b"state_get"), 9)
    no_end = ctypes.CFUNCTYPE(None, ctypes.c_void_p)()
    define = ffi.wasmtime_linker_define_func_unchecked
    failure = define(linker.ptr(), *names, kind.ptr(), callback, None, no_end)
    if failure:
        raise wasmtime.WasmtimeError._from_ptr(failure)
    return callback


def _state_getter(state_get: StateGet) -> Callable[..., int]:
    memory: Any = None

    def get(caller: Any, key_at: int, key_length: int, out_at: int, room: int) -> int:
        nonlocal memory
        # An exception in here would surface somewhere else: everything that can be wrong is a return code.
        with contextlib.suppress(Exception):
            if memory is None:
                memory = caller["memory"]  # looking it up takes longer than all of the rest
            key_length &= 0xFFFFFFFF
            if key_length > LONGEST_KEY:
                return -1
            value = state_get(
                ctypes.string_at(_address(memory, caller, key_at & 0xFFFFFFFF, key_length), key_length)
            )
            if value is not None:
                if len(value) <= room & 0xFFFFFFFF:
                    at = _address(memory, caller, out_at & 0xFFFFFFFF, len(value))
                    ctypes.memmove(at, value, len(value))
                return len(value)
        return -1

    return get


def _address(memory: Any, store: Any, at: int, length: int) -> int:
    """The host's address of a part of a memory, looked up each time: it moves when the memory grows."""
    if at + length > memory.data_len(store):
        raise Trap("an address outside the memory")
    return ctypes.addressof(memory.data_ptr(store).contents) + at


def has_fast_calls() -> bool:
    """Whether the binding has the private shape that the fast call needs."""
    try:
        parameters = ffi.wasmtime_func_call_unchecked.__code__.co_argcount
        raw = ffi.wasmtime_val_raw_t
        callback = ffi.wasmtime_linker_define_func_unchecked.__code__.co_argcount
        fields = {field[0] for field in raw._fields_}
        return (parameters, callback) == (5, 9) and ctypes.sizeof(raw) == 16 and {"i32", "i64"} <= fields
    except (AttributeError, TypeError):
        return False


def _caller(store: Any, function: Any, parameters: list[str], result: str) -> Callable[..., int]:
    return (_fast_caller if has_fast_calls() else _public_caller)(store, function, parameters, result)


def _public_caller(store: Any, function: Any, parameters: list[str], result: str) -> Callable[..., int]:
    signed = [ctypes.c_int32 if kind == "i32" else ctypes.c_int64 for kind in parameters]

    def call(*values: int) -> int:
        try:
            found = function(store, *(kind(value).value for kind, value in zip(signed, values, strict=True)))
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise _trap(error) from None
        return int(found or 0)

    return call


def _fast_caller(store: Any, function: Any, parameters: list[str], result: str) -> Callable[..., int]:
    count = len(parameters)
    values_and_result = (ffi.wasmtime_val_raw_t * count)()
    context = store._context()
    raw_function = ctypes.byref(function._func)
    trap = ctypes.POINTER(ffi.wasm_trap_t)()
    trap_address = ctypes.byref(trap)
    unchecked = ffi.wasmtime_func_call_unchecked
    first = values_and_result[0]

    def invoke() -> int:
        failure = unchecked(context, raw_function, values_and_result, count, trap_address)
        if failure:
            raise _trap(wasmtime.WasmtimeError._from_ptr(failure))
        if trap:
            found = wasmtime.Trap._from_ptr(ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t)))
            ctypes.memset(ctypes.addressof(trap), 0, ctypes.sizeof(trap))
            raise _trap(found)
        return int(first.i64 if result == "i64" else first.i32)

    def call_with_time(value: int) -> int:
        first.i64 = value
        return invoke()

    def call_with_one(value: int) -> int:
        first.i32 = value
        return invoke()

    def call_with_two(value: int, other: int) -> int:
        first.i32 = value
        second.i32 = other
        return invoke()

    if count == 1:
        return call_with_time if parameters == ["i64"] else call_with_one
    second = values_and_result[1]
    return call_with_two


def _trap(error: Exception) -> Trap:
    code = getattr(error, "trap_code", None)
    return (Overdue if getattr(code, "name", "") == "INTERRUPT" else Trap)(explain(error))
