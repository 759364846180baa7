"""A few rounds of `make chaos`: nothing acknowledged is lost, nothing at QoS 2 doubled."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos.brokers import GeoMq
from tests.chaos.powercut import PowerCut
from tests.chaos.rounds import Account, play


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
    assert not list((tmp_path / "data").glob("*.damaged-*")), "a torn log is no damaged one"


def test_all_brokers_go_through_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, list[tuple[object, ...]]] = {"GeoMQ": [], "Mosquitto": []}

    def run(broker: str, rounds: int, seed: int, power_cuts: bool = False) -> Account:
        asked[broker].append((rounds, seed, power_cuts))
        return Account(rounds=rounds)

    written: list[str] = []
    monkeypatch.setattr(chaos, "run", run)
    monkeypatch.setattr(chaos, "write", lambda text, begin, end: written.append(text))
    chaos.main(["--rounds", "7", "--power-cuts", "3"])
    assert asked["GeoMQ"] == asked["Mosquitto"] == [(7, 1, False), (3, 1, True)]
    assert "| rounds | 7 | 3 | 7 | 3 |" in written[0]
    assert written[0] in capsys.readouterr().out
