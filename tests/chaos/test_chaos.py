"""A few rounds of `make chaos`: nothing acknowledged is lost, nothing at QoS 2 doubled."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.brokers import GeoMq
from tests.chaos.powercut import PowerCut
from tests.chaos.rounds import play


@pytest.mark.spec("MQTT-4.1.0-1", "MQTT-4.3.2-4", "MQTT-4.3.3-10", "MQTT-4.4.0-1", "MQTT-3.1.2-8")
async def test_killed_node_keeps_its_promises(tmp_path: Path) -> None:
    account = await play(GeoMq(tmp_path), 10, seed=random.randrange(1 << 30))
    assert account.is_clean, account
    assert account.acknowledged > 500
    assert account.wills_promised > 5


async def test_power_cuts_change_nothing_about_that(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "data").mkdir()
    power = PowerCut(tmp_path / "data", scratch)
    account = await play(GeoMq(tmp_path, power.environment), 4, random.randrange(1 << 30), power)
    assert account.is_clean, account
    assert power.sectors_lost > 0, "something was on its way to the disk"
