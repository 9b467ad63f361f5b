from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_gpuperf.model import Comparison, Verdict
from pytest_gpuperf.report.comparison_table import row_table
from pytest_gpuperf.report.figures import (
    change,
    confidence,
    confidences,
    duration,
    figure,
    interval,
    interval_with_level,
    minutes_seconds,
    plural,
    rate,
    short_interval,
)
from pytest_gpuperf.report.notes import interval_notes
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


def test_an_interval_has_one_notation_throughout() -> None:
    assert interval(row(ratio=6.09, low=1.67, high=22.0)) == "x6.1 [x1.7, x22]"
    assert short_interval(row(ratio=6.09, low=0.0421, high=1e21)) == "x6.1 [x0.042, x1000+]"


@pytest.mark.parametrize(
    ("level", "text"),
    [(0.95, "95%"), (0.975, "97.5%"), (0.998, "99.8%"), (0.9997, "99.97%"), (0.5, "50%"), (1, "100%")],
)
def test_a_confidence_differs_visibly_from_certainty(level: float, text: str) -> None:
    assert confidence(level) == text


def test_the_level_of_an_interval_is_named() -> None:
    sweep, point = (replace(row(ratio=1.5, low=1.4, high=1.62), confidence=level) for level in (0.994, 0.9997))
    assert interval_with_level(point) == "+50% (99.97% interval +40% to +62%)"
    assert confidences([sweep]) == "99.4%"
    assert confidences([sweep, point]) == "99.4 to 99.97%"
    assert row_table([sweep, point], ("metric", "change")).titles == ("metric", "change [99.4 to 99.97%]")
    note = ["intervals [ ] are wide enough to keep the risk of any false alarm at 5%"]
    assert interval_notes(Comparison(Verdict.REGRESSED, rows=(sweep, point))) == note
    assert interval_notes(Comparison(Verdict.REGRESSED, rows=(row(),))) == []


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
