"""Export to the JSON of pytest-benchmark, which ``pytest-benchmark compare`` reads: a benchmark for each load point.

Rounds are requests, and seconds are their latencies, within the precision of the histogram (0.5%). Figures that the
format lacks, such as throughput, are in ``extra_info``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pytest_gpuperf.model import CurvePoint, Histogram, ReportedTest, merge_histograms, windows_by_point
from pytest_gpuperf.report.exchange.report_json import without_infinities
from pytest_gpuperf.report.latency_parts import deviation_of, mean_of, middles_ns

#: Version of pytest-benchmark that defines this format.
_FORMAT = "5.1.0"


def benchmark_text(reported: Sequence[ReportedTest], *, generated_utc: str) -> str:
    """Return the document. Machine and commit are those of the first record."""
    first = reported[0].record if reported else None
    document = {
        "machine_info": _machine(reported[0]) if reported else {},
        "commit_info": {
            "id": first.commit if first else "",
            "dirty": bool(first and first.environment.get("uncommitted_changes")),
            "time": None,
            "author_time": None,
            "project": "",
            "branch": "",
        },
        "benchmarks": [
            _benchmark(test, curve.name, point)
            for test in reported
            for curve in test.curves
            for point in curve
            if point.requests
        ],
        "datetime": generated_utc,
        "version": _FORMAT,
    }
    return json.dumps(without_infinities(document), indent=4, allow_nan=False) + "\n"


def _machine(test: ReportedTest) -> dict[str, Any]:
    record = test.record
    return {
        "node": record.environment.get("host"),
        "system": "Linux",
        "release": record.environment.get("kernel"),
        "python_version": record.environment.get("python"),
        "cpu": {},
        "gpuperf": {**record.key, **record.environment},
    }


def _benchmark(test: ReportedTest, sweep: str, point: CurvePoint) -> dict[str, Any]:
    record = test.record
    label = f"{sweep}: {point.load.label}"
    windows = windows_by_point(run for run in record.runs if run.sweep == sweep)[point.load]
    return {
        "group": None,
        "name": f"{record.test.rpartition('::')[2]}[{label}]",
        "fullname": f"{record.test}[{label}]",
        "params": {"sweep": sweep, "load": point.load.label},
        "param": label,
        "extra_info": {
            "record": record.id,
            "verdict": str(test.comparison.verdict),
            "throughput": point.throughput,
            "p90_ns": point.p90_ns,
            "p99_ns": point.p99_ns,
            "supported": sorted(point.supported),
            "errors": point.errors,
            "gpu_energy_j": point.gpu_energy_j,
            "target_memory_bytes": point.target_memory_bytes,
        },
        "options": {},
        "stats": _stats(merge_histograms(window.latency for window in windows)),
    }


def _stats(latency: Histogram) -> dict[str, Any]:
    """Return statistics in seconds; outliers are beyond a standard deviation or 1.5 interquartile ranges."""
    at = {q: latency.quantile_ns(q) / 1e9 for q in (0.0, 0.25, 0.5, 0.75, 1.0)}
    mean, deviation, iqr = mean_of(latency) / 1e9, deviation_of(latency) / 1e9, at[0.75] - at[0.25]
    low, high = at[0.25] - 1.5 * iqr, at[0.75] + 1.5 * iqr
    far = _outside(latency, mean - deviation, mean + deviation)
    tukey = _outside(latency, low, high)
    return {
        "min": at[0.0],
        "max": at[1.0],
        "mean": mean,
        "stddev": deviation,
        "rounds": latency.total,
        "median": at[0.5],
        "iqr": iqr,
        "q1": at[0.25],
        "q3": at[0.75],
        "iqr_outliers": tukey,
        "stddev_outliers": far,
        "outliers": f"{far};{tukey}",
        "ld15iqr": max(low, at[0.0]),
        "hd15iqr": min(high, at[1.0]),
        "ops": 1 / mean,
        "total": mean * latency.total,
        "iterations": 1,
    }


def _outside(latency: Histogram, low_s: float, high_s: float) -> int:
    return sum(count for middle_ns, count in middles_ns(latency) if not low_s <= middle_ns / 1e9 <= high_s)
