"""What the commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from broker.config import ConfigError, NodeConfig, Reading, load

SOMETHING_MISSING = 3
"""The exit code where something of what was asked for is missing."""


def fail(text: str) -> NoReturn:
    """End with a message; exit code 1."""
    print(f"geomq: {text}", file=sys.stderr)
    raise SystemExit(1)


def named_file(path: Path | None) -> Path | None:
    """The configuration file that was named on the command line or by $GEOMQ_CONFIG, if any."""
    if path is None and os.environ.get("GEOMQ_CONFIG"):
        return Path(os.environ["GEOMQ_CONFIG"])
    return path


def read_config(path: Path | None) -> NodeConfig:
    """The configuration to use; ConfigError tells every mistake in it."""
    return load(named_file(path), os.environ)


def tell_doubts(reading: Reading) -> None:
    """Print what is seldom meant in a file, and no mistake."""
    for doubt in reading.doubts():
        print(doubt, file=sys.stderr)


def load_config(path: Path | None) -> NodeConfig:
    """The configuration to use; ends the command with every mistake in it."""
    try:
        return read_config(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
