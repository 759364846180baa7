"""What the commands share."""

from __future__ import annotations

import sys
from typing import NoReturn


def fail(text: str) -> NoReturn:
    """End with a message; exit code 1."""
    print(f"geomq: {text}", file=sys.stderr)
    raise SystemExit(1)
