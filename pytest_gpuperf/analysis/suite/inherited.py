"""Inherited regressions: those that the merge base has already, and that a change therefore did not cause.

A row that regressed against the baseline is inherited if, compared with the records of the merge base, it has not
regressed at the level of the test, and

* at least three fifths of the difference from the baseline (of its log) are those of the merge base; or
* it is shown to be unchanged (or improved), and the merge base is itself worse than the baseline, at alpha without
  correction.

The merge base often has a single record, with which equivalence is rarely shown; hence the first way. It is no
loophole: a change that alone made the test slower inherits only if a record of the merge base that its gate rejected
lies, by noise, three fifths of the way up to the candidate. Three fifths is where both mistakes are about equally rare:
on a main branch that is 20% slower, the best estimate of an innocent change exceeds two fifths of the sum as rarely as
that of a change that adds 20% stays below. ``benchmarks/inherited.py`` has the rates.

A row that has regressed against the merge base, where the main branch has regressed, too, is replaced by that
comparison: the change answers for its part alone. If there is such a row, the rows of which neither is shown are
replaced as well, and are then inconclusive. Otherwise they stay regressed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from pytest_gpuperf.model import MERGE_BASE, Comparison, LoadPoint, NamedPoint, Row, Verdict, worst

#: Smallest part of the difference from the baseline, as logs, that the merge base has where it explains it.
EXPLAINED = 0.6
_NOT_WORSE = (Verdict.UNCHANGED, Verdict.IMPROVED)

_RowKey = tuple[str, LoadPoint | NamedPoint | None, str]


def inherit(comparison: Comparison, from_merge_base: Comparison, of_merge_base: Comparison, alpha: float) -> Comparison:
    """Return a comparison whose rows say what is inherited.

    Args:
        comparison: The candidate, compared with its baseline.
        from_merge_base: The candidate, compared with the records of the merge base.
        of_merge_base: The newest record of the merge base, compared with the same baseline.
        alpha: Level, without correction, at which a row of the merge base counts as worse than the baseline.
    """
    changes, levels = _by_key(from_merge_base.rows), _by_key(of_merge_base.rows)
    rows: list[Row] = []
    undecided: dict[int, Row] = {}
    for row in comparison.rows:
        change, level = changes.get(_key(row)), levels.get(_key(row))
        regressed_too = level is not None and (level.verdict is Verdict.REGRESSED or level.p_value <= alpha)
        if row.verdict is not Verdict.REGRESSED or change is None:
            rows.append(row)
        elif change.verdict is Verdict.REGRESSED:
            rows.append(replace(change, against=MERGE_BASE) if regressed_too else row)
        elif is_explained(row.worsening, change.worsening) or (regressed_too and change.verdict in _NOT_WORSE):
            rows.append(replace(row, verdict=Verdict.INHERITED))
        else:
            if regressed_too:
                undecided[len(rows)] = replace(change, against=MERGE_BASE)
            rows.append(row)
    if any(row.against == MERGE_BASE for row in rows):
        rows = [undecided.get(number, row) for number, row in enumerate(rows)]
    return replace(comparison, rows=tuple(rows), verdict=worst([row.verdict for row in rows]))


def is_explained(worsening: float, further: float) -> bool:
    """Return whether the merge base has most of a worsening, of which ``further`` is the rest."""
    return math.log1p(further) <= (1 - EXPLAINED) * math.log1p(worsening)


def _key(row: Row) -> _RowKey:
    return row.sweep, row.point, row.metric


def _by_key(rows: Iterable[Row]) -> dict[_RowKey, Row]:
    """Return the rows by series; of several baselines, the row with the smallest p-value."""
    by_key: dict[_RowKey, Row] = {}
    for row in rows:
        known = by_key.get(_key(row))
        if known is None or row.p_value < known.p_value:
            by_key[_key(row)] = row
    return by_key
