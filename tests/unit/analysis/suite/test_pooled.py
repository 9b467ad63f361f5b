from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.suite.pooled import pooled_test
from pytest_gpuperf.analysis.values import RecordValues, values_from_numbers, values_of
from pytest_gpuperf.model import PooledRecord, PooledSeries, PooledTest
from tests.unit.factories import record


def numbers(name: str, *runs: dict[str, float]) -> RecordValues:
    """The values of a record whose p50 is e to the power of these numbers, by run and load point."""
    return values_from_numbers(name, [{at: {"p50": math.exp(log)} for at, log in run.items()} for run in runs])


def p50(pooled: PooledTest) -> PooledSeries:
    return next(series for series in pooled.series if series.metric == "p50")


def test_means_are_over_the_load_points_and_runs_of_each_record() -> None:
    values = [numbers("new", {"c1": 1.0, "c2": 3.0}, {"c1": 1.2, "c2": 3.2}), numbers("old", {"c1": 2.0, "c2": 6.0})]
    assert p50(pooled_test("t", values)).means == pytest.approx((2.1, 4.0))


def test_records_keep_their_order_and_say_where_they_were_measured() -> None:
    values = [
        replace(numbers("new", {"c1": 1.0}), device="GPU-1", invocation="i2"),
        replace(numbers("old", {"c1": 1.0}), device="GPU-2", invocation="i1"),
    ]
    pooled = pooled_test("t", values)
    assert pooled.test == "t"
    assert pooled.records == (PooledRecord("new", "i2", "GPU-1"), PooledRecord("old", "i1", "GPU-2"))


def test_the_run_variance_is_that_of_the_mean_and_pooled_over_records() -> None:
    # Means of the runs: 1.0, 1.2 with a variance of 0.02; then 2.0, 2.3, 2.6 with 0.09, and twice the freedom.
    values = [
        numbers("new", {"c1": 0.0, "c2": 2.0}, {"c1": 0.7, "c2": 1.7}),
        numbers("old", {"c1": 1.0, "c2": 3.0}, {"c1": 1.3, "c2": 3.3}, {"c1": 1.6, "c2": 3.6}),
    ]
    series = p50(pooled_test("t", values))
    assert (series.run_variance, series.run_freedom) == pytest.approx(((0.02 + 2 * 0.09) / 3, 3.0))


def test_the_point_variance_is_what_points_differ_by_from_their_mean() -> None:
    shared = [numbers("a", {"c1": 1.0, "c2": 2.0}), numbers("b", {"c1": 1.5, "c2": 2.5})]
    assert p50(pooled_test("t", shared)).point_variance == pytest.approx(0.0)
    # The points differ from the mean by -0.5, 0.5 and then by -0.7, 0.7: each with a variance of 0.02.
    apart = [numbers("a", {"c1": 1.0, "c2": 2.0}), numbers("b", {"c1": 1.0, "c2": 2.4})]
    assert p50(pooled_test("t", apart)).point_variance == pytest.approx(0.02)


def test_a_point_that_few_records_have_does_not_count() -> None:
    values = [numbers("new", {"c1": 1.0, "c2": 2.0, "c9": 9.0}), *[numbers("old", {"c1": 1.0, "c2": 2.0})] * 3]
    assert p50(pooled_test("t", values)).means == pytest.approx((1.5, 1.5, 1.5, 1.5))


def test_a_record_without_a_common_point_has_no_mean() -> None:
    values = [numbers("new", {"c1": 1.0}), *[numbers("old", {"c1": 1.0, "c2": 2.0})] * 2]
    series = p50(pooled_test("t", values))
    assert series.means[0] is None
    assert series.means[1:] == pytest.approx((1.5, 1.5))


@pytest.mark.parametrize("logs", [[1.0], [1.0, 1.5]])
def test_a_single_point_is_its_own_mean(logs: list[float]) -> None:
    series = p50(pooled_test("t", [numbers("r", {"c1": log}) for log in logs]))
    assert series.means == pytest.approx(tuple(logs))
    assert (series.point_variance, series.run_freedom) == (0.0, 0.0)


def test_sweeps_and_metrics_are_apart() -> None:
    pooled = pooled_test("t", [values_of(record([[1.0, 2.0]] * 2))])
    assert {(series.sweep, series.metric) for series in pooled.series} == {
        ("serving", "p50"),
        ("serving", "p90"),
        ("serving", "throughput"),
    }


def test_nothing_measured_is_nothing_shown() -> None:
    assert pooled_test("t", []) == PooledTest("t", (), ())
    assert pooled_test("t", [RecordValues("r", {})]) == PooledTest("t", (PooledRecord("r", "", ""),), ())
