"""How much memory the process holds, how much it may, and how to hold less."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def resident_memory() -> int:
    """Bytes of memory that the process holds now; where the system does not tell, the most so far."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return most_memory()


def most_memory() -> int:
    """The most bytes of memory that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def usable_memory(groups: Path = _GROUPS, own: Path = _OWN_GROUPS) -> int:
    """Bytes of memory that the process may use: the machine's, or those of its control group where these are less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_group_limits(groups, own)])


def _group_limits(groups: Path, own: Path) -> Iterator[int]:
    """The bounds of the control groups that the process is in, of version 1 and 2, and of those around them."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = groups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path is often one that only its host sees: the group is then the root that is seen.
        folder = root / path.lstrip("/")
        while folder != groups.parent:
            with contextlib.suppress(OSError, ValueError):
                yield int((folder / name).read_text())
            folder = folder.parent


def give_back() -> None:
    """Return memory that was freed, and is kept by the C library for later, to the system; takes some 20 ms."""
    # A node that is never short of memory need not load it.
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
