"""The comparison of a duet's two sides: both were measured now, so that it needs no stored baseline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import Comparison, Record, Run, Verdict
from pytest_gpuperf.publish.comparison import compare_record
from pytest_gpuperf.store import Baseline
from pytest_gpuperf.store.key import difference


def reference_record(record: Record) -> Record:
    """Return the references of a test's duets as a record of their own."""
    under_test = record.reference_under_test
    return replace(record, runs=record.reference, reference=(), under_test=under_test, reference_under_test={})


def joined(record: Record, reference: Record) -> Record:
    """Return two sides, measured by two processes, as one record."""
    facts = {sweep: {**under_test, "commit": reference.commit} for sweep, under_test in reference.under_test.items()}
    complete = record.status == reference.status == "complete"
    return replace(
        record,
        reference=reference.runs,
        status="complete" if complete else "incomplete",
        reference_under_test=facts,
    )


def compare_sides(record: Record, reference: Record, history: Baseline, rule: Rule) -> Comparison:
    """Compare a candidate with its reference.

    Args:
        record: Runs of both sides.
        reference: The reference alone, for what else differs.
        history: Earlier duets of the key, for the spread between blocks.
    """
    differing = difference(reference.key, record.key)
    if differing:
        return Comparison(Verdict.NOT_COMPARABLE, differing=differing, mode="duet")
    points, reference_points = _points(record.runs), _points(record.reference)
    return replace(
        compare_record(record, history, rule),
        changes=changes(reference, record),
        new_points=tuple(sorted(points - reference_points)),
        missing_points=tuple(sorted(reference_points - points)),
    )


def _points(runs: Iterable[Run]) -> set[str]:
    return {f"{run.sweep}: {window.point.label}" for run in runs for window in run.windows}
