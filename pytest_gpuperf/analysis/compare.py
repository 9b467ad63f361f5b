"""Comparison of a record with its baseline: rows with verdicts. ``duet.compare`` compares the sides of a duet.

``evidence`` has the arithmetic and its sources, ``multiplicity`` the split of alpha. Here both are applied to a
record's series, and each series gets a verdict: regressed (worse by more than the minimum effect), improved (better by
more), unchanged (shown to lie inside the equivalence bounds), or else inconclusive. "Unchanged" is a claim, too: it is
made only where two one-sided tests put the change inside the bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.comparison import TestValues, compare_suite_values
from pytest_gpuperf.analysis.values import RecordValues, comparable_values, energy_methods
from pytest_gpuperf.model import Comparison, Plain, Record, Verdict


def compare(
    candidate: Record,
    baseline: Sequence[Record],
    rule: Rule,
    *,
    pinned: Sequence[Record] = (),
    differing: Mapping[str, tuple[Plain, Plain]] | None = None,
) -> Comparison:
    """Compare a record with its baseline, for each gated metric and load point that they share.

    Args:
        baseline: Accepted records of the same key, newest first.
        pinned: Pinned records: a second baseline, gated with half of alpha.
        differing: Differences of the key, if the test has records but none of this key.
    """
    method = energy_methods(candidate)
    values, *references = (
        comparable_values(record, method, rule.metrics) for record in (candidate, *baseline, *pinned)
    )
    rolling, fixed = references[: len(baseline)], references[len(baseline) :]
    comparison = compare_values(values, rolling, rule, pinned=fixed)
    newest = next(iter((*baseline, *pinned)), None)
    if newest is None and differing is not None:
        return replace(comparison, verdict=Verdict.NOT_COMPARABLE, differing=differing)
    return replace(comparison, changes=changes(newest, candidate) if newest else ())


def compare_values(
    candidate: RecordValues,
    baseline: Sequence[RecordValues],
    rule: Rule,
    *,
    pinned: Sequence[RecordValues] = (),
) -> Comparison:
    """Compare values, as ``compare`` does records."""
    return compare_suite_values({"": TestValues(candidate, baseline, rule, pinned)}).comparisons[""]
