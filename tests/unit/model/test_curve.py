from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import (
    Budget,
    BudgetMissed,
    Energy,
    LoadPoint,
    Memory,
    Poisson,
    curve_of,
    curves_of,
    smoke_curve,
)
from tests.unit.factories import curve, curve_point, guarded, histogram, run, window

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


def test_quantiles_with_too_few_requests_are_not_supported() -> None:
    (point,) = curve_of("serving", [LoadPoint()], [run(window(requests=60))])
    assert point.supported == {"p50", "p90"}


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


def test_a_required_budget_is_reported_before_the_check_and_a_query_reports_nothing() -> None:
    noted: list[Budget] = []
    swept = replace(SWEPT, on_require=noted.append)
    assert swept.require(p50_ms=5, p99_ms=7) == swept.best(p50_ms=5, p99_ms=7) == SWEPT.require(p50_ms=5, p99_ms=7)
    with pytest.raises(BudgetMissed):
        swept.require(p90_ms=1)
    assert noted == [Budget.of_ms(p50_ms=5, p99_ms=7), Budget.of_ms(p90_ms=1)]


@pytest.mark.parametrize("limits", [{}, {"p90_ms": 0.0}, {"p90_ms": math.nan}])
def test_impossible_budgets_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=r"^require\(\): a l"):
        SWEPT.require(**limits)


def test_a_smoke_run_keeps_every_budget_and_says_that_it_measured_nothing() -> None:
    smoked = smoke_curve("serving", POINTS)
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
        assert [point.load for point in made] == list(self.RATES)
        assert made.best(p99_ms=10).throughput == pytest.approx(500)

    def test_a_point_is_found_by_its_rate_or_its_load(self) -> None:
        made = curve_of("serving", self.RATES, [run(*map(window, self.RATES))])
        assert made.at(rate=500) is made.of(self.RATES[1]) is made.points[1]
        with pytest.raises(KeyError, match="serving was not swept at 200/s"):
            made.at(rate=200)
        with pytest.raises(KeyError, match="serving was not swept at concurrency 4"):
            made.of(LoadPoint(4))

    def test_a_missed_budget_names_the_rate(self) -> None:
        made = curve_of("serving", self.RATES, [run(*map(window, self.RATES))])
        with pytest.raises(BudgetMissed, match=r"500/s poisson: p90 "):
            made.best(p90_ms=0.001)

    def test_a_smoke_run_has_them_too(self) -> None:
        smoked = smoke_curve("serving", self.RATES)
        assert [point.load for point in smoked] == list(self.RATES)

    def test_service_times_and_lateness_stand_beside_the_latency(self) -> None:
        own = [
            replace(window(self.RATES[0], requests=60), service=histogram([2e5] * 60), late=3, lag_p99_ns=1.5e6),
            replace(window(self.RATES[0], requests=40), service=histogram([4e5] * 40), late=2, lag_p99_ns=9.5e6),
        ]
        (point,) = curve_of("serving", self.RATES[:1], [run(*own)])
        assert point.late_share == pytest.approx(0.05)
        assert point.lag_p99_ns == 9.5e6, "the worst window's"
        assert point.service_p50_ns == pytest.approx(2e5, rel=0.006)
        assert point.service_p90_ns == pytest.approx(4e5, rel=0.006)


class TestClient:
    def test_client_cost_is_per_request_and_stalls_are_a_share_of_time(self) -> None:
        own = [
            replace(window(requests=30, window_s=1.0), client_cpu_s=0.03, stall_s=0.1),
            replace(window(requests=70, window_s=3.0), client_cpu_s=0.01, stall_s=0.1),
        ]
        (point,) = curve_of("serving", [LoadPoint()], [run(*own)])
        assert point.client_cpu_per_request_s == pytest.approx(0.0004)
        assert point.stall_share == pytest.approx(0.05)
        assert (point.service_p50_ns, point.late_share, point.first_p50_ns, point.answers) == (0.0, 0.0, 0.0, 0)

    def test_no_requests_cost_nothing(self) -> None:
        (point,) = curve_of("serving", [LoadPoint()], [run(window(requests=0, throughput=0.0))])
        assert point.client_cpu_per_request_s == 0.0


def test_streams_have_first_answer_times_and_a_count_of_answers() -> None:
    own = [replace(window(), first=histogram([1e5] * 60), answers=600), replace(window(), first=None, answers=0)]
    (point,) = curve_of("serving", [LoadPoint()], [run(*own)])
    assert point.first_p50_ns == pytest.approx(1e5, rel=0.006)
    assert point.answers == 600


def test_every_sweep_has_its_curve_in_the_order_of_load() -> None:
    small, large = window(LoadPoint(8)), window(LoadPoint(1, 4))
    runs = [run(large, small, window(LoadPoint(2))), run(window(sweep="other"), sweep="other")]
    assert [(curve.name, [point.load for point in curve]) for curve in curves_of(runs)] == [
        ("serving", [LoadPoint(2), LoadPoint(8), LoadPoint(1, 4)]),
        ("other", [LoadPoint()]),
    ]


def test_energy_and_memory_of_a_point_are_those_of_its_windows() -> None:
    energy = (Energy("gpu", "nvml-counter", 50.0), Energy("cpu", "rapl", 5.0))
    one = replace(window(), energy=energy, memory=Memory(10, 100, 1000))
    other = replace(window(), energy=energy, memory=Memory(20, 90, None))
    (point,) = curve_of("serving", [LoadPoint()], [run(one, other)])
    assert point.gpu_energy_j == pytest.approx(0.1)
    assert point.cpu_energy_j == pytest.approx(0.01)
    assert point.energy_method == "nvml-counter+rapl"
    assert (point.target_memory_bytes, point.device_memory_bytes, point.host_memory_bytes) == (20, 100, 1000)


def test_unmeasured_resources_are_none_and_never_zero() -> None:
    (point,) = curve_of("serving", [LoadPoint()], [run(window())])
    assert (point.gpu_energy_j, point.cpu_energy_j, point.energy_method) == (None, None, "")
    assert (point.target_memory_bytes, point.device_memory_bytes, point.host_memory_bytes) == (None, None, None)


def test_disturbed_windows_are_left_out_but_their_errors_count() -> None:
    calm, hot = window(), guarded(window(p50_ms=9.0, errors={"timeout": 2}), "throttled")
    (point,) = curve_of("serving", [LoadPoint()], [run(calm, hot)])
    assert (point.requests, point.errors, point.guards) == (60, 2, ())
    (only,) = curve_of("serving", [LoadPoint()], [run(calm, hot), run(hot, index=1)])
    assert (only.requests, only.errors, only.guards) == (120, 4, ("throttled",))
