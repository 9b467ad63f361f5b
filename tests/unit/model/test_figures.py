"""The one place where windows become figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.measure.stability import StabilityRule
from pytest_gpuperf.model import (
    EndpointFigures,
    Energy,
    LoadPoint,
    Memory,
    PointFigures,
    ServerTimes,
    Window,
    curve_of,
    figures_by_point,
    merge_histograms,
)
from tests.unit.factories import histogram, run, server_times, window


def figures(*windows: Window) -> PointFigures:
    return PointFigures(windows)


def test_throughput_is_weighted_by_time_and_latency_by_requests() -> None:
    long = window(p50_ms=1.0, throughput=100.0, requests=300, window_s=3.0, errors={"timeout": 1})
    short = window(p50_ms=4.0, throughput=500.0, requests=100, window_s=1.0)
    both = figures(long, short)
    assert both.throughput == pytest.approx(200.0)
    assert both.latency_mean_ns == pytest.approx((3 * long.latency_mean_ns + short.latency_mean_ns) / 4)
    assert (both.window_s, both.requests, both.error_count) == (4.0, 400, 1)
    assert both.latency == merge_histograms([long.latency, short.latency])
    assert both.latency.quantile_ns(0.5) < 1.5e6


def test_costs_errors_and_server_times_add_up() -> None:
    one = replace(window(errors={"timeout": 2}, server=server_times(60)), client_cpu_s=0.1, stall_s=0.2, late=3)
    one = replace(one, client_wait_s=0.1, client_halted_s=0.2, client_stops=2)
    other = replace(window(errors={"timeout": 1, "reset": 4}, server=server_times(40)), client_cpu_s=0.3, late=1)
    other = replace(other, client_wait_s=0.25, client_stops=1)
    both = figures(one, other)
    assert both.errors == {"timeout": 3, "reset": 4}
    assert both.client_cpu_s == pytest.approx(0.4)
    assert (both.stall_s, both.late) == (0.2, 4)
    assert (both.client_wait_s, both.client_halted_s, both.client_stops) == (0.35, 0.2, 3)
    assert both.server == server_times(100)


def test_the_lag_is_that_of_the_worst_window() -> None:
    assert figures(*(replace(window(), lag_p99_ns=lag_ns) for lag_ns in (10.0, 3000.0, 20.0))).lag_p99_ns == 3000.0


def test_service_times_and_first_answers_of_all_windows_are_merged() -> None:
    one = window(LoadPoint(0, 1, 100.0, "constant"), throughput=100.0)
    both = figures(*[replace(one, service=one.latency, first=one.latency, answers=90)] * 2)
    assert both.service is not None
    assert both.first is not None
    assert (both.service.total, both.first.total, both.answers) == (120, 120, 180)


def test_unmeasured_figures_stay_unknown() -> None:
    both = figures(window(), window())
    assert (both.server, both.service, both.first, both.memory, both.energy_j("gpu")) == (None,) * 5


def test_without_a_request_there_is_no_mean() -> None:
    empty = figures(*[window(requests=0, throughput=0.0)] * 2)
    assert (empty.requests, empty.throughput, empty.latency_mean_ns, empty.latency.total) == (0, 0.0, 0.0, 0)


class TestServerTimes:
    """They are subtracted from the latency of all requests, so they have to be those of all requests."""

    def test_a_window_without_server_times_makes_them_unknown(self) -> None:
        assert figures(window(server=server_times(10)), window()).server is None

    def test_a_window_without_requests_needs_no_server_times(self) -> None:
        idle = window(requests=0, throughput=0.0)
        assert figures(window(server=server_times(10)), idle).server == server_times(10)

    def test_a_server_that_finished_no_request_is_known(self) -> None:
        assert figures(*[window(server=server_times(0))] * 2).server == ServerTimes(0, 0, 0, 0, 0, 0)


class TestEndpoints:
    """A fast window of many requests and a slow one of few: a quantile is that of all 110 requests."""

    FAST, SLOW = histogram([1e6] * 100), histogram([9e6] * 10)
    WINDOWS = (
        replace(
            window(window_s=1.0),
            endpoints=(EndpointFigures("a:1", 100, 1, 100.0, FAST), EndpointFigures("b:1", 10, 0, 200.0, FAST)),
        ),
        replace(window(window_s=3.0), endpoints=(EndpointFigures("a:1", 10, 0, 200.0, SLOW),)),
    )

    def test_counts_add_up_and_throughput_is_weighted_by_time(self) -> None:
        a, b = figures(*self.WINDOWS).endpoints
        assert (a.address, a.requests, a.errors, a.throughput) == ("a:1", 110, 1, 175.0)
        assert (b.address, b.requests, b.throughput) == ("b:1", 10, 50.0), "it served nothing in the second window"

    def test_curve_and_level_agree_on_a_p90_and_it_is_that_of_all_requests(self) -> None:
        # The curve used to say 5 ms (the median of 1 and 9), the level 1.7 ms (their mean by requests): with 100 of 110
        # requests at 1 ms, nine tenths of them are no slower than 1 ms.
        (point,) = curve_of("serving", [LoadPoint()], [run(*self.WINDOWS)])
        level = StabilityRule(recent=2).level(self.WINDOWS)
        assert point.endpoints == level.figures.endpoints
        assert point.endpoints[0].p90_ns == merge_histograms([self.FAST, self.SLOW]).quantile_ns(0.9)
        assert point.endpoints[0].p90_ns == pytest.approx(1e6, rel=0.006)

    def test_windows_without_endpoints_are_left_out(self) -> None:
        a, _ = figures(*self.WINDOWS, window(window_s=9.0)).endpoints
        assert a.throughput == 175.0

    def test_latencies_behind_a_balancer_stay_unknown(self) -> None:
        behind = replace(window(), endpoints=(EndpointFigures("a:1", 40, 0, 80.0),))
        (endpoint,) = figures(behind, behind).endpoints
        assert (endpoint.requests, endpoint.latency, endpoint.p90_ns) == (80, None, 0.0)


class TestResources:
    GPU, CPU = Energy("gpu", "nvml-counter", 50.0), Energy("cpu", "rapl", 5.0)

    def test_energy_is_that_of_an_inference(self) -> None:
        # 1000 inferences a second, for half a second.
        both = figures(*[replace(window(), energy=(self.GPU, self.CPU))] * 2)
        assert both.energy_j("gpu") == pytest.approx(0.1)
        assert both.energy_j("cpu") == pytest.approx(0.01)
        assert (both.energy_sources, both.energy_methods) == (("gpu", "cpu"), ("nvml-counter", "rapl"))

    def test_windows_without_energy_do_not_change_it(self) -> None:
        assert figures(replace(window(), energy=(self.GPU,)), window()).energy_j("gpu") == pytest.approx(0.1)

    def test_different_methods_are_not_added(self) -> None:
        estimated = Energy("gpu", "nvml-power", 50.0)
        both = figures(replace(window(), energy=(self.GPU,)), replace(window(), energy=(estimated,)))
        assert both.energy_j("gpu") is None

    def test_memory_is_the_highest_peak(self) -> None:
        both = figures(replace(window(), memory=Memory(1, 9)), replace(window(), memory=Memory(3, 4)), window())
        assert both.memory == Memory(3, 9)

    def test_the_cpu_share_of_other_processes_is_weighted_by_time(self) -> None:
        shares = [replace(window(window_s=s), others_cpu_share=share) for s, share in ((1.0, 0.4), (3.0, 0.2))]
        assert figures(*shares, window()).others_cpu_share == pytest.approx(0.25)


def test_load_points_come_in_order_of_appearance() -> None:
    four, one = LoadPoint(4), LoadPoint(1)
    by_point = figures_by_point([run(window(four), window(one), window(four, visit=1))])
    assert list(by_point) == [four, one]
    assert [each.requests for each in by_point.values()] == [120, 60]


def test_disturbed_windows_are_left_out_where_a_run_has_undisturbed_ones() -> None:
    undisturbed, disturbed = window(p50_ms=1.0), replace(window(p50_ms=9.0, visit=1), others_cpu_share=0.4)
    (kept,) = figures_by_point([run(undisturbed, disturbed)]).values()
    assert kept.latency == undisturbed.latency
    (only,) = figures_by_point([run(disturbed)]).values()
    assert only.latency == disturbed.latency
