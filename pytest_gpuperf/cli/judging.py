"""Compare a stored record with its baseline as the gate does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_gpuperf.analysis.rule import Rule, rule_of
from pytest_gpuperf.model import Comparison, Record, RuleSettings
from pytest_gpuperf.publish.comparison import compare_record, prior_of
from pytest_gpuperf.store import (
    Baseline,
    BaselineSpec,
    MergeBase,
    RecordFile,
    Store,
    commits_before,
    duet_history,
    merge_base_records,
    select_baseline,
)
from pytest_gpuperf.store.baseline import COMMIT, RECORD


@dataclass(frozen=True)
class JudgedRecord:
    """A record and its comparison with its baseline."""

    record: Record
    comparison: Comparison
    baseline: Baseline


def rule_for(record: Record, *, tests: int = 1, store: Store | None = None, **chosen: Any) -> Rule:
    """Return the rule that a record states, with what the command line says instead.

    Args:
        tests: Number of gated tests, for a record that doesn't state it.
        store: Store that may have a calibration of the device; the prior is an assumption when None.
        chosen: Fields of ``Rule`` that replace the record's, unless they are None.

    Raises:
        StoreError: The calibration can't be read.
    """
    prior = prior_of(store, str(record.key.get("device", "")), record.device_kind)
    rule = rule_of(record.rule or RuleSettings(tests=tests), prior)
    return replace(rule, **{name: value for name, value in chosen.items() if value is not None})


def judge(
    store: Store, record: Record, rule: Rule, *, spec: BaselineSpec | None = None, before: RecordFile | None = None
) -> JudgedRecord:
    """Compare a record with the records stored before it.

    Args:
        spec: Baseline to compare with instead of the usual one.
        before: The record's own file, if it is stored already.

    Raises:
        StoreError, UnreadableRecord: The baseline can't be read, or the store has no baseline as ``spec`` asks for.
    """
    if record.reference:
        baseline = duet_history(store, record.key, before=before)
    else:
        baseline = select_baseline(store, record.key, spec, before=before)
        if record.merge_base and (spec is None or spec.kind not in (RECORD, COMMIT)):
            merge_base = MergeBase(commits_before(Path.cwd(), record.merge_base))
            records = merge_base_records(store, record.key, merge_base, before=before)
            baseline = replace(baseline, merge_base=records)
    return JudgedRecord(record, compare_record(record, baseline, rule), baseline)
