"""What operators see: rates, alarms, the mesh put together from its nodes' answers."""

from __future__ import annotations

from typing import Any

import pytest

from broker.cli.mesh_figures import accounts, of_node, overview
from edge_mesh.alarms import OutboxAlarms
from edge_mesh.rates import Rates

DAY = 24 * 3600.0


def test_rate_nears_a_steady_one_and_falls_to_nothing() -> None:
    rates = Rates(2)
    rates.update((1000, 0), 100.0)
    assert rates.per_second == [0.0, 0.0]
    for tick in range(1, 61):
        rates.update((1000 + 50 * tick, 0), 100.0 + tick / 2)
    assert rates.per_second == pytest.approx([100.0, 0.0], rel=0.01)
    rates.update((4000, 0), 130.0)
    assert rates.per_second[0] == pytest.approx(100.0, rel=0.01), "no time has passed"
    rates.update((4000, 0), 190.0)
    assert rates.per_second[0] < 0.01


def alarms_at(alarms: OutboxAlarms, size: int, overflowed: int = 0, **ages: float) -> list[str]:
    return alarms.update(size, 1000, overflowed, ages, DAY)


def test_filling_is_told_once_and_when_it_is_over() -> None:
    alarms = OutboxAlarms(5)
    assert alarms_at(alarms, 800, 5) == []
    (line,) = alarms_at(alarms, 801, 5)
    assert "80%" in line
    assert alarms_at(alarms, 950, 5) == alarms_at(alarms, 700, 5) == alarms_at(alarms, 600, 5) == []
    (line,) = alarms_at(alarms, 599, 5)
    assert line == "the outbox has room again, it is filled to 60%"
    assert not alarms.filled
    assert len(alarms_at(alarms, 900, 5)) == 1
    assert alarms.as_dict() == {"filled": True, "dropping": False, "late": [], "raised": 2}


def test_dropping_is_told_once_until_there_is_room_again() -> None:
    alarms = OutboxAlarms(0)
    filled, dropping = alarms_at(alarms, 1000, 3)
    assert "filled" in filled
    assert "(3 so far)" in dropping
    assert alarms_at(alarms, 1000, 9) == []
    (over,) = alarms_at(alarms, 100, 10)
    assert over.endswith("filled to 10%; 10 messages were dropped")
    assert len(alarms_at(alarms, 1000, 11)) == 2
    (over,) = alarms_at(alarms, 100, 11)
    assert over.endswith("; 1 messages were dropped")
    assert alarms.raised == 4


def test_each_destination_is_late_once() -> None:
    alarms = OutboxAlarms(0)
    assert alarms_at(alarms, 0, b=DAY / 2, c=0.0) == []
    (line,) = alarms_at(alarms, 0, b=DAY / 2 + 1, c=0.0)
    assert "node b" in line
    (line,) = alarms_at(alarms, 0, b=DAY, c=DAY)
    assert "node c" in line
    assert alarms_at(alarms, 0, b=0.0, c=DAY) == []
    assert alarms.as_dict()["late"] == ["c"]
    assert len(alarms_at(alarms, 0, b=DAY, c=DAY)) == 1


def peer(name: str, since: float = 1.0, **changes: int) -> dict[str, Any]:
    dropped = {"age": 1, "overflow": 2, "forgotten": 0}
    ledger = {"accepted": 10, "acknowledged": 4, "queued": 2, "expired": 1, "dropped": dropped} | changes
    return {
        "name": name,
        "region": f"at-{since:g}",
        "alive": False,
        "since": since,
        "backlog": 2,
        "ledger": ledger,
    }


def test_ledger_that_does_not_balance_is_marked() -> None:
    statuses = {"a": {"peers": [peer("b"), peer("c", accepted=11)]}, "b": {"peers": []}}
    assert [(found["destination"], found["balanced"]) for found in accounts(statuses)] == [
        ("b", True),
        ("c", False),
    ]


def test_forgotten_nodes_have_accounts_too() -> None:
    ledger = peer("gone")["ledger"]
    statuses = {"a": {"peers": [peer("b")], "mesh": {"forgotten": {"gone": ledger}}}, "b": {"mesh": None}}
    assert [(found["destination"], found["forgotten"]) for found in accounts(statuses)] == [
        ("b", False),
        ("gone", True),
    ]


def test_what_concerns_one_node() -> None:
    statuses: dict[str, dict[str, Any]] = {name: {"region": f"r{name}", "peers": []} for name in "abc"}
    statuses["a"]["peers"] = [peer("b"), peer("c")]
    statuses["c"]["peers"] = [peer("a"), peer("b")]
    mesh = of_node(overview(statuses), "b")
    assert [node["name"] for node in mesh["nodes"]] == ["b"]
    assert [region["region"] for region in mesh["regions"]] == ["rb"]
    assert [(link["node"], link["peer"]) for link in mesh["links"]] == [("a", "b"), ("c", "b")]


def test_node_whose_name_is_another_ones_is_told_apart_and_in_no_region() -> None:
    statuses = {
        "a": {"region": "r", "peers": []},
        "a (refused)": {"region": "far", "refused": True, "peers": [peer("b")], "regions": []},
    }
    mesh = overview(statuses)
    assert [(node["name"], node["there"], node["refused"]) for node in mesh["nodes"]] == [
        ("a (refused)", False, True),
        ("a", True, False),
    ]
    assert [region["region"] for region in mesh["regions"]] == ["r"]
    assert mesh["links"] == []
    assert [found["node"] for found in accounts(statuses)] == ["a (refused)"], "its outbox may hold something"


def test_node_that_does_not_answer_is_away_and_stands_where_it_was_seen_last() -> None:
    towards = {"name": "at-2", "gateway": "gone", "sent": 3, "sent_bytes": 400}
    statuses = {
        "a": {"region": "r", "peers": [peer("b"), peer("gone", 1.0)], "regions": [towards]},
        "b": {"region": "r", "peers": [peer("gone", 2.0)], "regions": [towards | {"gateway": None}]},
    }
    mesh = overview(statuses)
    assert [(node["name"], node["region"], node["there"]) for node in mesh["nodes"]] == [
        ("gone", "at-2", False),
        ("a", "r", True),
        ("b", "r", True),
    ]
    assert mesh["regions"] == [
        {"region": "at-2", "nodes": 1, "there": 0, "gateway": "gone", "received": 6, "received_bytes": 800},
        {"region": "r", "nodes": 2, "there": 2, "gateway": None, "received": 0, "received_bytes": 0},
    ]
    assert [(link["node"], link["peer"]) for link in mesh["links"]] == [
        ("a", "b"),
        ("a", "gone"),
        ("b", "gone"),
    ]
