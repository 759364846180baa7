"""What a rule wants done besides, told to people and to scripts. Pure."""

from __future__ import annotations

from typing import Any

from plugins.host import frame
from plugins.host.frame import Effect
from plugins.tools.difference import shown, shown_payload


def _is_text(raw: bytes) -> bool:
    try:
        return raw.decode().isprintable()
    except UnicodeDecodeError:
        return False


def all_in_words(effects: list[Effect]) -> list[str]:
    """A line for each effect; what the module remembers under keys that nobody can read, in one for all."""
    lines, hidden = [], []
    for effect in effects:
        if effect.kind == frame.STATE_PUT and not _is_text(effect.first):
            hidden.append(len(effect.first) + len(effect.second))
        else:
            lines.append(in_words(effect))
    if hidden:
        values = "1 value" if len(hidden) == 1 else f"{len(hidden)} values"
        lines.append(f"remembers {values} of its own, {sum(hidden)} bytes")
    return lines


def in_words(effect: Effect) -> str:
    """An effect as a line."""
    first, second = shown(effect.first), shown_payload(effect.second)
    if effect.kind == frame.EMIT:
        marks = f"QoS {effect.number & 3}{', retained' if effect.number & 4 else ''}"
        return f"emits {first} {second} ({marks})"
    if effect.kind == frame.STORE:
        return f"stores {first} {second}"
    if effect.kind == frame.STATE_PUT:
        lifetime = f" for {effect.number / 1000:g} s" if effect.number else ""
        return f"remembers {first} = {second}{lifetime}"
    if effect.kind == frame.METRIC:
        return f"metric {first} {frame.metric_value(effect.number):+g}"
    if effect.kind == frame.LOG:
        return f"logs {first}: {second}"
    return f"alert {first}: {second}"


def as_json(effect: Effect) -> dict[str, Any]:
    """An effect ready for JSON; bytes as :func:`plugins.tools.difference.shown` tells them."""
    first, second = shown(effect.first), shown(effect.second)
    if effect.kind == frame.EMIT:
        marks = {"qos": effect.number & 3, "retain": bool(effect.number & 4)}
        return {"kind": "emit", "topic": first, "payload": second, **marks}
    if effect.kind == frame.STORE:
        return {"kind": "store", "topic": first, "payload": second}
    if effect.kind == frame.STATE_PUT:
        return {"kind": "state", "key": first, "value": second, "lifetime_ms": effect.number}
    if effect.kind == frame.METRIC:
        return {"kind": "metric", "name": first, "add": frame.metric_value(effect.number)}
    if effect.kind == frame.LOG:
        return {"kind": "log", "level": first, "text": second}
    return {"kind": "alert", "topic": first, "text": second}
