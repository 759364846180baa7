"""Telling once that the last of several things has happened."""

from __future__ import annotations

from collections.abc import Callable


class Joint:
    """``then`` is called when as many have arrived as were expected, at least one."""

    __slots__ = ("_then", "left")

    def __init__(self, then: Callable[[], None] | None, left: int = 0) -> None:
        self._then = then
        self.left = left

    def expect(self, count: int) -> None:
        """So many more are to arrive."""
        self.left += count

    def arrived(self, count: int = 1) -> None:
        """So many have arrived."""
        self.left -= count
        if not self.left and self._then is not None:
            self._then()
