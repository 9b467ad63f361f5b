"""What one copy of a target serves at each load point, on the careful side: that of its slowest run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.analysis.guard import ERROR_BUDGET, SUSTAINED
from pytest_gpuperf.model import (
    Histogram,
    LoadPoint,
    OperatingPoint,
    PlainMapping,
    PointFigures,
    Record,
    Run,
    figures_by_point,
    merged,
)

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class OperatingPoints:
    """The operating points of one test on one device.

    Attributes:
        points: in the order they were asked for.
        left_out: load points that can't be counted on, and why.
    """

    test: str
    key: PlainMapping
    points: tuple[OperatingPoint, ...]
    left_out: tuple[str, ...] = ()


def operating_points(records: Sequence[Record]) -> OperatingPoints:
    """What records of one key show; each of their runs is a replicate.

    Raises:
        ValueError: there is no record.
    """
    if not records:
        raise ValueError("operating points come from one record or more")
    gathered: dict[tuple[str, LoadPoint], list[PointFigures]] = {}
    for run in (run for record in records for run in _whole(record.runs)):
        for point, found in figures_by_point([run]).items():
            gathered.setdefault((run.sweep, point), []).append(found)
    points, left_out = [], []
    for (sweep, point), runs in gathered.items():
        reason = _doubt(point, runs)
        if reason:
            left_out.append(f"{sweep}: {point.label}: {reason}")
        else:
            points.append(_operating(sweep, point, runs))
    return OperatingPoints(records[0].test, records[0].key, tuple(points), tuple(left_out))


def _whole(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.complete]


def _doubt(point: LoadPoint, runs: Sequence[PointFigures]) -> str:
    """Why a load point can't be counted on; empty where it can."""
    requests, errors = sum(run.requests for run in runs), sum(run.error_count for run in runs)
    if not requests or min(run.throughput for run in runs) <= 0:
        return "nothing was answered in some run"
    if errors > ERROR_BUDGET * (requests + errors):
        return f"{errors} of {requests + errors} requests failed"
    asked = point.rate * point.batch_size
    # At the edges of windows chance alone moves requests in or out, as in guard.findings.
    kept = SUSTAINED - 2 / math.sqrt(requests)
    if asked and statistics.fmean(run.throughput for run in runs) < kept * asked:
        return "the rate was not sustained"
    return ""


def _operating(sweep: str, point: LoadPoint, runs: Sequence[PointFigures]) -> OperatingPoint:
    rates = [run.throughput for run in runs]
    ranges = {name: found for name, q in QUANTILES.items() if (found := _range_ns([run.latency for run in runs], q))}
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
    """The quantile in the fastest and the slowest run; of all runs together where no single one has enough requests."""
    able = [one for one in latencies if one.supports(q)]
    if not able:
        whole = merged(latencies)
        able = [whole] if whole.supports(q) else []
    values = [one.quantile_ns(q) for one in able]
    return (min(values), max(values)) if values else None
