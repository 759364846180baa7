"""Why a module failed, in words for its operator."""

from __future__ import annotations

from typing import NamedTuple

_REASONS = {
    "OUT_OF_FUEL": "used up its fuel",
    "INTERRUPT": "ran past its deadline",
    "UNREACHABLE": "trapped",
    "STACK_OVERFLOW": "overflowed its stack",
    "MEMORY_OUT_OF_BOUNDS": "reached outside its memory",
}


class Reason(NamedTuple):
    """Why messages failed: in full for this node's operators, and without anything that was in a message for others."""

    text: str
    gist: str


def explain(error: Exception) -> str:
    """Why a call ended, in a few words, from the runtime's trap or error."""
    code = getattr(error, "trap_code", None)
    name = getattr(code, "name", "")
    if name:
        return _REASONS.get(name, name.lower().replace("_", " "))
    return first_line(error)


def first_line(error: Exception) -> str:
    """What an error says, without the module's call stack behind it."""
    return str(error).strip().splitlines()[0]
