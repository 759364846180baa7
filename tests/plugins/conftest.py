"""What tests of rules have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.plugins.bench import Bench
from tests.plugins.rules import Shop


@pytest.fixture
async def benches() -> AsyncIterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        await bench.stages.stop()


@pytest.fixture
def make() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.close()
