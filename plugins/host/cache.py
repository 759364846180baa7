"""Compiled modules on disk, so that a start need not compile them again.

What is in the folder is machine code that this process will run: a file counts only where nobody but the user of this
process can have written it, and where it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
from pathlib import Path

logger = logging.getLogger("geomq.plugins")

_MAGIC = b"GeoMQ compiled 1\n"
_DIGEST = 32
_KEPT = 64
"""Files beyond which those that were used longest ago are removed."""


class CompiledCache:
    """``folder`` is made when it is first written to. No method raises: without a cache modules are compiled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str) -> bytes | None:
        """What was saved under a name; None where there is nothing, or nothing that can be trusted."""
        try:
            if not _is_private(self._folder.lstat(), stat.S_ISDIR):
                return None
            # Not by a link, and what is checked is what is read.
            number = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(number, "rb") as file:
                if not _is_private(os.fstat(number), stat.S_ISREG):
                    return None
                found = file.read()
                os.utime(number)
        except OSError:
            return None
        head = len(_MAGIC) + _DIGEST
        data = found[head:]
        if found[:head] != _MAGIC + hashlib.sha256(data).digest():
            return None
        return data

    def save(self, name: str, data: bytes) -> None:
        """Keep a compiled module under a name."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_private(self._folder.lstat(), stat.S_ISDIR):
                logger.warning(
                    "%s: others can write there, so that no compiled modules are kept", self._folder
                )
                return
            self._write(name, data)
            self._prune()
        except OSError as error:
            logger.warning(
                "a compiled module cannot be kept in %s: %s", self._folder, error.strerror or error
            )

    def _write(self, name: str, data: bytes) -> None:
        fresh = self._folder / f".{name}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        try:
            number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(data).digest() + data)
            fresh.rename(self._folder / name)
        finally:
            fresh.unlink(missing_ok=True)

    def _prune(self) -> None:
        files = sorted(self._folder.iterdir(), key=lambda path: path.lstat().st_mtime, reverse=True)
        for path in files[_KEPT:]:
            path.unlink(missing_ok=True)


def _is_private(found: os.stat_result, is_kind: object) -> bool:
    assert callable(is_kind)
    return (
        bool(is_kind(found.st_mode))
        and found.st_uid == os.geteuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
