"""Schedules from seeds over whole meshes: the real mesh on simulated links, clocks and disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator import schedule

_EACH = 50
_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("first", range(0, 150, _EACH))
def test_schedules(first: int) -> None:
    for seed in range(first, first + _EACH):
        try:
            schedule.run(seed)
        except AssertionError as error:
            pytest.fail(f"{error}; again with: python -m tests.simulator --seed {seed} --trace")


def test_same_seed_gives_the_same_run_in_another_process() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", "from tests.simulator import schedule; schedule.run(17, print)"],
            cwd=_ROOT,
            env=os.environ | {"PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for number in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].count("publishes") > 40
