"""The report as JSON, for programs; ``docs/comment.md`` documents it.

``VERSION`` increases when a field is removed or changes its meaning; new fields may appear at any time.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from pytest_gpuperf.model import Comparison, Curve, CurvePoint, ReportedTest, Row, worst
from pytest_gpuperf.model.codec import to_builtins
from pytest_gpuperf.report.common_mode import common_of
from pytest_gpuperf.report.findings import words

VERSION = 1
_ENDPOINT = ("address", "requests", "errors", "throughput", "p50_ns", "p90_ns")
_NUMBERS = ("candidate", "baseline", "ratio", "low", "high", "confidence", "p_value", "min_detectable")


def json_text(
    reported: Sequence[ReportedTest],
    *,
    title: str = "",
    generated_utc: str = "",
    notes: Sequence[str] = (),
    error: str = "",
) -> str:
    """Return the document; infinite numbers and NaN are null."""
    document = {
        "gpuperf_report": VERSION,
        "title": title,
        "generated_utc": generated_utc,
        "verdict": str(worst([test.comparison.verdict for test in reported if not test.expected_failure])),
        "counts": Counter(str(test.comparison.verdict) for test in reported),
        "failed": sum(bool(test.error) for test in reported),
        "error": error,
        "notes": list(notes),
        "common": [{**to_builtins(mode), "verdict": str(mode.verdict)} for mode in common_of(reported)],
        "tests": [_test(test) for test in reported],
    }
    return json.dumps(without_infinities(document), indent=2, allow_nan=False) + "\n"


def _test(test: ReportedTest) -> dict[str, Any]:
    record = test.record
    return {
        "test": record.test,
        "file": test.file,
        "line": test.line,
        "record": record.id,
        "invocation": record.invocation,
        "created_utc": record.created_utc,
        "commit": record.commit,
        "path": test.path,
        "status": record.status,
        "gate": record.gate,
        "error": test.error,
        "expected_failure": test.expected_failure,
        "device": record.key.get("device"),
        "key": record.key,
        "environment": record.environment,
        "under_test": record.under_test_by_side,
        "settings": record.settings,
        "rule": to_builtins(record.rule),
        **comparison_document(test.comparison),
        "baseline_commit": test.baseline[0].commit if test.baseline else "",
        "baseline_utc": test.baseline[0].created_utc if test.baseline else "",
        "curves": [_curve(curve) for curve in test.curves],
        "starts": [{"run": run.index, "sweep": run.sweep, **to_builtins(run.start)} for run in record.runs],
        "baseline_curves": [_curve(curve) for curve in test.base_curves],
        "costs": [{**to_builtins(cost), "point": cost.point.label} for cost in test.costs],
        "budgets": [{"metric": limit.name, "limit_ms": limit.limit_ms} for limit in record.limits],
        "findings": [
            {
                "run": run.index,
                "visit": window.visit,
                "sweep": run.sweep,
                "point": window.point.label,
                **to_builtins(finding),
                "text": words([finding]),
            }
            for run in record.runs
            for window in run.windows
            for finding in window.findings
        ],
    }


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison with all of its rows."""
    return {
        "verdict": str(comparison.verdict),
        "mode": comparison.mode,
        "alpha": comparison.alpha,
        "min_effect": comparison.min_effect,
        "baseline": list(comparison.baseline),
        "differing": to_builtins(comparison.differing or {}),
        "new_points": list(comparison.new_points),
        "missing_points": list(comparison.missing_points),
        "left_out": list(comparison.left_out),
        "anchored": to_builtins(comparison.anchored),
        "common": to_builtins(comparison.common),
        "devices": to_builtins(comparison.devices) if comparison.devices else None,
        "suspect": comparison.suspect,
        "changes": to_builtins(comparison.changes),
        "inherited_from": list(comparison.inherited_from),
        "inherited_since": comparison.inherited_since,
        "merge_base_problem": comparison.merge_base_problem,
        "rows": [_row(row) for row in comparison.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "sweep": row.sweep,
        "point": row.point.label if row.point else None,
        "metric": row.metric,
        "verdict": str(row.verdict),
        "against": row.against,
        **{name: getattr(row, name) for name in _NUMBERS},
        "records_to_decide": row.records_to_decide,
    }


def _curve(curve: Curve) -> dict[str, Any]:
    return {"sweep": curve.name, "points": [_point(point) for point in curve]}


def _point(point: CurvePoint) -> dict[str, Any]:
    known = {field.name: to_builtins(getattr(point, field.name)) for field in fields(point)}
    endpoints = [{name: getattr(endpoint, name) for name in _ENDPOINT} for endpoint in point.endpoints]
    return {"point": point.load.label, **known, "supported": sorted(point.supported), "endpoints": endpoints}


def without_infinities(value: Any) -> Any:
    """Replace infinite numbers and NaN, which JSON lacks, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: without_infinities(item) for name, item in value.items()}
    return [without_infinities(item) for item in value] if isinstance(value, list | tuple) else value
