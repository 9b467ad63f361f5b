"""Operating points: what one copy of a target serves at each load point, read conservatively, from its slowest run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.analysis.guard import ERROR_BUDGET, SUSTAINED
from pytest_gpuperf.model import (
    QUANTILES,
    Histogram,
    LoadPoint,
    OperatingPoint,
    PlainMapping,
    PointFigures,
    Record,
    figures_by_point,
    merge_histograms,
)


@dataclass(frozen=True)
class OperatingPoints:
    """The operating points of one test on one device; ``left_out`` are those that can't be relied on, and why."""

    test: str
    key: PlainMapping
    points: tuple[OperatingPoint, ...]
    left_out: tuple[str, ...] = ()


def operating_points(records: Sequence[Record]) -> OperatingPoints:
    """Return the operating points that records of one key show; each of their runs is a replicate.

    Raises:
        ValueError: There is no record.
    """
    if not records:
        raise ValueError("operating points need one record or more")
    runs_by_point: dict[tuple[str, LoadPoint], list[PointFigures]] = {}
    for run in (run for record in records for run in record.runs if run.complete):
        for point, figures in figures_by_point([run]).items():
            runs_by_point.setdefault((run.sweep, point), []).append(figures)
    points, left_out = [], []
    for (sweep, point), runs in runs_by_point.items():
        reason = _exclusion_reason(point, runs)
        if reason:
            left_out.append(f"{sweep}: {point.label}: {reason}")
        else:
            points.append(_operating_point(sweep, point, runs))
    return OperatingPoints(records[0].test, records[0].key, tuple(points), tuple(left_out))


def _exclusion_reason(point: LoadPoint, runs: Sequence[PointFigures]) -> str:
    """Return why a load point can't be relied on; empty if it can."""
    requests, errors = sum(run.requests for run in runs), sum(run.error_count for run in runs)
    if not requests or min(run.throughput for run in runs) <= 0:
        return "no request was answered in some run"
    if errors > ERROR_BUDGET * (requests + errors):
        return f"{errors} of {requests + errors} requests failed"
    offered = point.rate * point.batch_size
    # Chance alone moves requests over the edges of windows, as in guard.findings.
    sustained = SUSTAINED - 2 / math.sqrt(requests)
    if offered and statistics.fmean(run.throughput for run in runs) < sustained * offered:
        return "the rate was not sustained"
    return ""


def _operating_point(sweep: str, point: LoadPoint, runs: Sequence[PointFigures]) -> OperatingPoint:
    rates = [run.throughput for run in runs]
    latencies = [run.latency for run in runs]
    ranges = {name: range_ns for name, q in QUANTILES.items() if (range_ns := _range_ns(latencies, q))}
    requests = sum(run.requests for run in runs)
    return OperatingPoint(
        sweep=sweep,
        point=point,
        throughput=point.rate * point.batch_size or min(rates),
        mean_ns=sum(run.latency_mean_ns * run.requests for run in runs) / requests,
        latency_ns={name: highest for name, (_, highest) in ranges.items()},
        runs=len(runs),
        throughput_range=(min(rates), max(rates)),
        latency_range_ns=ranges,
    )


def _range_ns(latencies: Sequence[Histogram], q: float) -> tuple[float, float] | None:
    """Return the quantile in the fastest and in the slowest run; of all runs merged, if no run has enough requests."""
    for histograms in (latencies, [merge_histograms(latencies)]):
        if values := [histogram.quantile_ns(q) for histogram in histograms if histogram.supports(q)]:
            return min(values), max(values)
    return None
