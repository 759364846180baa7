"""Secrets that a module's configuration names by a file: ``key_file: PATH`` becomes ``key: HEX`` of its bytes."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plugins.host.reasons import PluginError

logger = logging.getLogger("geomq.plugins")

_SHORTEST = 8
"""Bytes below which a key is none."""
_LONGEST = 1 << 16


Key = tuple[str | int, ...]


class KeyFileError(PluginError):
    """A file of a secret cannot be used."""

    def __init__(self, text: str, key: Key) -> None:
        super().__init__(f"key_file: {text}")
        self.key = key


def with_keys(config: Any, at: Key = ("config",)) -> Any:
    """The configuration with every ``key_file`` replaced; KeyFileError names a file that cannot be used.

    ``at`` is where in the entry it stands.
    """
    if isinstance(config, dict):
        return dict(_members(config, at))
    if isinstance(config, list):
        return [with_keys(item, (*at, number)) for number, item in enumerate(config)]
    return config


def key_files(config: Any) -> Iterator[Path]:
    """The files that a configuration names."""
    if isinstance(config, dict):
        for name, value in config.items():
            if name == "key_file" and isinstance(value, str):
                yield Path(value)
            else:
                yield from key_files(value)
    elif isinstance(config, list):
        for item in config:
            yield from key_files(item)


def _members(config: dict[str, Any], at: Key) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        here = (*at, name)
        if name != "key_file":
            yield name, with_keys(value, here)
        elif "key" in config:
            raise KeyFileError("allowed: either it or key", here)
        elif not isinstance(value, str):
            raise KeyFileError("not the path of a file", here)
        else:
            yield "key", _read(Path(value), here).hex()


def _read(path: Path, at: Key) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                logger.warning("the key in %s can be read by everybody: chmod 600 it", path)
            key = file.read(_LONGEST + 1).rstrip()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}", at) from None
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise KeyFileError(f"{path}: {len(key)} bytes; allowed: {_SHORTEST} to {_LONGEST}", at)
    return key
