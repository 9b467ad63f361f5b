"""Compare stored records with their baselines as the gate does: together with the other tests of their invocation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_gpuperf.analysis.rule import Rule, rule_of
from pytest_gpuperf.cli.stored_records import StoredRecord
from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import Comparison, Record, RuleSettings, Verdict
from pytest_gpuperf.publish.comparison import UNCOMPARED, compare_invocation, compare_record, prior_of, to_judge
from pytest_gpuperf.publish.pool import PoolReader
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

#: Most other tests of an invocation that are read, with their baselines, to judge some of its tests: what all tests
#: moved by together is known well from so many. Each costs about 20 files.
MOST_BESIDE = 30
#: Tests that are named where verdicts differ.
_SHOWN = 3


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
    baseline = _baseline(store, record, spec, before)
    return JudgedRecord(record, compare_record(record, baseline, rule), baseline)


def judge_together(
    store: Store,
    chosen: Sequence[StoredRecord],
    invocation: Sequence[StoredRecord],
    rule: Callable[[Record], Rule],
    *,
    spec: BaselineSpec | None = None,
) -> list[JudgedRecord]:
    """Compare complete records as the gate did at the end of their invocation: with all tests of it known.

    Duets, and records that pytest did not measure, are judged alone.

    Args:
        chosen: Records to compare.
        invocation: Records of the same invocations. Of those that are not chosen, ``MOST_BESIDE`` are read.
        rule: Returns the rule of a record.
        spec: See ``judge``.

    Raises:
        StoreError, UnreadableRecord: The baseline of a chosen record can't be read, or is not there.
    """
    judged: dict[int, JudgedRecord] = {}
    suites: dict[str, list[int]] = {}
    for place, stored in enumerate(chosen):
        if _is_of_suite(stored.record):
            suites.setdefault(stored.record.invocation, []).append(place)
        else:
            judged[place] = judge(store, stored.record, rule(stored.record), spec=spec, before=stored.file)
    pools = PoolReader(store, cache=False)
    for name, places in suites.items():
        members = [chosen[place] for place in places]
        baselines = [_baseline(store, member.record, spec, member.file) for member in members]
        for stored in _beside(members, invocation, name):
            try:
                baselines.append(_baseline(store, stored.record, spec, stored.file))
            except (StoreError, UnreadableRecord):
                continue  # it only shows what the tests have in common
            members.append(stored)
        to_compare = [
            to_judge(member.record, baseline, rule(member.record))
            for member, baseline in zip(members, baselines, strict=True)
        ]
        comparisons = compare_invocation(to_compare, pools.read(*(member.record.key for member in members))).comparisons
        for place, comparison, baseline in zip(places, comparisons, baselines, strict=False):
            judged[place] = JudgedRecord(chosen[place].record, comparison, baseline)
    return [judged[place] for place in range(len(chosen))]


def differing_verdicts(judged: Sequence[JudgedRecord]) -> str:
    """Return a line on the records that their gate judged otherwise; empty if there are none."""
    differing = [
        f"{each.record.test} was {each.record.verdict}, now {each.comparison.verdict}"
        for each in judged
        if each.record.verdict and each.record.verdict != _stored_verdict(each.comparison.verdict)
    ]
    if not differing:
        return ""
    shown = "; ".join(differing[:_SHOWN]) + (f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else "")
    return f"verdicts differ from those of the gate, because the store or the settings changed since: {shown}"


def _stored_verdict(verdict: Verdict) -> str:
    return "" if verdict in UNCOMPARED else str(verdict)


def _is_of_suite(record: Record) -> bool:
    """Return whether the gate judged a record together with the other tests of its invocation."""
    return record.status == "complete" and not record.reference and record.rule is not None and bool(record.invocation)


def _beside(members: Sequence[StoredRecord], invocation: Sequence[StoredRecord], name: str) -> list[StoredRecord]:
    """Return the records of an invocation that show what its tests have in common, besides those that are judged."""
    tests = {member.record.test for member in members}
    beside = {
        stored.record.test: stored
        for stored in invocation
        if _is_of_suite(stored.record) and stored.record.invocation == name and stored.record.test not in tests
    }
    return list(beside.values())[:MOST_BESIDE]


def _baseline(store: Store, record: Record, spec: BaselineSpec | None, before: RecordFile | None) -> Baseline:
    if record.reference:
        return duet_history(store, record.key, before=before)
    baseline = select_baseline(store, record.key, spec, before=before)
    if record.merge_base and (spec is None or spec.kind not in (RECORD, COMMIT)):
        merge_base = MergeBase(commits_before(Path.cwd(), record.merge_base))
        records = merge_base_records(store, record.key, merge_base, before=before)
        return replace(baseline, merge_base=records)
    return baseline
