"""What a module is, read from the outside: nothing of it runs but its start function, within limits."""

from __future__ import annotations

import hashlib
from typing import Any

from plugins.host.engine import ABI, Instance, anatomy
from plugins.host.limits import Limits
from plugins.host.reasons import ModuleRefused


def inspect(code: bytes, limits: Limits) -> dict[str, Any]:
    """The answers by name, ready for JSON; ModuleRefused where the bytes are no module at all."""
    parts = anatomy(code)
    exports = dict(parts.exports)
    imports = dict(parts.imports)
    return {
        "size": f"{len(code):,} bytes",
        "sha256": hashlib.sha256(code).hexdigest(),
        "interface": _interface(code, limits),
        "imports": [f"{name} {kind}" for name, kind in parts.imports],
        "exports": [f"{name} {kind}" for name, kind in parts.exports],
        "memory": _memory(parts.memory, limits),
        "state": "reads what it had remembered" if "geomq.state_get" in imports else "reads none",
        "tick": "is called once a second" if "geomq_tick" in exports else "is called with messages only",
        "may": _powers(list(imports)),
    }


def _interface(code: bytes, limits: Limits) -> str:
    try:
        Instance(code, None, limits, lambda key: None).close()
    except ModuleRefused as error:
        return f"refused: {error}"
    return f"geomq-plugin-{ABI}"


def _memory(memory: tuple[int, int | None] | None, limits: Limits) -> str:
    if memory is None:
        return "none is exported"
    least, most = memory
    bound = "no bound of its own" if most is None else f"at most {most >> 10:,} KiB"
    return f"{least >> 10:,} KiB at first, {bound}; the host allows {limits.memory_bytes >> 10:,} KiB"


def _powers(imports: list[str]) -> list[str]:
    """In words, what this module could do to a node."""
    foreign = [name for name in imports if name != "geomq.state_get"]
    if foreign:
        return [f"nothing: the host does not offer {name}" for name in foreign]
    return [
        "change and drop the messages of the topics that its entry names",
        "publish further messages, and keep some in the local history",
        "have values remembered, write to the log, raise alerts, add to its figures",
        "not reach the network, files, the clock, other rules or other messages",
    ]
