from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import pytest

from pytest_gpuperf.model import Arrivals, Constant, Intervals, LoadPoint, PlainMapping, Poisson, Ramp, ServerTimes
from pytest_gpuperf.model.window import UNDISTURBED_CPU_SHARE
from tests.unit.factories import record, window


@pytest.mark.parametrize(
    ("concurrency", "batch_size", "rate"),
    [
        (0, 1, 0.0),
        (1, 0, 0.0),
        (-1, 1, 0.0),
        (1, -8, 0.0),
        (4, 1, 100.0),
        (0, 0, 100.0),
        (0, 1, -1.0),
        (0, 1, math.nan),
    ],
)
def test_a_load_point_has_a_concurrency_or_a_rate_and_a_batch_size(
    concurrency: int, batch_size: int, rate: float
) -> None:
    with pytest.raises(ValueError, match="a concurrency or a rate, and a batch size of 1 or more"):
        LoadPoint(concurrency, batch_size, rate)


@pytest.mark.parametrize("arrivals", [Constant(250.0), Poisson(40.0, seed=3), Ramp(10, 30, 2.0), Intervals((10**6,))])
def test_an_open_loop_point_has_the_rate_and_the_name_of_its_schedule(arrivals: Arrivals) -> None:
    point = LoadPoint.open_loop(arrivals, 4)
    assert (point.concurrency, point.batch_size, point.rate, point.arrivals) == (0, 4, arrivals.rate, arrivals.label)


def test_a_label_names_the_batch_size_only_where_there_is_one() -> None:
    assert LoadPoint(4).label == "concurrency 4"
    assert LoadPoint(4, 8).label == "concurrency 4, batch 8"
    assert LoadPoint.open_loop(Poisson(500)).label == "500/s poisson"
    assert LoadPoint.open_loop(Constant(2.5), 8).label == "2.5/s constant, batch 8"


def test_points_of_different_schedules_are_different_points() -> None:
    schedules: list[Arrivals] = [
        Constant(100.0),
        Constant(101.0),
        Poisson(100.0),
        Poisson(100.0, seed=1),
        Ramp(50.0, 150.0, 1.0),
        Ramp(50.0, 150.0, 2.0),
        Ramp(50.0, 150.0, 1.0, hold_s=3.0),
        Ramp(50.0, 150.0, 1.0, poisson=True),
        Intervals((10**7,)),
        Intervals((5 * 10**6, 15 * 10**6)),
    ]
    assert len({LoadPoint.open_loop(one) for one in schedules}) == len(schedules)


def test_records_are_frozen() -> None:
    point = LoadPoint(4)
    with pytest.raises(FrozenInstanceError):
        point.concurrency = 8  # type: ignore[misc]


def test_errors_of_all_types_are_counted() -> None:
    assert window(errors={"timeout": 2, "HTTP 503": 3}).error_count == 5
    assert window().error_count == 0


@pytest.mark.parametrize(("status", "gate"), [("done", "passed"), ("complete", "green"), ("", "open")])
def test_an_unknown_status_or_gate_is_refused(status: str, gate: str) -> None:
    with pytest.raises(ValueError, match=r"(status|gate) must be"):
        record(status=status, gate=gate)


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
def test_only_complete_records_that_did_not_fail_enter_the_baseline(status: str, gate: str, may: bool) -> None:
    assert record(status=status, gate=gate).may_be_baseline is may


def test_client_cpu_time_is_given_per_request() -> None:
    busy = replace(window(requests=50), client_cpu_s=0.01)
    assert busy.client_cpu_per_request_s == pytest.approx(0.0002)
    assert replace(busy, requests=0).client_cpu_per_request_s == 0.0


@pytest.mark.parametrize(
    ("share", "calm"), [(None, True), (0.0, True), (UNDISTURBED_CPU_SHARE, True), (UNDISTURBED_CPU_SHARE + 0.01, False)]
)
def test_a_window_is_undisturbed_unless_other_processes_took_much_cpu(share: float | None, calm: bool) -> None:
    assert replace(window(), others_cpu_share=share).undisturbed is calm


def test_the_steps_of_an_ensemble_are_added_and_subtracted_one_by_one() -> None:
    early = ServerTimes(1, 1, 10, 0, 20, 0, {"a": ServerTimes(1, 1, 2, 0, 5, 0)})
    late = ServerTimes(3, 3, 40, 0, 50, 6, {"a": ServerTimes(3, 3, 5, 0, 9, 0), "b": ServerTimes(1, 1, 7, 0, 8, 0)})
    passed = late - early
    assert passed == ServerTimes(
        2, 2, 30, 0, 30, 6, {"a": ServerTimes(2, 2, 3, 0, 4, 0), "b": ServerTimes(1, 1, 7, 0, 8, 0)}
    )
    assert early + passed == late
    assert passed.total_ns == 66


@pytest.mark.parametrize(
    ("facts", "device"),
    [
        ({"gpu_uuid": "GPU-1", "machine_id": "m", "host": "h"}, "GPU-1"),
        ({"gpu_uuid": "MIG-2", "gpu_board_uuid": "GPU-1"}, "GPU-1/MIG-2"),
        ({"gpu_uuid": "GPU-2, GPU-1"}, "GPU-1+GPU-2"),
        ({"gpu_uuid": "MIG-3, MIG-2", "gpu_board_uuid": "GPU-1"}, "GPU-1/MIG-2+MIG-3"),
        ({"machine_id": "m", "host": "container-7f3a"}, "m"),
        ({"host": "h"}, "h"),
        ({}, ""),
    ],
)
def test_the_device_begins_with_the_board(facts: PlainMapping, device: str) -> None:
    assert record(environment=facts).device_id == device
