"""What tests of rules have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.plugins.bench import Bench


@pytest.fixture
async def benches() -> AsyncIterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        await bench.stages.stop()
