"""The values that stand in the built-in rules: paths, durations, keys, templates, times. As the module reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo, WithJsonSchema

from broker.protocol.errors import ProtocolError
from broker.protocol.topics import validate_filter

_MOST_LEVELS = 30
_MOST_PLACES = 31
_DURATION = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST_MS = 30 * 86_400_000
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_OFFSET = re.compile(r"[+-]([01][0-9]|2[0-3]):[0-5][0-9]")
_PLACE = re.compile(r"\{(path:[^}]*|[A-Za-z0-9_]+)\}")
_NO_TOPIC = re.compile(r"[+#]|\{[A-Za-z0-9_]+:|\{[^}\0]*(?=\0|$)")
_PATHS_HERE = (
    "paths here are driver.name, items.0.id, items.*.id; before a $ or [ of a name stands a backslash"
)
_WORDS = ("topic", "client", "user", "node", "region", "qos", "time", "time_ms")


def _typed(check: Callable[..., Any], schema: dict[str, Any]) -> Any:
    return Annotated[Any, AfterValidator(check), WithJsonSchema(schema)]


def _check_text(value: Any) -> Any:
    if not isinstance(value, str) or not value:
        raise ValueError("allowed: a text")
    return value


def _check_path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str) or not value:
        raise ValueError("allowed: a path such as driver.name, items.*.id or **.phone")
    if value == "$":
        return value
    if (info.context or {}).get("format") == "text":
        raise ValueError("leads nowhere in a text, whose only path is $; format: json has values")
    levels = _levels(value)
    if "" in levels:
        raise ValueError("a path without empty levels is expected; a dot in a name is written \\.")
    if levels[0] == "$" or any("[" in re.sub(r"\\.", "", level) for level in levels):
        raise ValueError(f"JSONPath is not understood; {_PATHS_HERE}")
    if len(levels) > _MOST_LEVELS:
        raise ValueError(f"a path has {_MOST_LEVELS} levels at most")
    if levels[-1] == "**":
        raise ValueError("a path must not end with **")
    return value


def _check_part(value: Any, info: ValidationInfo) -> Any:
    return value if value in ("topic", "client", "user") else _check_path(value, info)


def _levels(path: str) -> list[str]:
    levels = [""]
    escaped = False
    for sign in path:
        if sign == "." and not escaped:
            levels.append("")
            continue
        levels[-1] += sign
        escaped = sign == "\\" and not escaped
    return levels


def _check_one_place(value: Any, info: ValidationInfo) -> Any:
    if {"*", "**"} & set(_levels(_check_path(value, info))):
        raise ValueError("a path without stars is expected: one place is to be set")
    return value


def _check_duration(value: Any) -> Any:
    milliseconds = 0
    if isinstance(value, int) and not isinstance(value, bool):
        milliseconds = value * 1000
    elif isinstance(value, str) and (found := _DURATION.fullmatch(value)):
        milliseconds = int(found[1]) * _UNITS_MS[found[2]]
    if not 0 < milliseconds <= _LONGEST_MS:
        raise ValueError("allowed: a duration such as 500ms, 10s, 5m, 1h or 7d, of 30 days at most")
    return value


def _check_scalar(value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    if value is not None and not isinstance(value, str) and not is_number:
        raise ValueError(
            'allowed: a text (dates stand in quotes: "2026-01-01"), a number, true, false or null'
        )
    return value


def _check_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("allowed: a number")
    return value


def _check_positive(value: Any) -> Any:
    if _check_number(value) <= 0:
        raise ValueError("allowed: a number above 0")
    return value


def _check_multiple(value: Any) -> Any:
    number = Decimal(repr(_check_positive(value))).normalize().as_tuple()
    if len(number.digits) > 9 or not -30 <= int(number.exponent) <= 30:
        raise ValueError("allowed: a number above 0 such as 0.01 or 10, of 9 digits at most")
    return value


def _check_glob(value: Any) -> Any:
    if not _check_text(value).strip("*"):
        raise ValueError("stands for everything")
    return value


def _key(digits: int) -> Any:
    pattern = f"([0-9A-Fa-f]{{2}}){{{digits // 2},}}"

    def check(value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"at least {digits} hexadecimal digits are expected, or `key_file`")
        return value

    return _typed(check, {"type": "string", "pattern": f"^{pattern}$"})


def _between(least: float, most: float) -> Any:
    def check(value: Any) -> Any:
        if not least <= _check_number(value) <= most:
            raise ValueError(f"allowed: a number from {least:g} to {most:.0f}")
        return value

    return _typed(check, {"type": "number", "minimum": least, "maximum": most})


def _check_time(value: Any) -> Any:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError('allowed: a time from "00:00" to "23:59", in quotes')
    return value


def _check_offset(value: Any) -> Any:
    if not isinstance(value, str) or not _OFFSET.fullmatch(value):
        raise ValueError('allowed: an offset such as "+08:00", in quotes')
    return value


def _check_zone(value: Any) -> Any:
    return value if value == "local" else _check_offset(value)


def _check_places(text: str, info: ValidationInfo) -> None:
    """ValueError where a template has a place in braces that is none."""
    if len(_PLACE.findall(text)) > _MOST_PLACES:
        raise ValueError(f"more than {_MOST_PLACES} places in braces")
    for found in _PLACE.finditer(text):
        inside = found[1]
        if inside.startswith("path:"):
            _check_path(inside.removeprefix("path:"), info)
        elif inside not in _WORDS and not (inside.isascii() and inside.isdigit() and len(inside) <= 5):
            raise ValueError(
                f"{{{inside}}} is no place; allowed: a topic level's number, path:..., {', '.join(_WORDS)}"
            )


def _check_template(value: Any, info: ValidationInfo) -> Any:
    _check_places(_check_text(value), info)
    return value


def _check_topic(value: Any, info: ValidationInfo) -> Any:
    if found := _NO_TOPIC.search(_PLACE.sub("\0", _check_template(value, info))):
        raise ValueError(f"{found[0]} cannot be: a topic is expected, with places such as {{path:site}}")
    return value


def _check_value(value: Any, info: ValidationInfo) -> Any:
    if isinstance(_check_scalar(value), str):
        _check_places(value, info)
    return value


def _check_document(value: Any, info: ValidationInfo) -> Any:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        _check_document(one, info)
    return value if isinstance(value, (dict, list)) else _check_value(value, info)


def _each(check: Callable[[Any], bool], allowed: str) -> Callable[[Any], Any]:
    def check_each(value: Any) -> Any:
        if value == [] or not all(map(check, value if isinstance(value, list) else [value])):
            raise ValueError(allowed)
        return value

    return check_each


def _is_filter(value: Any) -> bool:
    try:
        validate_filter(value if isinstance(value, str) else "")
    except ProtocolError:
        return False
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_qos(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2


_TEXT = {"type": "string", "minLength": 1}
_SCALAR = {"type": ["string", "number", "boolean", "null"]}

Text = _typed(_check_text, _TEXT)
Path = _typed(_check_path, _TEXT)
Part = _typed(_check_part, _TEXT)
"""What messages are told apart by."""
OnePlace = _typed(_check_one_place, _TEXT)
"""A path without stars."""
Lapse = _typed(_check_duration, {"type": ["string", "integer"]})
"""A duration that is above 0 and has no fraction."""
Scalar = _typed(_check_scalar, _SCALAR)
Number = _typed(_check_number, {"type": "number"})
Multiple = _typed(_check_multiple, {"type": "number", "exclusiveMinimum": 0})
"""What numbers are rounded to a multiple of."""
Positive = _typed(_check_positive, {"type": "number", "exclusiveMinimum": 0})
Glob = _typed(_check_glob, _TEXT)
"""A text in which * and ? stand for others; not for everything."""
Metres = _between(1, 5_000_000)
Degrees = _between(0.00001, 90)
Key = _key(16)
LongKey = _key(32)
"""Of what can be undone: who finds it out by trying gets all values back."""
Time = _typed(_check_time, {"type": "string", "pattern": f"^{_TIME.pattern}$"})
Offset = _typed(_check_offset, {"type": "string", "pattern": f"^{_OFFSET.pattern}$"})
Zone = _typed(_check_zone, {"type": "string"})
Filters = _typed(
    _each(_is_filter, "allowed: a topic filter, or a list of them"), {"type": ["string", "array"]}
)
Globs = _typed(_each(_is_text, "allowed: a text, in which * and ? stand for others, or a list of them"), {})
QosList = _typed(_each(_is_qos, "allowed: 0, 1, 2, or a list of them"), {"type": ["integer", "array"]})
Template = _typed(_check_template, _TEXT)
TopicTemplate = _typed(_check_topic, _TEXT)
"""A template that can become a topic."""
Value = _typed(_check_value, _SCALAR)
"""A scalar, whose text is a template."""
Document = _typed(_check_document, {})
"""Anything that JSON can say, whose texts are templates."""
