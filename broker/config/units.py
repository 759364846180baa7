"""Durations and sizes as people write them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_UNITS = ", ".join(unit for unit in _SIZES if unit)
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_duration(value: Any) -> Any:
    """Seconds, from a number or a text such as `500ms`, `10s`, `7d`; ValueError for anything else."""
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        if found is None or found[2] not in _DURATIONS:
            raise ValueError("not a duration such as 500ms, 10s, 5m, 12h, 7d")
        return float(found[1]) * _DURATIONS[found[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("not a duration such as 500ms, 10s, 5m, 12h, 7d, or a number of seconds")
    return float(value)


def parse_whole_seconds(value: Any) -> Any:
    """Like :func:`parse_duration`, for what MQTT counts in whole seconds."""
    seconds = parse_duration(value)
    if seconds != int(seconds):
        raise ValueError("not a whole number of seconds")
    return int(seconds)


def parse_size(value: Any) -> Any:
    """Bytes, from a number or a text such as `64KiB`, `10MB`; ValueError for anything else."""
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        if found is None or found[2] not in _SIZES:
            raise ValueError(f"not a size such as 64KiB, 10MB; allowed units: {_UNITS}")
        return int(float(found[1]) * _SIZES[found[2]])
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"not a size such as 64KiB, 10MB, or a number of bytes; allowed units: {_UNITS}")
    return value


_TEXT_OR_NUMBER = WithJsonSchema({"type": ["string", "number"]})

Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0), _TEXT_OR_NUMBER]
"""Seconds."""
WholeSeconds = Annotated[int, BeforeValidator(parse_whole_seconds), Field(ge=0), _TEXT_OR_NUMBER]
"""Seconds without a fraction."""
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0), _TEXT_OR_NUMBER]
"""Bytes."""
