"""The fast half of the fault matrix: nothing acknowledged is lost, nothing at QoS 2 doubled, the order is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.matrix import QUICK, broken, obstacle, play
from tests.faults.stage import Fault


@pytest.mark.parametrize("fault", QUICK, ids=[fault.name for fault in QUICK])
async def test_promises_are_kept(tmp_path: Path, fault: Fault) -> None:
    if reason := obstacle(fault):
        pytest.skip(reason)
    account = await play("GeoMQ", fault, tmp_path)
    assert not broken(fault, account), account
    assert account.acknowledged > 100
