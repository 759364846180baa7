"""From an entry to a module that can be called: its files, read and compiled, and whether they have changed since."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from plugins.host.cache import CompiledCache
from plugins.host.engine import Instance, Program, StateGet
from plugins.host.entry import Entry
from plugins.host.keys import key_files, with_keys
from plugins.host.reasons import ModuleMissing

Marks = tuple[tuple[int, int, int] | None, ...]
"""Of each of an entry's files: when it was written, its size, which file it is; None where it is not there."""


def read_module(path: Path) -> bytes:
    """A module's code; ModuleMissing where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModuleMissing(f"{path}: {error.strerror}") from None


class Plan:
    """What instances are made of: code and configuration as they stood in the entry's files when it was made.

    An instance that has trapped is replaced by one of the same plan, whatever has become of the files.
    PluginError where the entry's files are missing or cannot be used.
    """

    def __init__(self, entry: Entry, cache: CompiledCache | None) -> None:
        assert entry.path is not None
        self._limits = entry.limits
        self._program = Program(read_module(entry.path), cache)
        self._config = json.dumps(with_keys(entry.config), default=str).encode()

    def make(self, state_get: StateGet) -> Instance:
        """An instance; ModuleRefused where the module does not start or takes not its configuration."""
        return Instance(self._program, self._config, self._limits, state_get)


def marks(entry: Entry) -> Marks:
    """The marks of an entry's files as they are now: others mean that it should be loaded again."""
    return tuple(_mark(path) for path in _files(entry))


def _files(entry: Entry) -> Iterator[Path]:
    if entry.path is not None:
        yield entry.path
        yield from key_files(entry.config)


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
