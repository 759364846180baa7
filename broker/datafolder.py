"""A node's folder: made when it is needed, and one node's at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

OWNER_ONLY = 0o700


class FolderError(Exception):
    """Why the folder cannot be used, in words for the operator."""


def owner(path: Path) -> int:
    """The process that has taken a folder; FolderError where none has."""
    try:
        with (path / "lock").open(encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read())
    except (OSError, ValueError):
        pass
    raise FolderError(f"no node runs that has the folder {path}")


class DataFolder:
    """The folder of everything that outlives the process.

    Opening it makes it, for its owner only, and takes it for this process until :meth:`close` or the process's end,
    however that comes.
    FolderError where that cannot be had.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Payloads are in there, and SQLite's files may be read by everybody.
            path.mkdir(OWNER_ONLY, parents=True, exist_ok=True)
            self._lock: IO[str] = (path / "lock").open("a+", encoding="ascii")
        except OSError as error:
            raise FolderError(f"the folder {path} cannot be used: {error.strerror or error}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            owner = self._lock.read().strip() or "unknown"
            self._lock.close()
            raise FolderError(
                f"the folder {path} belongs to another node that is running (process {owner}); each needs its own"
            ) from None
        # On a full disk the folder is taken all the same; only nobody can be told by whom.
        with contextlib.suppress(OSError):
            os.ftruncate(self._lock.fileno(), 0)
            os.write(self._lock.fileno(), f"{os.getpid()}\n".encode())

    def close(self) -> None:
        """Let another process have it."""
        self._lock.close()
