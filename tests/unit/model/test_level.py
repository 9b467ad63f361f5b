from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.model import EndpointFigures, Energy, GpuReadings, LoadPoint, Memory, ServerTimes
from pytest_gpuperf.model.aggregate import aggregate
from pytest_gpuperf.model.level import INTERRUPTED, STABLE, UNSTABLE, MeasuredLevel
from tests.unit.factories import server_times, window


def test_throughput_is_weighted_by_time_and_latency_by_requests() -> None:
    long = window(p50_ms=1.0, throughput=100.0, requests=300, window_s=3.0)
    short = window(p50_ms=4.0, throughput=500.0, requests=100, window_s=1.0)
    whole = aggregate([long, short])
    assert whole.throughput == pytest.approx(200.0)
    assert whole.latency_mean_ns == pytest.approx((3 * long.latency_mean_ns + short.latency_mean_ns) / 4)
    assert (whole.window_s, whole.requests, whole.latency.total) == (4.0, 400, 400)
    assert whole.latency.quantile_ns(0.5) < 1.5e6


def test_costs_errors_and_server_times_add_up() -> None:
    one = replace(window(errors={"timeout": 2}, server=server_times(60)), client_cpu_s=0.1, stall_s=0.2, late=3)
    other = replace(window(errors={"timeout": 1, "reset": 4}, server=server_times(40)), client_cpu_s=0.3, late=1)
    whole = aggregate([one, other])
    assert whole.errors == {"timeout": 3, "reset": 4}
    assert whole.client_cpu_s == pytest.approx(0.4)
    assert (whole.stall_s, whole.late) == (0.2, 4)
    assert whole.server == server_times(100)


def test_the_lag_is_that_of_the_worst_window() -> None:
    windows = [replace(window(), lag_p99_ns=lag_ns) for lag_ns in (10.0, 3000.0, 20.0)]
    assert aggregate(windows).lag_p99_ns == 3000.0


def test_service_times_and_first_answers_of_all_windows_are_merged() -> None:
    one = window(LoadPoint(0, 1, 100.0, "constant"), throughput=100.0)
    windows = [replace(one, service=one.latency, first=one.latency, answers=90)] * 2
    whole = aggregate(windows)
    assert whole.service is not None
    assert whole.first is not None
    assert (whole.service.total, whole.first.total, whole.answers) == (120, 120, 180)


def test_what_no_window_knows_stays_unknown() -> None:
    whole = aggregate([window(), window()])
    assert (whole.server, whole.service, whole.first, whole.others_cpu_share) == (None, None, None, None)


def test_a_server_without_a_request_in_the_window_is_still_known() -> None:
    assert aggregate([window(server=server_times(0))] * 2).server == ServerTimes(0, 0, 0, 0, 0, 0)


def test_endpoints_are_gathered_by_address() -> None:
    def figures(address: str, requests: int, p50_ns: float) -> EndpointFigures:
        return EndpointFigures(address, requests, 1, 100.0, p50_ns, 2 * p50_ns)

    first = replace(window(window_s=1.0), endpoints=(figures("a:1", 10, 100.0), figures("b:1", 10, 50.0)))
    second = replace(window(window_s=3.0), endpoints=(figures("a:1", 30, 200.0), figures("b:1", 0, 0.0)))
    a, b = aggregate([first, second]).endpoints
    assert (a.address, a.requests, a.errors) == ("a:1", 40, 2)
    assert [a.throughput, a.p50_ns, a.p90_ns] == pytest.approx([100.0, 175.0, 350.0])
    assert (b.address, b.requests, b.p50_ns) == ("b:1", 10, 50.0)


def test_without_an_answer_there_is_no_mean() -> None:
    assert aggregate([window(requests=0, throughput=0.0)] * 2).latency_mean_ns == 0.0


@pytest.mark.parametrize(
    ("state", "within", "mark"),
    [
        (STABLE, True, ""),
        (STABLE, False, "over the latency threshold"),
        (UNSTABLE, True, "unstable"),
        (UNSTABLE, False, "unstable, over the latency threshold"),
        (UNSTABLE, None, "unstable, perhaps over the latency threshold"),
        (INTERRUPTED, True, "interrupted"),
    ],
)
def test_a_mark_says_what_the_figures_do_not(state: str, within: bool | None, mark: str) -> None:
    assert MeasuredLevel(window(), 3, state, within).mark == mark


def test_what_windows_took_is_added_and_peaks_are_kept() -> None:
    gpu = GpuReadings("GPU-0", 4, power_w=100.0, sm_clock_min_mhz=1500.0, temperature_begin_c=40.0, throttled=("a",))
    other = replace(gpu, samples=12, power_w=200.0, sm_clock_min_mhz=1400.0, temperature_end_c=50.0, throttled=("b",))
    first = replace(window(), energy=(Energy("gpu", "m", 5.0, 0.1, 20.0),), memory=Memory(1, 9), gpus=(gpu,))
    second = replace(window(), energy=(Energy("gpu", "m", 7.0, 0.2, 30.0),), memory=Memory(3, 4), gpus=(other,))
    whole = aggregate([first, second])
    (energy,) = whole.energy
    assert (energy.energy_j, energy.idle_w) == (12.0, 25.0)
    assert energy.error_j == pytest.approx(0.3)
    assert whole.memory == Memory(3, 9)
    (both,) = whole.gpus
    assert (both.samples, both.power_w, both.sm_clock_min_mhz) == (16, 175.0, 1400.0)
    assert (both.temperature_begin_c, both.temperature_end_c, both.throttled) == (40.0, 50.0, ("a", "b"))
    assert aggregate([first, replace(second, energy=())]).energy == ()
