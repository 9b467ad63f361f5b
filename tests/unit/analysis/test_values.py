from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.priors import PRIORS
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import (
    DISTURBANCE_LIMIT,
    point_name,
    values_from_numbers,
    values_of,
    without_unit,
)
from pytest_gpuperf.model import GATED, Energy, LoadPoint, Memory, NamedPoint, Record, Verdict, figures_by_point
from tests.unit.comparing import compare
from tests.unit.factories import SINGLE, equal_runs, record

C4 = NamedPoint("concurrency 4")


def test_values_are_logs_turned_so_that_more_is_worse() -> None:
    result = values_from_numbers("s", [{"concurrency 4": {"p50_ns": 2e6, "throughput": 500.0, "energy_j": 0.5}}] * 2)
    assert result.values["", C4, "p50"].runs == pytest.approx((math.log(2e6),) * 2)
    assert result.values["", C4, "throughput"].runs == pytest.approx((-math.log(500.0),) * 2)
    assert result.values["", C4, "energy"].runs == pytest.approx((math.log(0.5),) * 2)
    assert not result.left_out


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_figures_that_are_not_positive_are_left_out_and_named(figure: float) -> None:
    runs = [{"concurrency 4": {"p50_ns": 2e6, "p90_ns": 3e6}}, {"concurrency 4": {"p50_ns": figure, "p90_ns": 3e6}}]
    result = values_from_numbers("s", runs)
    assert set(result.values) == {("", C4, "p90")}
    assert result.left_out == {("", C4, "p50")}


def test_a_series_that_a_run_lacks_is_left_out() -> None:
    result = values_from_numbers("s", [{"a": {"p50": 1.0}, "b": {"p50": 1.0}}, {"a": {"p50": 1.0}}])
    assert result.left_out == {("", NamedPoint("b"), "p50")}
    assert result.points == {("", NamedPoint("a")), ("", NamedPoint("b"))}


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("p50_ns", ("p50", 1.0)),
        ("p50_ms", ("p50", 1e6)),
        ("energy_mj", ("energy", 1e-3)),
        ("host_memory_bytes", ("host_memory", 1.0)),
        ("throughput", ("throughput", 1.0)),
        ("p50", ("p50", 1.0)),
        ("p50_j", ("p50_j", 1.0)),
        ("throughput_ms", ("throughput_ms", 1.0)),
        ("other_ms", ("other_ms", 1.0)),
    ],
)
def test_metrics_may_carry_a_unit(given: str, known: tuple[str, float]) -> None:
    assert without_unit(given) == known


def test_units_that_differ_are_converted() -> None:
    given = ({"p50_ns": 2e6}, {"p50_us": 2e3}, {"p50_ms": 2.0}, {"p50_s": 0.002}, {"p50": 2e6})
    result = values_from_numbers("s", [{"a": one} for one in given])
    assert result.values["", NamedPoint("a"), "p50"].runs == pytest.approx([math.log(2e6)] * 5)


def test_points_have_names() -> None:
    assert point_name("serving", LoadPoint(4, 8)) == "serving: concurrency 4, batch 8"
    assert point_name("", None) == "whole sweep"


def test_values_of_a_record_match_the_figures_of_its_runs() -> None:
    one = record(equal_runs(1.5))
    result = values_of(one, {"p50", "p90", "p99", "throughput"})
    figures = figures_by_point(one.runs[:1])[SINGLE]
    assert result.values["serving", SINGLE, "p90"].runs[0] == pytest.approx(math.log(figures.latency.quantile_ns(0.9)))
    assert result.values["serving", SINGLE, "throughput"].runs[0] == pytest.approx(-math.log(figures.throughput))
    assert result.left_out == {("serving", SINGLE, "p99")}, "60 requests don't tell a p99"


def test_only_requested_metrics_are_read() -> None:
    assert {metric for *_, metric in values_of(record(equal_runs()), {"p50"}).values} == {"p50"}
    assert {metric for *_, metric in values_of(record(equal_runs())).values} <= GATED


def disturbed(share: float, waited: float | None = None) -> Record:
    one = record(equal_runs())
    windows = [
        [replace(window, others_cpu_share=share, caller_wait_share=waited) for window in run.windows]
        for run in one.runs
    ]
    return replace(one, runs=tuple(replace(run, windows=tuple(w)) for run, w in zip(one.runs, windows, strict=True)))


def test_the_disturbance_grows_with_the_cpu_share_of_other_processes() -> None:
    result = [values_of(disturbed(share)).values["serving", SINGLE, "p50"].disturbance for share in (0.0, 0.1, 1.0)]
    assert result == pytest.approx([0.0, -math.log(0.9), DISTURBANCE_LIMIT])


def test_the_wait_of_a_thread_that_calls_alone_is_not_bounded() -> None:
    """Beside much other work a benchmark takes several times as long, and that is no regression."""

    def disturbances(metric: str) -> list[float]:
        records = [disturbed(*shares) for shares in ((0.1, 0.0), (0.9, 0.05), (0.9, 0.75), (0.9, 1.0))]
        return [values_of(one).values["serving", SINGLE, metric].disturbance for one in records]

    assert disturbances("throughput") == pytest.approx([-math.log(0.9), DISTURBANCE_LIMIT, math.log(4), math.log(100)])
    # The wait may have met the slowest calls alone.
    assert disturbances("p50") == pytest.approx([-math.log(0.9), DISTURBANCE_LIMIT, math.log(7), math.log(199)])
    assert disturbances("p90")[1:3] == pytest.approx([math.log1p(0.05 / 0.95 / 0.1), math.log(31)])


def powered(
    joules: float | None, *, method: str = "nvml-counter", bytes_used: int | None = None, cpu_j: float | None = None
) -> Record:
    """A record every window of which took so much."""
    told = (("gpu", method, joules), ("cpu", "rapl", cpu_j))
    energy = tuple(Energy(source, how, taken) for source, how, taken in told if taken is not None)
    memory = None if bytes_used is None else Memory(device_bytes=bytes_used, host_bytes=2 * bytes_used)
    one = record(equal_runs())
    runs = [
        replace(run, windows=tuple(replace(window, energy=energy, memory=memory) for window in run.windows))
        for run in one.runs
    ]
    return replace(one, runs=tuple(runs))


class TestTaken:
    def of(self, one: Record, metric: str) -> float:
        return math.exp(values_of(one, {metric}).values["serving", SINGLE, metric].runs[0])

    def test_energy_is_joules_of_all_devices_for_each_inference(self) -> None:
        # 1000 inferences a second, for half a second.
        assert self.of(powered(50.0), "energy") == pytest.approx(0.1)
        assert self.of(powered(50.0, cpu_j=25.0), "energy") == pytest.approx(0.15)

    def test_memory_is_the_target_s_where_that_is_known(self) -> None:
        one = powered(None, bytes_used=1000)
        assert self.of(one, "memory") == pytest.approx(1000)
        assert self.of(one, "host_memory") == pytest.approx(2000)
        own = replace(one.runs[0], windows=tuple(replace(w, memory=Memory(10, 1000)) for w in one.runs[0].windows))
        assert self.of(replace(one, runs=(own,)), "memory") == pytest.approx(10)

    def test_a_metric_that_cannot_be_measured_is_absent_and_not_left_out(self) -> None:
        result = values_of(record(equal_runs()), {"energy", "memory", "host_memory"})
        assert not result.values
        assert not result.left_out

    def test_windows_of_different_methods_are_not_added(self) -> None:
        one, other = powered(50.0).runs[0].windows[0], powered(50.0, method="nvml-power").runs[0].windows[0]
        mixed = replace(record(equal_runs()), runs=(replace(powered(1.0).runs[0], windows=(one, other)),))
        result = values_of(mixed, {"energy"})
        assert not result.values
        assert result.left_out == {("serving", SINGLE, "energy")}

    def test_records_of_different_methods_are_not_compared(self) -> None:
        rule = Rule(prior=PRIORS["gpu"], metrics=frozenset({"energy", "p50"}))
        same = compare(powered(50.0), [powered(50.0)], rule)
        assert {row.metric for row in same.rows} == {"energy", "p50"}
        other = compare(powered(50.0), [powered(50.0, method="nvml-power")], rule)
        assert {row.metric for row in other.rows} == {"p50"}
        assert {row.metric for row in compare(powered(None), [powered(50.0)], rule).rows} == {"p50"}

    def test_twice_the_energy_is_a_regression(self) -> None:
        rule = Rule(prior=PRIORS["gpu"], metrics=frozenset({"energy"}))
        result = compare(powered(100.0), [powered(50.0)] * 3, rule)
        assert result.verdict is Verdict.REGRESSED
        assert result.rows[0].ratio == pytest.approx(2)
