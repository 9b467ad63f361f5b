"""Input of reports: a test's outcome with its curves and costs, and in charts the records before it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from pytest_gpuperf.analysis.cost.fleets import point_costs
from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import Price, Record, ReportedTest, curves_of
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.store import RecordFile, Store

#: Records of a chart over time. Each costs a file to read and its histograms in memory.
MOST_HISTORY = 30


def reported_of(
    store: Store, outcome: TestOutcome, *, prices: Sequence[Price] = (), charts: bool = False
) -> ReportedTest:
    """Return what a report shows of one test.

    Args:
        store: Store that charts over time read earlier records from; nothing else is read.
        charts: Whether the report has charts, which show the whole baseline and the records before it.

    Raises:
        StoreError: The store can't be listed.
    """
    record, comparison = outcome.record, outcome.comparison
    duet = comparison.mode == "duet"
    baseline = outcome.shown_baseline(charts=charts)
    base_runs = record.reference if duet else baseline[0].runs if baseline else ()
    curves = curves_of(record.runs)
    return ReportedTest(
        record=record,
        curves=curves,
        comparison=comparison,
        base_curves=curves_of(base_runs),
        baseline=baseline,
        history=_history(store, record, baseline) if charts and not duet else (),
        costs=point_costs(curves, record.key, prices),
        path=outcome.path,
        store_option=outcome.store_option,
        error=outcome.error,
        file=outcome.file,
        line=outcome.line,
        expected_failure=outcome.expected_failure,
    )


def _history(store: Store, record: Record, baseline: Sequence[Record]) -> tuple[Record, ...]:
    """Return the complete records of the key up to this one, oldest first; the last is this one."""
    in_memory = {known.id: known for known in baseline}
    files = (file for file in store.newest(store.folder(record.key)) if not file.duet)
    name = store.path(record).rpartition("/")[2]
    earlier_files = islice((file for file in files if file.name < name and file.id != record.id), MOST_HISTORY - 1)
    earlier = [in_memory.get(file.id) or _readable(store, file) for file in earlier_files]
    return (*reversed([known for known in earlier if known is not None and known.status == "complete"]), record)


def _readable(store: Store, file: RecordFile) -> Record | None:
    """Return a record; None if it can't be read: the gate reports that, and a chart leaves the record out."""
    try:
        return store.read(file)
    except UnreadableRecord:
        return None
