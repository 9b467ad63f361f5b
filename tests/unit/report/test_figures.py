from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_gpuperf.report.figures import change, duration, figure, interval, minutes_seconds, plural, rate
from tests.unit.factories import row

UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


@pytest.mark.parametrize(
    ("ns", "text"),
    [(1.0, "1.00 ns"), (1500.0, "1.50 us"), (12.34e6, "12.34 ms"), (123.4e6, "123.4 ms"), (2e9, "2.00 s")],
)
def test_durations_carry_the_unit_that_people_use(ns: float, text: str) -> None:
    assert duration(ns) == text


@given(st.floats(0, 12.9).map(lambda exponent: 10**exponent))
@example(999_960.0)
@example(99_997.0)
def test_a_duration_has_three_or_four_digits_and_says_what_was_measured(ns: float) -> None:
    number, unit = duration(ns).split()
    assert float(number) * UNITS[unit] == pytest.approx(ns, rel=0.006)
    assert 3 <= sum(character.isdigit() for character in number) <= 4


@pytest.mark.parametrize(
    ("per_s", "text"), [(0.5, "0.50"), (85.714, "85.71"), (300.0, "300.0"), (8862.4, "8862"), (123456.0, "123,456")]
)
def test_rates(per_s: float, text: str) -> None:
    assert rate(per_s) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.0, "+0.0%"),
        (1.032, "+3.2%"),
        (0.951, "-4.9%"),
        (1.0996, "+10%"),
        (1.5, "+50%"),
        (0.5, "-50%"),
        (10.9, "+990%"),
        (12.0, "x12"),
    ],
)
def test_changes_carry_their_sign(ratio: float, text: str) -> None:
    assert change(ratio) == text


def test_an_interval_stands_behind_its_change() -> None:
    assert interval(row(ratio=1.5, low=1.4, high=1.62)) == "+50% [+40%, +62%]"


def test_a_value_has_the_unit_of_its_metric() -> None:
    assert figure("p90", 2.5e6) == "2.50 ms"
    assert figure("throughput", 2500.0) == "2500 inf/s"


@pytest.mark.parametrize(("count", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_plural(count: int, text: str) -> None:
    assert plural(count, "run") == text


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0.0, "0:00"), (-3.0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (754.0, "12:34")]
)
def test_seconds(duration_s: float, text: str) -> None:
    assert minutes_seconds(duration_s) == text
