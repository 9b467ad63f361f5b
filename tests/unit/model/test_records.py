from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from pytest_gpuperf.model import LoadPoint, gather, merged, point_runs
from tests.unit.factories import run, session, window


@pytest.mark.parametrize(("concurrency", "batch_size"), [(0, 1), (1, 0), (-1, 1), (1, -8)])
def test_a_load_point_below_one_is_refused(concurrency: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LoadPoint(concurrency, batch_size)


def test_a_label_names_the_batch_size_only_where_there_is_one() -> None:
    assert LoadPoint(4).label == "concurrency 4"
    assert LoadPoint(4, 8).label == "concurrency 4, batch 8"


def test_records_are_frozen() -> None:
    point = LoadPoint(4)
    with pytest.raises(FrozenInstanceError):
        point.concurrency = 8  # type: ignore[misc]


def test_errors_of_all_types_are_counted() -> None:
    assert window(errors={"timeout": 2, "HTTP 503": 3}).error_count == 5
    assert window().error_count == 0


def test_throughput_is_weighted_by_time_and_latency_by_requests() -> None:
    short = window(p50_ms=1.0, throughput=100.0, window_s=1.0, requests=30, errors={"timeout": 1})
    long = window(p50_ms=4.0, throughput=200.0, window_s=3.0, requests=10)
    both = gather(LoadPoint(), [short, long])
    assert both.throughput == pytest.approx(175.0)
    assert both.latency_mean_ns == pytest.approx((30 * short.latency_mean_ns + 10 * long.latency_mean_ns) / 40)
    assert both.latency == merged([short.latency, long.latency])
    assert (both.requests, both.errors) == (40, 1)


def test_windows_without_a_request_have_no_mean() -> None:
    empty = gather(LoadPoint(), [window(requests=0, throughput=0.0)])
    assert (empty.requests, empty.throughput, empty.latency_mean_ns, empty.latency.total) == (0, 0.0, 0.0, 0)


def test_a_run_is_gathered_by_load_point_in_order_of_appearance() -> None:
    four, one = LoadPoint(4), LoadPoint(1)
    gathered = point_runs(run(window(four), window(one), window(four, visit=1)))
    assert list(gathered) == [four, one]
    assert [seen.requests for seen in gathered.values()] == [120, 60]


@pytest.mark.parametrize(("status", "gate"), [("done", "passed"), ("complete", "green"), ("", "open")])
def test_an_unknown_status_or_gate_is_refused(status: str, gate: str) -> None:
    with pytest.raises(ValueError, match=r"session's (status|gate) is"):
        session(status=status, gate=gate)


@pytest.mark.parametrize(
    ("status", "gate", "may"),
    [
        ("complete", "passed", True),
        ("complete", "open", True),
        ("complete", "failed", False),
        ("incomplete", "passed", False),
        ("incomplete", "open", False),
        ("incomplete", "failed", False),
    ],
)
def test_only_complete_sessions_that_did_not_fail_enter_the_baseline(status: str, gate: str, may: bool) -> None:
    assert session(status=status, gate=gate).may_be_baseline is may
