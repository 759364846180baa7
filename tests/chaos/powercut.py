"""Power cuts: what a process wrote is recorded by powercut.c; what was not fsynced may be gone, or torn.

Directories are taken to be journalled: a file that was made, renamed or removed stays so.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = struct.Struct("<IIqq")
_WRITE, _TRUNCATE, _SYNC, _UNLINK, _RENAME = 1, 2, 3, 4, 5
_SECTOR = 512


def build(folder: Path) -> Path:
    """The recorder as a library for LD_PRELOAD."""
    library = folder / "powercut.so"
    source = Path(__file__).with_name("powercut.c")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O2", "-o", str(library)]
    subprocess.run([*compiler, str(source)], check=True)
    return library


@dataclass
class _File:
    data: bytearray = field(default_factory=bytearray)
    """What is on the disk for certain."""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Writes, and truncations without data, since the last fsync."""

    def sync(self) -> None:
        for offset, data in self.pending:
            self.apply(offset, data)
        self.pending.clear()

    def apply(self, offset: int, data: bytes | None) -> None:
        if data is None:
            del self.data[offset:]
            self.data.extend(bytes(max(0, offset - len(self.data))))
            return
        if len(self.data) < offset:
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data

    def cut(self, chance: random.Random) -> int:
        """The power is gone: each sector written since the last fsync may have arrived or not. How many did not."""
        lost = 0
        for offset, data in self.pending:
            if data is None:
                if chance.random() < 0.5:
                    self.apply(offset, None)
                continue
            for at in range(0, len(data), _SECTOR):
                if chance.random() < 0.5:
                    self.apply(offset + at, data[at : at + _SECTOR])
                else:
                    lost += 1
        self.pending.clear()
        return lost


class PowerCut:
    """A folder whose writes are recorded. ``environment`` is for the process that writes.

    ``whole`` where it writes through stdio, whose writes cannot be seen: what counts is then each file as it was
    at its last fsync.
    """

    def __init__(self, folder: Path, scratch: Path, whole: bool = False) -> None:
        self._folder = folder.resolve()
        self._log = scratch / "powercut.log"
        self.environment = {
            "LD_PRELOAD": str(build(scratch)),
            "POWERCUT_FOLDER": str(self._folder),
            "POWERCUT_LOG": str(self._log),
        }
        if whole:
            self.environment["POWERCUT_WHOLE"] = "1"
        self._before: dict[str, bytes] = {}
        self.sectors_lost = 0

    def begin(self) -> None:
        """What is there now is on the disk for certain."""
        self._log.unlink(missing_ok=True)
        self._before = {str(path): path.read_bytes() for path in self._files()}

    def cut(self, chance: random.Random) -> None:
        """The process is dead, and the power is gone: leave what the disk would have."""
        files = self._played()
        for path in self._files():
            path.unlink()
        for name, file in files.items():
            # Shared memory is never on disk.
            if not name.endswith("-shm"):
                self.sectors_lost += file.cut(chance)
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_bytes(file.data)

    def _files(self) -> list[Path]:
        return [path for path in self._folder.rglob("*") if path.is_file()]

    def _played(self) -> dict[str, _File]:
        files = {name: _File(bytearray(data)) for name, data in self._before.items()}
        log = self._log.read_bytes()
        at = 0
        while at + _HEAD.size <= len(log):
            kind, length, offset, size = _HEAD.unpack_from(log, at)
            at += _HEAD.size
            name = os.fsdecode(log[at : at + length])
            at += length
            data = log[at : at + size]
            at += size
            if kind == _RENAME:
                files[os.fsdecode(data)] = files.pop(name, _File())
            elif kind == _UNLINK:
                files.pop(name, None)
            else:
                file = files.setdefault(name, _File())
                if kind == _SYNC:
                    file.sync()
                else:
                    file.pending.append((offset, data if kind == _WRITE else None))
        return files

    def end(self) -> None:
        """Nothing more is recorded."""
        shutil.rmtree(self._log.parent, ignore_errors=True)
