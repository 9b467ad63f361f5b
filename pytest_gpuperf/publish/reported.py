"""The records that reports are made of: a record with its curves, and what the store has beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from pytest_gpuperf.analysis.cost import point_costs
from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import Price, Record, ReportedTest, curves_of
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.store import RecordFile, Store

#: Records of a chart over time. Each costs a file to read and its histograms in memory.
MOST_HISTORY = 30
_BUDGET = re.compile(r"(?P<metric>p\d+)=(?P<limit_ms>\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


def reported_of(
    store: Store,
    carried: TestOutcome,
    *,
    baseline: Sequence[Record] = (),
    prices: Sequence[Price] = (),
    deep: bool = False,
) -> ReportedTest:
    """What a report shows of one test.

    Args:
        prices: of machines, the newest of each.
        baseline: records of its baseline that were read already.
        deep: for charts: also the whole baseline, and the records before it.

    Raises:
        StoreError: the store can't be listed.
    """
    record, comparison = carried.record, carried.comparison
    wanted = comparison.baseline if deep else comparison.baseline[:1]
    known = {one.id: one for one in baseline}
    duet = comparison.mode == "duet"
    if not duet:
        known |= {one.id: one for one in _read(store, record, set(wanted) - known.keys())}
    found = tuple(known[name] for name in wanted if name in known) if not duet else ()
    base = record.reference if duet else found[0].runs if found else ()
    curves = curves_of(record.runs)
    return ReportedTest(
        record=record,
        curves=curves,
        comparison=comparison,
        base_curves=curves_of(base),
        baseline=found,
        history=_history(store, record, known) if deep and not duet else (),
        costs=point_costs(curves, record.key, prices),
        budgets=_budgets(record),
        path=carried.path,
        store_option=carried.store_option,
        error=carried.error,
        file=carried.file,
        line=carried.line,
    )


def _budgets(record: Record) -> tuple[tuple[str, float], ...]:
    """As the record's settings have them."""
    found = (_BUDGET.fullmatch(one) for one in str(record.settings.get("budgets_ms", "")).split())
    return tuple((match["metric"], float(match["limit_ms"])) for match in found if match)


def _read(store: Store, record: Record, ids: set[str]) -> list[Record]:
    """Records of the same key by their ids; those that are gone, or can't be read any more, are left out."""
    found: list[Record] = []
    for entry in store.newest(store.folder(record.key)) if ids else ():
        if entry.id in ids:
            ids = ids - {entry.id}
            record_read = _readable(store, entry)
            found += [record_read] if record_read else []
        if not ids:
            break
    return found


def _history(store: Store, record: Record, known: dict[str, Record]) -> tuple[Record, ...]:
    """The whole records of its key up to this one, oldest first, and itself as the last."""
    entries = (entry for entry in store.newest(store.folder(record.key)) if not entry.duet)
    own = store.path(record).rpartition("/")[2]
    earlier = islice((entry for entry in entries if entry.name < own), MOST_HISTORY - 1)
    found = [known.get(entry.id) or _readable(store, entry) for entry in earlier]
    return (*reversed([one for one in found if one is not None and one.status == "complete"]), record)


def _readable(store: Store, entry: RecordFile) -> Record | None:
    """None for what can't be read: the gate names it, and a chart does without."""
    try:
        return store.read(entry)
    except UnreadableRecord:
        return None
