"""Dates cut to a unit, beside Python's datetime."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.plugins.leaf import Leaf

UNITS = ["hour", "day", "month", "year"]
CUT = {unit: Leaf("date_text", unit=number) for number, unit in enumerate(UNITS)}
ZONES = st.sampled_from(["", "Z", "z", "+02:00", "-0330", "+08", " +02:00"])
TIMES = ["%H", "%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%H:%M:%S,%f"]


def cut(moment: datetime, unit: str) -> datetime:
    moment = moment.replace(minute=0, second=0, microsecond=0)
    if unit != "hour":
        moment = moment.replace(hour=0)
    if unit in ("month", "year"):
        moment = moment.replace(day=1)
    return moment.replace(month=1) if unit == "year" else moment


def written(moment: datetime, form: str) -> str:
    return moment.strftime(form.replace("%Y", f"{moment.year:04d}"))


@settings(deadline=None)
@given(
    st.datetimes(),
    st.sampled_from(UNITS),
    st.sampled_from(["%Y-%m-%dT", "%Y-%m-%d ", "%Y%m%dT"]),
    st.sampled_from([*TIMES, "%H%M", "%H%M%S", "%H%M%S.%f"]),
    ZONES,
)
def test_times_keep_their_form(moment: datetime, unit: str, day: str, time: str, zone: str) -> None:
    assert CUT[unit](written(moment, day + time) + zone) == written(cut(moment, unit), day + time) + zone


@settings(deadline=None)
@given(
    st.datetimes(),
    st.sampled_from(UNITS),
    st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y-%m", "%Y", "%Y%m%d%H%M%S"]),
)
def test_dates_keep_their_form(moment: datetime, unit: str, form: str) -> None:
    assert CUT[unit](written(moment, form)) == written(cut(moment, unit), form)


@pytest.mark.parametrize(
    "text", ["2024-02-29", "2000-02-29T24:00", "2016-12-31T23:59:60Z", "2024-12-31T00:00:00.0"]
)
def test_dates_that_are_seldom(text: str) -> None:
    assert (
        CUT["month"](text)
        == {
            "2024-02-29": "2024-02-01",
            "2000-02-29T24:00": "2000-02-01T00:00",
            "2016-12-31T23:59:60Z": "2016-12-01T00:00:00Z",
            "2024-12-31T00:00:00.0": "2024-12-01T00:00:00.0",
        }[text]
    )


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "now",
            "17.05.2024",
            "05/17/2024",
            "2024-W20-5",
            "2024-138",
            "24-05-17",
            "2024-5-17",
            "2024-13-01",
        ],
        *[
            "2024-00-01",
            "2023-02-29",
            "1900-02-29",
            "2024-04-31",
            "2024-05-17T",
            "2024-05T12:00",
            "2024-05-17T25:00",
        ],
        *[
            "2024-05-17T24:01",
            "2024-05-17T12:60",
            "2024-05-17T12:00:61",
            "2024-05-17T12:00:00.",
            "2024-05-17X12:00",
        ],
        *[
            "2024-05-17T12:00+",
            "2024-05-17T12:00+2",
            "2024-05-17T12:00+24:00",
            "2024-05-17T12:00Zulu",
            " 2024-05-17",
        ],
        *[
            "2024-05-17 12:00 at home",
            "20240517 ",
            "202405171345",
            "2024051713451",
            "+12024-05-17",
            "2024-05-17T12:0",
        ],
        *["1715953512", "2024-05-17T1:00", "2024-05-17T12:00 ", "2024-0517", "202405"],
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    assert CUT["hour"](text) is None


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_are_survived(value: bytes) -> None:
    (result,) = CUT["year"].mask_all([value])
    assert result is None or len(result) == len(value)


OFFSETS = st.integers(-14 * 4, 14 * 4).map(lambda quarters: quarters * 900)


def cut_number(unit: str, offset: int, value: str) -> str | None:
    settings = {"unit": UNITS.index(unit), "offset": abs(offset), "west": offset < 0}
    return Leaf("date_number", **settings)(value)


@settings(deadline=None)
@given(st.datetimes(datetime(1, 1, 3), datetime(5000, 1, 1)), st.sampled_from(UNITS), OFFSETS)
@example(datetime(2000, 2, 29), "year", 0)
@example(datetime(2100, 3, 1), "year", 0)
@example(datetime(2024, 1, 1), "month", -3600)
def test_seconds_are_cut_in_their_zone(moment: datetime, unit: str, offset: int) -> None:
    moment = moment.replace(microsecond=0, tzinfo=timezone(timedelta(seconds=offset)))
    assert cut_number(unit, offset, str(int(moment.timestamp()))) == str(int(cut(moment, unit).timestamp()))


@settings(deadline=None)
@given(
    st.datetimes(datetime(1975, 1, 1), datetime(2200, 1, 1)),
    st.sampled_from(UNITS),
    st.sampled_from([3, 6, 9]),
)
def test_finer_numbers_stay_in_their_unit(moment: datetime, unit: str, digits: int) -> None:
    moment = moment.replace(tzinfo=UTC)
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    seconds = int(cut(moment, unit).timestamp())
    assert cut_number(unit, 0, str(micros * 1000 // 10 ** (9 - digits))) == str(seconds * 10**digits)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("1715953512.987", "1715904000"),
        ("1.715953512e9", "1715904000"),
        ("1715953512987.5", "1715904000000"),
        ("-0.5", "-86400"),
        ("-1", "-86400"),
        ("0", "0"),
        ("1e99", None),
        ("9223372036854775790", "9223286400000000000"),
        ("9223372036854775808", None),
        ("99999999999999999999", None),
    ],
)
def test_numbers_of_other_forms(number: str, expected: str | None) -> None:
    assert cut_number("day", 0, number) == expected
