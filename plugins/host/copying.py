"""Bytes out of a module's memory, without keeping the interpreter from others where they are many."""

from __future__ import annotations

import ctypes

_MUCH = 1 << 16
"""Bytes that are not copied in no time: four megabytes take a millisecond, for their memory is new."""

_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)


def copied(at: int, length: int) -> bytes:
    """What stands at an address of this process."""
    if length < _MUCH:
        return ctypes.string_at(at, length)
    # As C code makes them: room for so many bytes, which nobody knows before they are in it.
    found: bytes = _new_bytes(None, length)
    ctypes.memmove(ctypes.cast(ctypes.c_char_p(found), ctypes.c_void_p), at, length)
    return found
