"""The command `geomq`."""

from broker.cli.main import app, main

__all__ = ["app", "main"]
