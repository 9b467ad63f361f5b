from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.cost.operating_points import operating_points
from pytest_gpuperf.model import LoadPoint, Record, Run, Window
from tests.unit.factories import SINGLE, TEST, record, run, window

RATE = LoadPoint(0, 2, 100.0, "poisson")


def of(*runs: Run) -> Record:
    return replace(record(), runs=runs)


def test_the_slowest_run_counts() -> None:
    result = operating_points([record([[2.0], [4.0], [2.5]], requests=200)])
    (point,) = result.points
    assert (result.test, point.point, point.runs) == (TEST, SINGLE, 3)
    assert point.throughput == pytest.approx(250)
    assert point.latency_ns["p50"] == pytest.approx(4e6, rel=0.01)
    assert point.throughput_range == pytest.approx((250, 500))
    assert point.latency_range_ns["p50"] == pytest.approx((2e6, 4e6), rel=0.01)


def test_runs_of_several_records_are_combined() -> None:
    quick, slow = record([[2.0]] * 3, name="a"), record([[3.0]] * 3, name="b", minute=1)
    (point,) = operating_points([slow, quick]).points
    assert point.runs == 6
    assert point.throughput == pytest.approx(1e3 / 3)


def test_a_quantile_that_no_run_supports_is_read_from_all_runs_or_left_out() -> None:
    (point,) = operating_points([record([[2.0]] * 3, requests=20)]).points
    assert set(point.latency_ns) == {"p50", "p90"}  # 20 requests a run: p90 takes 50
    assert point.latency_range_ns["p90"][0] == point.latency_range_ns["p90"][1]


def test_open_loop_throughput_is_the_sustained_rate() -> None:
    sustained = of(run(window(RATE, requests=500, throughput=197.0)))
    (point,) = operating_points([sustained]).points
    assert point.throughput == 200.0


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        (window(RATE, requests=5000, throughput=180.0), "the rate was not sustained"),
        (window(requests=100, errors={"timeout": 5}), "5 of 105 requests failed"),
        (window(requests=0, throughput=0.0), "no request was answered in some run"),
    ],
)
def test_unreliable_points_are_named(spoilt: Window, why: str) -> None:
    result = operating_points([of(run(spoilt))])
    assert result.points == ()
    assert result.left_out[0].endswith(why)


def test_incomplete_runs_are_left_out() -> None:
    result = operating_points([of(run(window(p50_ms=2.0)), run(window(p50_ms=9.0), index=1, complete=False))])
    assert result.points[0].throughput == pytest.approx(500)


def test_operating_points_need_a_record() -> None:
    with pytest.raises(ValueError, match="one record or more"):
        operating_points([])
