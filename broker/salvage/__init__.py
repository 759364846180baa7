"""Damaged SQLite files: found, set aside under another name, never deleted; and what they still give."""

from broker.salvage.replace import file_problems, last_written, open_sound
from broker.salvage.soundness import (
    Prepare,
    check,
    check_tables,
    check_text,
    is_damage,
    kinds_of,
    problems,
    problems_of,
)

__all__ = [
    "Prepare",
    "check",
    "check_tables",
    "check_text",
    "file_problems",
    "is_damage",
    "kinds_of",
    "last_written",
    "open_sound",
    "problems",
    "problems_of",
]
