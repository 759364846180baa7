"""Whether a file system is nearly full: told before it is, while what is under way still fits."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

logger = logging.getLogger("geomq.store")

T = TypeVar("T")

_PART = 20
_RELIEF = 1.25
_RETRY = 1.0
_NOTHING = 256 << 10


def is_full(folder: Path) -> bool:
    """Whether a file system has next to nothing left."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _NOTHING


async def with_room(folder: Path, work: Callable[[], Awaitable[T]], *errors: type[Exception]) -> T:
    """Do what needs room on disk; where one of these errors says that there is none, wait for it, and do it again.

    Clients are not let in meanwhile: their sessions are not known yet. The error where it has another reason.
    """
    told = False
    while True:
        try:
            return await work()
        except errors as error:
            if not is_full(folder):
                raise
            if not told:
                logger.error(
                    "the disk is full (%s): the node waits for room before it lets clients in", error
                )
            told = True
        await asyncio.sleep(_RETRY)


class DiskRoom:
    """``reserve`` is in bytes; of a small file system no more than a twentieth is held back."""

    def __init__(self, folder: Path, reserve: int) -> None:
        self._folder = folder
        self.reserve = reserve
        self.short = False
        """Whether there was less than the reserve at the last look, and not clearly more since."""

    def look(self) -> bool:
        """Look again; whether :attr:`short` has changed."""
        try:
            found = os.statvfs(self._folder)
        except OSError:
            return False
        reserve = min(self.reserve, found.f_blocks * found.f_frsize // _PART)
        free = found.f_bavail * found.f_frsize
        before = self.short
        self.short = free < (reserve * _RELIEF if before else reserve)
        return self.short != before
