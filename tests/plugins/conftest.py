"""Rules for the tests of the built-in module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.plugins.rules import Shop


@pytest.fixture
def make() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.close()
