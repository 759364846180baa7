"""Small modules in the text format, each with one habit."""

from __future__ import annotations

import struct
from functools import cache

from plugins.host.engine import wat2wasm

HEADER = """
  (memory (export "memory") 2)
  (global (export "geomq_abi") i32 (i32.const 1))
  (func (export "geomq_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "geomq_init") (param i32 i32) (result i32) (i32.const 0))
"""


@cache
def module(process: str, header: str = HEADER) -> bytes:
    """A module whose geomq_process has this body; the parameters are $at and $length."""
    return wat2wasm(
        f'(module {header} (func (export "geomq_process") (param $at i32) (param $length i32) (result i64) {process}))'
    )


PASSES = "(i64.const 0)"
TRAPS = "unreachable"
LOOPS = "(loop $again (br $again)) (i64.const 0)"
SPRAWLS = "(i64.const 0x1000ffffffff)"
ELSEWHERE = "(i64.const 0x7fffffff00000020)"
GROWS = "(if (i32.eq (memory.grow (i32.const 10000)) (i32.const -1)) (then unreachable)) (i64.const 0)"
RECURSES = "(call 2 (local.get $at) (local.get $length))"

DROPS_ALL = """
  (local $i i32)
  (i32.store (i32.const 60000) (i32.const 0x31524D47))
  (i32.store (i32.const 60004) (i32.load offset=4 (local.get $at)))
  (i32.store (i32.const 60008) (i32.const 32))
  (memory.fill (i32.const 60012) (i32.const 0) (i32.const 20))
  (memory.fill (i32.const 60032) (i32.const 1) (i32.load offset=4 (local.get $at)))
  (i64.or (i64.shl (i64.const 60000) (i64.const 32))
          (i64.extend_i32_u (i32.add (i32.const 32) (i32.load offset=4 (local.get $at)))))
"""

TRAPS_ON_BANG = """
  (local $i i32) (local $entry i32)
  (local.set $entry (i32.add (local.get $at) (i32.load offset=24 (local.get $at))))
  (block $done
    (loop $next
      (br_if $done (i32.ge_u (local.get $i) (i32.load offset=4 (local.get $at))))
      (if (i32.eq (i32.load8_u (i32.add (local.get $at) (i32.load offset=8 (local.get $entry)))) (i32.const 33))
        (then unreachable))
      (local.set $entry (i32.add (local.get $entry) (i32.load offset=32 (local.get $at))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i64.const 0)
"""
"""Traps when a payload begins with an exclamation mark."""


def result(count: int, effects: list[tuple[int, int, bytes, bytes, int]]) -> bytes:
    """A result frame in which all of ``count`` messages pass, with (kind, index, first, second, number) as effects."""
    tail = b""
    rows = b""
    at = 32 + count + 32 * len(effects)
    for kind, index, first, second, number in effects:
        start = at + len(tail)
        tail += first + second
        rows += struct.pack("<6IQ", kind, index, start, len(first), start + len(first), len(second), number)
    head = struct.pack("<8I", 0x31524D47, count, 32, 0, 32 + count, len(effects), 32 + count, 0)
    return head + bytes(count) + rows + tail


def data(at: int, content: bytes) -> str:
    """A data segment."""
    text = "".join(f"\\{byte:02x}" for byte in content)
    return f'(data (i32.const {at}) "{text}")'


def ticking(frame: bytes, process: str = PASSES) -> bytes:
    """A module whose geomq_tick returns this frame."""
    tick = f'(func (export "geomq_tick") (param i64) (result i64) (i64.const {8192 << 32 | len(frame)}))'
    return module(process, HEADER + data(8192, frame) + tick)


STARTS_LOOPING = HEADER + "(func $start (loop $again (br $again))) (start $start)"
INIT_LOOPS = HEADER.replace(
    "(result i32) (i32.const 0)", "(result i32) (loop $again (br $again)) (i32.const 0)"
)
FOREIGN_VERSION = HEADER.replace('"geomq_abi") i32 (i32.const 1)', '"geomq_abi") i32 (i32.const 2)')
MEMORY_BOMB = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"
WILD = "(i64.store (i32.const 0x7ffffff0) (i64.const 1)) (i64.const 0)"
RANDOM_TRAP = """
  (if (i64.eq (i64.const 0)
        (i64.rem_u (i64.mul (i64.load offset=16 (local.get $at)) (i64.const 2654435761)) (i64.const 3)))
    (then unreachable)) (i64.const 0)
"""
"""Traps in a third of its batches."""


BURNS = """
  (local $i i32) (local.set $i (i32.const 4000000))
  (loop $again (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
  (i64.const 0)
"""
"""Takes nearly all the fuel of a batch of one, and passes it."""


def asking(count: int) -> tuple[str, str]:
    """A module's process and header: so many questions for what it has remembered, whatever comes."""
    process = f"""
      (local $i i32) (local.set $i (i32.const {count}))
      (loop $again
        (drop (call $get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0)))
        (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (i64.const 0)
    """
    offered = '(import "geomq" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))'
    return process, offered + HEADER


def sharing(count: int) -> tuple[str, str]:
    """A module's process and header: emits for one message so many, each with the whole result as its payload."""
    size = 32 + 8 + 32 * count
    head = struct.pack("<8I", 0x31524D47, 1, 32, 0, 40, count, 40, 0) + b"\0topic\0\0"
    frame = head + struct.pack("<6IQ", 1, 0xFFFFFFFF, 33, 5, 0, size, 0) * count
    header = HEADER.replace('"memory") 2', f'"memory") {(8192 + size) // 65536 + 1}')
    return f"(i64.const {8192 << 32 | size})", header + data(8192, frame)


def emitting(count: int) -> tuple[str, str]:
    """A module's process and header: a result with so many messages more, whatever comes."""
    return saying(count, 1, b"bomb", b"x")


def saying(count: int, kind: int, first: bytes, second: bytes) -> tuple[str, str]:
    """A module's process and header: all of a batch passes, with so many effects of a kind beside it."""
    frame = bytearray(result(1, [(kind, 0xFFFFFFFF, first, second, 0)] * count))
    frame[8:12] = len(frame).to_bytes(4, "little")
    frame += bytes(1024)  # verdicts, for as many messages as come together
    pages = (8192 + len(frame)) // 65536 + 1
    header = HEADER.replace('"memory") 2', f'"memory") {pages + 8}').replace(
        "(i32.const 4096)", f"(i32.const {pages << 16})"
    )
    process = f"(i32.store (i32.const 8196) (i32.load offset=4 (local.get $at))) (i64.const {8192 << 32 | len(frame)})"
    # Memory is zero as it is.
    return process, header + data(8192, frame.rstrip(b"\0"))
