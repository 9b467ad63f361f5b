"""Comparison of a regression with the records of the merge base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.comparison import compare_values
from pytest_gpuperf.analysis.suite.inherited import inherit
from pytest_gpuperf.analysis.values import RecordValues, without_movement
from pytest_gpuperf.model import Comparison, Verdict


@dataclass(frozen=True)
class MergeBaseValues:
    """Values of the records of the merge base (``MergeBaseRecords``).

    Attributes:
        records: Values, newest first; empty if the merge base has not regressed.
    """

    records: tuple[RecordValues, ...] = ()
    since: str = ""
    problem: str = ""


def with_inherited(
    comparison: Comparison,
    merge_base: MergeBaseValues | None,
    candidate: RecordValues,
    baseline: Sequence[RecordValues],
    rule: Rule,
    *,
    pinned: Sequence[RecordValues] = (),
) -> Comparison:
    """Return a comparison in which regressions that the merge base has already are inherited.

    Args:
        comparison: Comparison of the candidate with ``baseline`` and ``pinned`` by ``rule``.
        merge_base: Records of the merge base; None on the main branch.
    """
    if merge_base is None or comparison.verdict is not Verdict.REGRESSED:
        return comparison
    if not merge_base.records:
        return replace(comparison, merge_base_problem=merge_base.problem)
    ids = {each.id for each in merge_base.records}
    rolling, fixed = ([each for each in side if each.id not in ids] for side in (baseline, pinned))
    history = rolling or fixed
    if not history:
        return comparison  # the baseline is the merge base
    # The merge base was measured in another invocation: what moved all tests of this one is no change of this test.
    candidate = without_movement(candidate, comparison.common)
    # As with pinned records, the spread between records comes from the baseline.
    change = compare_values(candidate, history, rule, pinned=merge_base.records)
    from_merge_base = replace(change, rows=tuple(row for row in change.rows if row.against == "pinned"))
    of_merge_base = compare_values(merge_base.records[0], history, rule, pinned=fixed)
    judged = inherit(comparison, from_merge_base, of_merge_base, rule.alpha)
    if judged.rows == comparison.rows:
        return judged
    return replace(
        judged, inherited_from=tuple(each.id for each in merge_base.records), inherited_since=merge_base.since
    )
