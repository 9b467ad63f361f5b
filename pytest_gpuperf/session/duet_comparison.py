"""The gate of duets: both sides were measured now, so no stored baseline is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.compare import compare_duet
from pytest_gpuperf.model import Comparison, Record, Run, Verdict
from pytest_gpuperf.session.judge import rule_of
from pytest_gpuperf.session.measurement import Measurement
from pytest_gpuperf.store.key import difference

if TYPE_CHECKING:
    from pytest_gpuperf.session.state import State

#: What is under test on the other side has the sweep's name and this.
REFERENCE = " (reference)"


def own_reference(record: Record, measured: Measurement) -> Record:
    """The other side of the duets of one test, as if it were a record of its own."""
    facts = {sweep.name: sweep.reference_under_test for sweep in measured.sweeps}
    return replace(record, runs=record.reference, reference=(), under_test=facts)


def joined(record: Record, reference: Record) -> Record:
    """Two sides, measured by two processes, as one record."""
    facts = {
        f"{name}{REFERENCE}": {**known, "commit": reference.commit} for name, known in reference.under_test.items()
    }
    complete = record.status == reference.status == "complete"
    return replace(
        record,
        reference=reference.runs,
        status="complete" if complete else "incomplete",
        under_test={**record.under_test, **facts},
    )


def compared(state: State, measured: Measurement, record: Record, reference: Record) -> Comparison:
    """The verdict about both sides.

    Args:
        record: with the runs of both.
        reference: the other side alone, for what else differs.
    """
    differing = difference(reference.key, record.key)
    if differing:
        return Comparison(Verdict.NOT_COMPARABLE, differing=differing, mode="duet")
    history = measured.baseline.records if measured.baseline is not None else ()
    rule = rule_of(state, measured.marker, measured.look_share)
    comparison = compare_duet(record, history, rule)
    ours = replace(record, under_test={k: v for k, v in record.under_test.items() if not k.endswith(REFERENCE)})
    here, there = _points(record.runs), _points(record.reference)
    return replace(
        comparison,
        changes=changes(reference, ours),
        new_points=tuple(sorted(here - there)),
        missing_points=tuple(sorted(there - here)),
    )


def _points(runs: Iterable[Run]) -> set[str]:
    return {f"{run.sweep}: {window.point.label}" for run in runs for window in run.windows}
