"""Positions moved to the middle of a cell, beside exact arithmetic and the ellipsoid's formulas."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.plugins.leaf import Leaf

A, E2 = 6378137.0, 0.0066943799901413165  # WGS 84: the half axis and the square of the eccentricity

LATITUDES = st.decimals(-90, 90, places=7)
LONGITUDES = st.decimals(-180, 180, places=7)
DEGREES = st.sampled_from(["0.00001", "0.001", "0.01", "0.25", "0.7", "1", "45", "90"])
METRES = st.sampled_from(["1", "50", "1000", "12345.678", "500000", "5000000"])
SIZES = st.tuples(st.just("degrees"), DEGREES) | st.tuples(st.just("metres"), METRES)


def moved(size: tuple[str, str], latitude: object, longitude: object) -> tuple[Decimal, Decimal]:
    result = Leaf("grid", **{size[0]: size[1]})(f"{latitude} {longitude}")
    assert result is not None
    assert re.fullmatch(r"-?[0-9]{1,2}(\.[0-9]{0,7}[1-9])? -?[0-9]{1,3}(\.[0-9]{0,7}[1-9])?", result), result
    north, east = result.split()
    return Decimal(north), Decimal(east)


def at_least(size: tuple[str, str]) -> tuple[float, float]:
    """How many degrees a cell has at least: of latitude, and of longitude at the equator."""
    if size[0] == "degrees":
        return float(size[1]), float(size[1])
    metres = float(size[1])
    return metres / math.radians(A * (1 - E2)), metres / math.radians(A)


@settings(deadline=None)
@given(SIZES, LATITUDES, LONGITUDES)
def test_moving_twice_is_moving_once(size: tuple[str, str], latitude: Decimal, longitude: Decimal) -> None:
    once = moved(size, f"{latitude:f}", f"{longitude:f}")
    assert moved(size, *(f"{part:f}" for part in once)) == once


@settings(deadline=None)
@given(SIZES, LATITUDES, LONGITUDES)
def test_is_the_middle_of_the_cell(size: tuple[str, str], latitude: Decimal, longitude: Decimal) -> None:
    """Rows and cells counted anew."""
    height, width = at_least(size)
    rows = math.floor(180 / height * (1 + 1e-12))
    north, east = moved(size, f"{latitude:f}", f"{longitude:f}")
    row = (Fraction(latitude) + 90) * rows / 180
    assume(rows in (1, 2) or abs(row - round(row)) > 1e-6)
    index = min(math.floor(row), rows - 1)
    edge = max(abs(Fraction(index * 180, rows) - 90), abs(Fraction((index + 1) * 180, rows) - 90))
    around = 360 / width * math.cos(math.radians(edge)) * (1 - 1e-9)
    # The module's metres of a degree have 12 digits: where so little decides how many cells there are, it may differ.
    assume(abs(around - round(around)) > 1e-11 * around)
    cells = max(1, math.floor(around))
    cell = (Fraction(longitude) + 180) * cells / 360
    assume(abs(cell - round(cell)) > 1e-6)
    slack = Fraction(1, 180) if height >= 1 else Fraction(height) / 15
    assert abs(Fraction(north) - (Fraction(2 * index + 1) * 90 / rows - 90)) <= slack
    assert abs(Fraction(east) - (Fraction(2 * math.floor(cell) + 1) * 180 / cells - 180)) <= slack


@settings(deadline=None)
@given(METRES, LATITUDES, LONGITUDES)
def test_cells_are_as_wide_as_asked(metres: str, latitude: Decimal, longitude: Decimal) -> None:
    """Twice the way from a cell's middle to its edge, on the ellipsoid, at its end towards the pole."""
    size = ("metres", metres)
    north, east = moved(size, f"{latitude:f}", f"{longitude:f}")
    step_north, _ = at_least(size)
    edge = math.radians(min(90.0, abs(float(north)) + step_north / 2))
    metres_a_degree = math.radians(A * math.cos(edge) / math.sqrt(1 - E2 * math.sin(edge) ** 2))
    width = float(metres) / metres_a_degree if metres_a_degree > 1e-9 else 360.0
    inside = Decimal(width * 0.49).quantize(Decimal("1e-8"))
    for other in (east - inside, east + inside):
        if width < 360 and abs(other) <= 180:
            assert moved(size, f"{north:f}", f"{other:f}") == (north, east)
    up = Decimal(step_north * 0.49).quantize(Decimal("1e-8"))
    if abs(north) + up <= 90:
        assert moved(size, f"{north + up:f}", f"{east:f}")[0] == north


def test_cells_grow_towards_the_pole() -> None:
    steps = []
    for latitude in ("0.5", "60.5", "80.5", "89.9"):
        places = [f"{latitude} {i / 20}".encode() for i in range(3599)]
        middles = Leaf("grid", degrees="0.5").mask_all(places)
        found = sorted({Decimal((middle or b"").split()[1].decode()) for middle in middles})
        steps.append(found[1] - found[0] if len(found) > 1 else Decimal(360))
    assert steps == sorted(steps)
    assert steps[0] < Decimal("0.51")
    assert Decimal("1") < steps[1] < Decimal("1.1")
    assert steps[3] > 40


@pytest.mark.parametrize(
    ("degrees", "position", "expected"),
    [
        ("0.01", "52.5163 13.3777", "52.515 13.3778"),
        ("0.1", "52.5163 13.3777", "52.55 13.422"),
        ("1", "0 0", "0.5 0"),
        ("1", "-0.0 -1e-9", "0.5 0"),
        ("90", "12 34", "45 0"),
        ("1", "90 180", "89.5 0"),
        ("1", "-90 -180", "-89.5 0"),
        ("0.00001", "5.0e1 1E1", "50.000005 9.9999927"),
    ],
)
def test_positions(degrees: str, position: str, expected: str) -> None:
    assert Leaf("grid", degrees=degrees)(position) == expected


@pytest.mark.parametrize(
    "position", ["90.000000001 0", "-91 0", "0 180.0001", "0 -181", "1e300 0", "123456789012 0"]
)
def test_places_that_are_not_on_earth_are_refused(position: str) -> None:
    assert Leaf("grid", degrees="1")(position) is None
