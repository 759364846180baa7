"""The masks of a single value, each called by itself: a module made of leaf_masks.c and the sources of the rules."""

from __future__ import annotations

import atexit
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from plugins.builtin import build
from plugins.host.engine import Instance, Program
from plugins.host.frame import PASS, REPLACE, Fields, decode_result, encode_request
from plugins.host.limits import Limits

BATCH = 200


@cache
def program() -> Program:
    """The module, built and compiled once."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "leaf_masks.wasm"
        sources = [path for path in sorted(build.HERE.glob("*.c")) if path.name != "rules.c"]
        build.compile_module([Path(__file__).with_name("leaf_masks.c"), *sources], target)
        return Program(target.read_bytes())


# The library that it belongs to is gone when the interpreter has no more modules.
atexit.register(program.cache_clear)


class Leaf:
    """A mask with its settings."""

    def __init__(self, name: str, **settings: Any) -> None:
        self._config = json.dumps({name: True, **settings}).encode()

    def mask_all(self, values: list[bytes]) -> list[bytes | None]:
        """What becomes of each value; None for what cannot be worked on."""
        instance = Instance(program(), self._config, Limits(deadline_ms=5000), lambda key: None)
        try:
            return [
                masked
                for start in range(0, len(values), BATCH)
                for masked in _mask_batch(instance, values[start : start + BATCH])
            ]
        finally:
            instance.close()

    def __call__(self, value: str) -> str | None:
        (result,) = self.mask_all([value.encode()])
        return None if result is None else result.decode()


def _mask_batch(instance: Instance, values: list[bytes]) -> list[bytes | None]:
    batch = [Fields(b"t", value) for value in values]
    answer = instance.process(encode_request(batch, 1, 1, 1), len(batch))
    if answer is None:
        return list(values)
    verdicts, changes, _ = decode_result(answer, batch)
    return [
        values[i] if v == PASS else changes[i].payload if v == REPLACE else None
        for i, v in enumerate(verdicts)
    ]
