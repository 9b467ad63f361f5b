"""Bounds of the values in a record: an absurd value is an error where the record is read, not where it is used.

Constructors don't check them: a measurement must not fail because of a figure other than its latencies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pytest_gpuperf.model import (
    Energy,
    Finding,
    GpuReadings,
    Histogram,
    LoadPoint,
    Memory,
    Record,
    Run,
    ServerTimes,
    Window,
    check_utc,
)

_ID = re.compile(r"\w{1,64}", re.ASCII)
#: More requests or bytes than a measurement has; sums of many still fit into numpy's integers.
_MOST = 10**15
_MOST_NS = 10**18
#: The bucket of 10**22 ns.
_LAST_BUCKET = 10_156
_LONGEST_S = 1e9
_COUNT = (0, _MOST)
_ANY = (-1e18, 1e18)

_Bounds = Mapping[str, tuple[float, float]]
_POINT: _Bounds = {"concurrency": (0, 10**9), "batch_size": (1, 10**9), "rate": (0.0, 1e12)}
_WINDOW: _Bounds = {
    "visit": _COUNT,
    "window_s": (1e-12, _LONGEST_S),
    "requests": _COUNT,
    "throughput": (0.0, 1e18),
    "latency_mean_ns": (0.0, 1e22),
    "client_cpu_s": (-_LONGEST_S, _LONGEST_S),
    "stall_s": (-_LONGEST_S, _LONGEST_S),
    "client_wait_s": (-_LONGEST_S, _LONGEST_S),
    "client_halted_s": (-_LONGEST_S, _LONGEST_S),
    "client_stops": _COUNT,
    "late": _COUNT,
    "lag_p99_ns": _ANY,
    "answers": _COUNT,
}
_ENDPOINT: _Bounds = {"requests": _COUNT, "errors": _COUNT, "throughput": (0.0, 1e18)}
_SERVER: _Bounds = {
    **dict.fromkeys(("requests", "executions"), _COUNT),
    **dict.fromkeys(("queue_ns", "compute_input_ns", "compute_infer_ns", "compute_output_ns"), (0, _MOST_NS)),
    "cache_hits": _COUNT,
    "cache_hit_ns": (0, _MOST_NS),
}
_RUN: _Bounds = {"index": (0, 10**9), "warmup_s": (-_LONGEST_S, _LONGEST_S)}
_START = {
    **dict.fromkeys(("startup_s", "model_load_s", "engine_build_s"), (-_LONGEST_S, _LONGEST_S)),
    "others_cpu_share": (-1.0, 2.0),
}
_FINDING: _Bounds = {"value": _ANY, "reference": _ANY}
_ENERGY: _Bounds = {"energy_j": (0.0, 1e18), "error_j": (0.0, 1e18)}
_MEMORY = ("target_bytes", "device_bytes", "host_bytes")
_GPU = (
    "power_w",
    "sm_clock_mhz",
    "sm_clock_min_mhz",
    "sm_clock_max_mhz",
    "memory_clock_mhz",
    "temperature_begin_c",
    "temperature_end_c",
    "utilization",
)


def check_bounds(record: Record) -> None:
    """Check the values of a record.

    Raises:
        ValueError: The id or the time can't be part of a file's name, or a number can't have been measured; the message
            names it.
    """
    if not _ID.fullmatch(record.id):
        raise ValueError(f"record.id should have 1 to 64 letters and digits, not {record.id[:80]!r}")
    check_utc(record.created_utc)
    for side in ("runs", "reference"):
        for index, run in enumerate(getattr(record, side)):
            _check_run(run, f"{side}[{index}]")
    for sweep, points in record.kept_points.items():
        _check_points(points, f"kept_points.{sweep}")
    for budget in record.budgets:
        for limit in budget.limits:
            _between(limit.limit_ns, 1e-9, 1e22, "budgets")
    if record.rule is not None:
        _between(record.rule.tests, 1, 10**9, "rule.tests")
        _between(record.rule.min_effect, 0.0, 1e9, "rule.min_effect")


def _check_run(run: Run, path: str) -> None:
    _check(run, _RUN, path)
    for name, bounds in _START.items():
        if (measured := getattr(run.start, name)) is not None:
            _between(measured, *bounds, f"{path}.start.{name}")
    for name in ("windows", "anchors"):
        for index, window in enumerate(getattr(run, name)):
            _check_window(window, f"{path}.{name}[{index}]")


def _check_window(window: Window, path: str) -> None:
    _check(window, _WINDOW, path)
    _check_points((window.point,), path)
    for name in ("latency", "service", "first"):
        _check_histogram(getattr(window, name), f"{path}.{name}")
    for kind, count in window.errors.items():
        _between(count, *_COUNT, f"{path}.errors.{kind}")
    for index, endpoint in enumerate(window.endpoints):
        _check(endpoint, _ENDPOINT, f"{path}.endpoints[{index}]")
        _check_histogram(endpoint.latency, f"{path}.endpoints[{index}].latency")
    if window.caller_wait_share is not None:
        _between(window.caller_wait_share, 0.0, 1.0, f"{path}.caller_wait_share")
    if window.others_cpu_share is not None:
        _between(window.others_cpu_share, -1.0, 2.0, f"{path}.others_cpu_share")
    if window.server is not None:
        _check_server(window.server, f"{path}.server")
    _check_resources(window.findings, window.energy, window.memory, window.gpus, path)


def _check_points(points: Iterable[LoadPoint], path: str) -> None:
    for point in points:
        _check(point, _POINT, f"{path}.point")


def _check_histogram(histogram: Histogram | None, path: str) -> None:
    if histogram is None or not histogram.buckets:
        return
    _between(histogram.buckets[0], 0, _LAST_BUCKET, f"{path}.buckets")
    _between(histogram.buckets[-1], 0, _LAST_BUCKET, f"{path}.buckets")
    _between(max(histogram.counts), 1, _MOST, f"{path}.counts")


def _check_server(times: ServerTimes, path: str) -> None:
    _check(times, _SERVER, path)
    for name, stage in times.stages.items():
        _check_server(stage, f"{path}.stages.{name}")


def _check_resources(
    findings: Sequence[Finding],
    energies: Sequence[Energy],
    memory: Memory | None,
    gpus: Sequence[GpuReadings],
    path: str,
) -> None:
    for finding in findings:
        _check(finding, _FINDING, f"{path}.findings")
    for energy in energies:
        _check(energy, _ENERGY, f"{path}.energy")
        if energy.idle_w is not None:
            _between(energy.idle_w, *_ANY, f"{path}.energy.idle_w")
    for name in _MEMORY if memory is not None else ():
        if (size := getattr(memory, name)) is not None:
            _between(size, *_COUNT, f"{path}.memory.{name}")
    for gpu in gpus:
        _between(gpu.samples, *_COUNT, f"{path}.gpus.samples")
        for name in _GPU:
            if (reading := getattr(gpu, name)) is not None:
                _between(reading, *_ANY, f"{path}.gpus.{name}")


def _check(part: object, bounds: _Bounds, path: str) -> None:
    for name, (least, most) in bounds.items():
        _between(getattr(part, name), least, most, f"{path}.{name}")


def _between(value: float, least: float, most: float, path: str) -> None:
    if not least <= value <= most:
        raise ValueError(f"record.{path} is {str(value)[:30]}, which can't have been measured")
