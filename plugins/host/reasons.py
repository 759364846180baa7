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


class PluginError(Exception):
    """What went wrong with a module, in words for its operator."""

    key: tuple[str | int, ...] = ()
    """The key of its entry that is to blame, as far as one is."""


class ModuleMissing(PluginError):
    """There is no such file, or no wasm on this processor."""

    key = ("module",)


class ModuleRefused(PluginError):
    """Not a module of this interface, or one that does not take its configuration."""

    key = ("module",)


class ConfigRefused(ModuleRefused):
    """A module does not take its configuration."""

    key = ("config",)


class Trap(PluginError):
    """A call ended by a trap, by its limits, or with a result that cannot be."""


class Overdue(Trap):
    """A call took longer than it may, by the clock on the wall."""


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


def cause(error: Exception) -> str:
    """What is at the bottom of an error, where it tells of others above that."""
    text = str(error).strip()
    return text.splitlines()[-1].strip() if "Caused by:" in text else first_line(error)


def first_line(error: Exception) -> str:
    """What an error says, without the module's call stack behind it."""
    return str(error).strip().splitlines()[0]


def on_one_line(text: str) -> str:
    """A text that devices may have a say in, without line breaks and whatever else a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
