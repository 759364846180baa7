"""A small mesh's costs can be measured, and add up."""

from __future__ import annotations

from collections import Counter

from tests.scale.growth import measure, node_interest


def test_small_mesh() -> None:
    costs = measure(10, 5000)
    # Nothing is covered by anything else, and no node is past its bound.
    assert costs.told == 5000
    assert costs.join_bytes > 4500 * len("fleet/1/100/commands")
    assert 40 < costs.subscribe_bytes < 200
    assert min(costs.subscribe, costs.hear, costs.join, costs.publish) > 0


def test_what_is_past_the_bound_is_widened() -> None:
    costs = measure(2, 24_000)
    assert costs.told <= 20_000


def test_positions_are_those_of_all_nodes_alike() -> None:
    told = node_interest(3, 10, 1000, 10_000).snapshot().added
    positions = [name.split("/")[1] for name in told if name.endswith("/position")]
    assert Counter(positions) == {str(number): 10 for number in range(10)}
