"""Schedules from seeds over the real lanes, ways, gateways and outboxes."""

from __future__ import annotations

import pytest

from tests.simulator import schedule

_EACH = 100


@pytest.mark.parametrize("first", range(0, 1000, _EACH))
def test_schedules(first: int) -> None:
    for seed in range(first, first + _EACH):
        try:
            schedule.run(seed)
        except AssertionError as error:
            pytest.fail(f"{error}; again with: python -m tests.simulator --seed {seed} --trace")


def test_same_seed_gives_the_same_run() -> None:
    runs: list[list[str]] = []
    for _ in range(2):
        lines: list[str] = []
        schedule.run(17, lines.append)
        runs.append(lines)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 40
