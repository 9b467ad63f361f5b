"""Comparison of records that are in no store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import Comparison, Plain, Record
from pytest_gpuperf.publish.comparison import compare_record
from pytest_gpuperf.store import Baseline


def compare(
    candidate: Record,
    baseline: Sequence[Record],
    rule: Rule,
    *,
    pinned: Sequence[Record] = (),
    differing: Mapping[str, tuple[Plain, Plain]] | None = None,
) -> Comparison:
    """Compare a record with records, newest first, as the gate does with a test that is alone."""
    keys = dict(differing) if differing is not None else None
    return compare_record(candidate, Baseline(tuple(baseline), pinned=tuple(pinned), differing=keys), rule)
