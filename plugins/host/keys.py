"""Secrets that a module's configuration names by a file: ``key_file: PATH`` becomes ``key: HEX`` of its bytes."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plugins.host.engine import PluginError

logger = logging.getLogger("geomq.plugins")

_SHORTEST = 8
"""Bytes below which a key is none."""
_LONGEST = 1 << 16


def with_keys(config: Any) -> Any:
    """The configuration with every ``key_file`` replaced; PluginError names a file that cannot be used."""
    if isinstance(config, dict):
        return dict(_members(config))
    if isinstance(config, list):
        return [with_keys(item) for item in config]
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


def _members(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if name != "key_file":
            yield name, with_keys(value)
        elif "key" in config:
            raise PluginError("key_file: allowed: either it or key")
        elif not isinstance(value, str):
            raise PluginError("key_file: not the path of a file")
        else:
            yield "key", _read(Path(value)).hex()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                logger.warning("the key in %s can be read by everybody: chmod 600 it", path)
            key = file.read(_LONGEST + 1).rstrip()
    except OSError as error:
        raise PluginError(f"key_file: {path}: {error.strerror or error}") from None
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise PluginError(f"key_file: {path}: {len(key)} bytes; allowed: {_SHORTEST} to {_LONGEST}")
    return key
