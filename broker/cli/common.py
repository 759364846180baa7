"""What the commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from broker.config import ConfigError, NodeConfig, load


def fail(text: str) -> NoReturn:
    """End with a message; exit code 1."""
    print(f"geomq: {text}", file=sys.stderr)
    raise SystemExit(1)


def read_config(path: Path | None) -> NodeConfig:
    """The configuration to use; ConfigError tells every mistake in it."""
    if path is None and os.environ.get("GEOMQ_CONFIG"):
        path = Path(os.environ["GEOMQ_CONFIG"])
    return load(path, os.environ)


def load_config(path: Path | None) -> NodeConfig:
    """The configuration to use; ends the command with every mistake in it."""
    try:
        return read_config(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
