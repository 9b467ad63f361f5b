from __future__ import annotations

import math

import pytest

from pytest_gpuperf.model import BudgetMissed, LoadPoint, Poisson, curve_of, unmeasured
from tests.unit.factories import curve, curve_point, run, server_times, window

POINTS = (LoadPoint(8), LoadPoint(1), LoadPoint(2))
SWEPT = curve(
    curve_point(1, p50_ms=2.0, throughput=500.0),
    curve_point(4, p50_ms=4.0, throughput=1000.0),
    curve_point(4, 8, p50_ms=10.0, throughput=3000.0),
)


def test_points_come_in_the_order_asked_for_and_only_where_measured() -> None:
    made = curve_of("serving", POINTS, [run(window(LoadPoint(1)), window(LoadPoint(8)))])
    assert [point.concurrency for point in made] == [8, 1]
    assert len(made) == 2


def test_a_point_takes_all_windows_of_all_runs() -> None:
    runs = [
        run(window(p50_ms=1.0, requests=40), window(p50_ms=1.0, requests=40, visit=1)),
        run(window(p50_ms=1.0, requests=40, errors={"timeout": 2}), index=1, complete=False),
    ]
    (point,) = curve_of("serving", [LoadPoint()], runs)
    assert (point.requests, point.errors) == (120, 2)
    assert point.p50_ms == pytest.approx(1.0, rel=0.005)
    assert point.p50_ns < point.p90_ns < point.p95_ns < point.p99_ns


def test_quantiles_with_too_few_requests_are_told_apart() -> None:
    (point,) = curve_of("serving", [LoadPoint()], [run(window(requests=60))])
    assert point.supported == {"p50", "p90"}


def test_server_times_are_summed_where_all_windows_have_them() -> None:
    (both,) = curve_of(
        "serving", [LoadPoint()], [run(window(server=server_times(10)), window(server=server_times(20)))]
    )
    assert both.server == server_times(30)
    (one,) = curve_of("serving", [LoadPoint()], [run(window(server=server_times(10)), window())])
    assert one.server is None


def test_a_point_is_found_by_its_load() -> None:
    assert SWEPT.at(1).throughput == 500.0
    assert SWEPT.at(4).batch_size == 1
    assert SWEPT.at(4, 8).throughput == 3000.0


@pytest.mark.parametrize(("concurrency", "batch_size", "named"), [(2, None, "2"), (1, 8, "8")])
def test_a_load_that_was_not_swept_is_named(concurrency: int, batch_size: int | None, named: str) -> None:
    with pytest.raises(KeyError, match=f"serving was not swept .*{named}"):
        SWEPT.at(concurrency, batch_size)


def test_the_best_point_is_the_fastest_within_the_budget() -> None:
    assert SWEPT.best().throughput == 3000.0
    assert SWEPT.best(p50_ms=5).throughput == 1000.0
    assert SWEPT.best(p50_ms=5, p99_ms=3.0).throughput == 500.0
    assert SWEPT.best(p50_ms=2.0).throughput == 500.0


@pytest.mark.parametrize("name", ["p50", "p90", "p95", "p99"])
def test_every_percentile_can_be_a_budget(name: str) -> None:
    limit = getattr(SWEPT.at(4), f"{name}_ms")
    assert SWEPT.best(**{f"{name}_ms": limit}) == SWEPT.at(4)
    assert SWEPT.best(**{f"{name}_ms": limit * 0.999}) == SWEPT.at(1)


def test_a_missed_budget_fails_the_test_and_says_what_was_measured() -> None:
    with pytest.raises(BudgetMissed) as caught:
        SWEPT.best(p90_ms=1)
    assert isinstance(caught.value, AssertionError)
    message = str(caught.value)
    assert "p90 <= 1 ms" in message
    assert "concurrency 1: p90 2.4 ms" in message
    assert "concurrency 4, batch 8: p90 12 ms" in message


def test_a_smoke_run_keeps_every_budget_and_says_that_it_measured_nothing() -> None:
    smoked = unmeasured("serving", POINTS)
    assert not smoked.measured
    assert [point.concurrency for point in smoked] == [8, 1, 2]
    best = smoked.best(p50_ms=0.001, p99_ms=0.001)
    assert best.throughput == math.inf
    assert smoked.at(2).p90_ms == 0.0


class TestOpenLoop:
    RATES = (LoadPoint.open_loop(Poisson(100)), LoadPoint.open_loop(Poisson(500)))

    def test_points_of_one_rate_each(self) -> None:
        made = curve_of("serving", self.RATES, [run(*map(window, self.RATES))])
        assert [point.throughput for point in made] == [pytest.approx(100), pytest.approx(500)]
        assert made.best(p99_ms=10).throughput == pytest.approx(500)

    def test_a_missed_budget_names_the_rate(self) -> None:
        made = curve_of("serving", self.RATES, [run(*map(window, self.RATES))])
        with pytest.raises(BudgetMissed, match=r"500/s poisson: p90 "):
            made.best(p90_ms=0.001)

    def test_a_smoke_run_has_them_too(self) -> None:
        assert len(unmeasured("serving", self.RATES)) == 2
