"""What may stand in a configuration, and is seldom meant: told, but no mistake."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from broker.config.model import NodeConfig

KeyPath = tuple[str | int, ...]

_WORDS = ("topic", "client", "user")
_PLAIN = re.compile(r"\w+")
_NEAR = 0.75
"""As alike as `usre` is to `user`."""


def doubts(config: NodeConfig) -> Iterator[tuple[KeyPath, str]]:
    """(key, what may be wrong with its value) for what the built-in rules are told."""
    for stage in ("ingress", "egress", "store"):
        for index, rule in enumerate(getattr(config.plugins, stage)):
            if rule.module == "rules":
                yield from doubts_of_rules(rule.config, ("plugins", stage, index, "config"))


def doubts_of_rules(config: dict[str, Any], above: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """The same for one configuration of theirs, which stands at ``above``; it may be wrong otherwise."""
    steps = config.get("steps")
    for number, step in enumerate(steps if isinstance(steps, list) else ()):
        if not isinstance(step, dict):
            continue
        here = (*above, "steps", number)
        yield from doubts_of_rules(step, here)
        parts = step.get("by")
        for place, part in enumerate(parts if isinstance(parts, list) else ()):
            word = _meant(part)
            if word:
                yield (*here, "by", place), _text(part, word)


def _meant(part: Any) -> str:
    """The word that a path is nearly; empty for those that are clearly paths."""
    if not isinstance(part, str) or part in _WORDS or not _PLAIN.fullmatch(part):
        return ""
    return next(iter(difflib.get_close_matches(part.lower(), _WORDS, 1, _NEAR)), "")


def _text(part: str, word: str) -> str:
    return f"warning: {part!r} is a path of the payload; did you mean {word!r}? If not, write \\{part}"
