"""Files that a running node reads again when they change."""

from __future__ import annotations

from pathlib import Path


class Watched:
    """A file and what it looked like when it was read last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = self._look()

    def changed(self) -> bool:
        """Whether the file was written or replaced since the last question."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        return True

    def _look(self) -> tuple[int, int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)
