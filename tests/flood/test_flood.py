"""Under each attack: the node stays, its memory is bounded, and a well-behaved client loses nothing and is not cut off.

How fast it is served meanwhile is measured by `make bench`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.nodes import wait_for
from tests.flood.attacks import ATTACKS
from tests.flood.victim import Device, Victim

SECONDS = 4.0
GROWTH = 64 << 20
"""Bytes by which the node may grow under all attacks together: buffers, 20,000 retained messages, 300 strangers."""


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Victim, int]]:
    found = Victim(tmp_path_factory.mktemp("flood"))
    yield found, found.resident
    assert found.node.stop() == 0
    assert "Traceback" not in found.node.log.read_text()


@pytest.mark.parametrize("name", ATTACKS)
async def test_attack(victim: tuple[Victim, int], name: str) -> None:
    node, before = victim
    device = await Device.connect(node.node.mqtt_port)
    attack = node.attack(name, SECONDS)
    try:
        assert len(await device.latencies(SECONDS)) > 10
    finally:
        attack.wait(30)
        await device.close()
    assert attack.returncode == 0
    assert node.resident - before < GROWTH


def test_log_of_all_that_is_small(victim: tuple[Victim, int], tmp_path: Path) -> None:
    node, _ = victim
    text = node.node.log.read_text()
    wait_for(lambda: "slow: client" in node.node.log.read_text(), "the client that never read is named")
    assert len(text) < 200_000
