"""The comparison of a duet's two sides: both were measured now, so that it needs no stored baseline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import Comparison, Record, Run, Verdict
from pytest_gpuperf.publish.comparison import compare_record
from pytest_gpuperf.session.measurement import Measurement
from pytest_gpuperf.store import Baseline
from pytest_gpuperf.store.key import difference

#: Suffix of a sweep's name under which a record says what the reference of the sweep was.
_REFERENCE = " (reference)"


def with_reference(record: Record, measurement: Measurement) -> Record:
    """Return the record of a test's duets, with what their references were."""
    facts = {f"{sweep.name}{_REFERENCE}": sweep.reference_under_test for sweep in measurement.sweeps}
    return replace(record, under_test={**record.under_test, **facts})


def reference_record(record: Record, measurement: Measurement) -> Record:
    """Return the references of a test's duets as a record of their own."""
    facts = {sweep.name: sweep.reference_under_test for sweep in measurement.sweeps}
    return replace(record, runs=record.reference, reference=(), under_test=facts)


def joined(record: Record, reference: Record) -> Record:
    """Return two sides, measured by two processes, as one record."""
    facts = {
        f"{name}{_REFERENCE}": {**under_test, "commit": reference.commit}
        for name, under_test in reference.under_test.items()
    }
    complete = record.status == reference.status == "complete"
    return replace(
        record,
        reference=reference.runs,
        status="complete" if complete else "incomplete",
        under_test={**record.under_test, **facts},
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
    candidate = {name: facts for name, facts in record.under_test.items() if not name.endswith(_REFERENCE)}
    points, reference_points = _points(record.runs), _points(record.reference)
    return replace(
        compare_record(record, history, rule),
        changes=changes(reference, replace(record, under_test=candidate)),
        new_points=tuple(sorted(points - reference_points)),
        missing_points=tuple(sorted(reference_points - points)),
    )


def _points(runs: Iterable[Run]) -> set[str]:
    return {f"{run.sweep}: {window.point.label}" for run in runs for window in run.windows}
