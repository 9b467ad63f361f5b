"""Comparison of a record with its baseline, for the gate, ``gpuperf compare`` and ``gpuperf report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.duet.compare import compare_duet
from pytest_gpuperf.analysis.priors import PRIORS, Prior, Priors, calibrated_priors
from pytest_gpuperf.analysis.rule import ENOUGH_TESTS, SHARE_AT_ITS_END, Rule
from pytest_gpuperf.analysis.suite.comparison import TestValues, compare_suite_values
from pytest_gpuperf.analysis.suite.inherited import is_explained
from pytest_gpuperf.analysis.values import RecordValues, comparable_values, energy_methods
from pytest_gpuperf.model import Change, CommonMode, Comparison, Plain, PooledTest, Record, Verdict
from pytest_gpuperf.publish.inherited import MergeBaseValues, with_inherited
from pytest_gpuperf.store import Baseline, Store, newest_calibration
from pytest_gpuperf.store.cache.pool import hardware_digest

#: Verdicts of records that were compared with nothing.
UNCOMPARED = (Verdict.NO_BASELINE, Verdict.NOT_COMPARABLE)

#: What a store shows of the tests of each hardware, by ``RecordToJudge.hardware`` and test.
Pools = Mapping[str, Mapping[str, PooledTest]]


def prior_of(store: Store | None, device: str, kind: str) -> Prior | Priors:
    """Return the prior of the spread between a device's records: the calibrated one, else the assumed one.

    Args:
        store: Store that may have a calibration.
        device: Device model as keys name it.
        kind: Kind of the device (``Record.device_kind``).

    Raises:
        StoreError: The calibration can't be read.
    """
    assumed = PRIORS[kind]
    calibration = newest_calibration(store, device) if store is not None and kind != "unknown" else None
    return calibrated_priors(assumed, calibration.record_sd, calibration.freedom) if calibration else assumed


def compare_record(record: Record, baseline: Baseline, rule: Rule) -> Comparison:
    """Compare a record with its baseline; a duet's with its own reference, for which the baseline shows the spread."""
    if record.reference:
        return compare_duet(record, baseline.records, rule)
    return compare_alone(to_judge(record, baseline, rule))


def rows_of_sweep(comparison: Comparison, sweep: str) -> Comparison:
    """Return a comparison with the rows of a single sweep; its verdict stays that of the test."""
    return replace(comparison, rows=tuple(row for row in comparison.rows if row.sweep == sweep))


@dataclass(frozen=True, eq=False)
class RecordToJudge:
    """A record, reduced to all that decides about it: of many tests, this fits into memory and into reports.

    Attributes:
        test: Id of the test.
        candidate: Values of the record.
        baseline: Values of the rolling baseline, newest first.
        pinned: Values of the pinned records, the last pinned first.
        changes: Other differences from the newest baseline record.
        differing: Differences of the key, if the test has records but none of this key.
        merge_base: Values of the merge base, for inherited regressions; None on the main branch.
        hardware: Digest of the key's hardware and measuring rules. Only tests with equal ones show something of each
            other.
    """

    test: str
    candidate: RecordValues
    baseline: tuple[RecordValues, ...]
    rule: Rule
    pinned: tuple[RecordValues, ...] = ()
    changes: tuple[Change, ...] = ()
    differing: Mapping[str, tuple[Plain, Plain]] | None = None
    merge_base: MergeBaseValues | None = None
    hardware: str = ""

    @cached_property
    def as_values(self) -> TestValues:
        """The part that the analysis works on."""
        return TestValues(self.candidate, self.baseline, self.rule, self.pinned)


def to_judge(record: Record, baseline: Baseline, rule: Rule) -> RecordToJudge:
    """Return what decides about a record that is compared with stored ones."""
    method = energy_methods(record)

    def values(each: Record) -> RecordValues:
        return comparable_values(each, method, rule.metrics)

    merge_base = baseline.merge_base
    newest = next(iter((*baseline.records, *baseline.pinned)), None)
    return RecordToJudge(
        test=record.test,
        candidate=values(record),
        baseline=tuple(map(values, baseline.records)),
        rule=rule,
        pinned=tuple(map(values, baseline.pinned)),
        changes=changes(newest, record) if newest is not None else (),
        differing=baseline.differing,
        merge_base=MergeBaseValues(tuple(map(values, merge_base.records)), merge_base.since, merge_base.problem)
        if merge_base is not None
        else None,
        hardware=hardware_digest(record.key),
    )


def compare_alone(each: RecordToJudge) -> Comparison:
    """Compare a record with its baseline, without the other tests of its invocation."""
    return compare_together([each]).comparisons[0]


def inherited(each: RecordToJudge, comparison: Comparison) -> Comparison:
    """Return the comparison of a record in which the regressions of the merge base are inherited, not regressed."""
    return with_inherited(comparison, each.merge_base, each.candidate, each.baseline, each.rule, pinned=each.pinned)


def compare_next(each: RecordToJudge, earlier: Sequence[RecordToJudge], pools: Pools) -> Comparison:
    """Compare a record at the end of its test, when the later tests of its invocation are not known yet.

    In a suite this may spend a part of the test's alpha only. ``compare_invocation`` spends the rest.

    Args:
        earlier: Records of the invocation that this process has judged before.
        pools: See ``compare_invocation``.
    """
    suite = [*(record for record in earlier if record.hardware == each.hardware), each]
    pool = pools.get(each.hardware)
    return compare_together(suite, pool, share=SHARE_AT_ITS_END, only_last=True).comparisons[0]


@dataclass(frozen=True)
class InvocationComparison:
    """The comparison of all records of an invocation.

    Attributes:
        comparisons: Comparison of each record, in the order given.
        common: What all tests changed by together, by metric; it is gated once, here.
    """

    comparisons: tuple[Comparison, ...]
    common: tuple[CommonMode, ...] = ()


def compare_invocation(records: Sequence[RecordToJudge], pools: Pools) -> InvocationComparison:
    """Compare all records of an invocation at its end, each with its baseline and with what the other tests show.

    Tests of different hardware are judged apart: they have neither spreads nor movements in common.

    Args:
        pools: What the store shows of tests of the same hardware; tests that are judged here don't count.
    """
    comparisons: dict[int, Comparison] = {}
    common: list[CommonMode] = []
    for hardware in dict.fromkeys(each.hardware for each in records):
        places = [place for place, each in enumerate(records) if each.hardware == hardware]
        judged = _compare_suite([records[place] for place in places], pools.get(hardware))
        comparisons.update(zip(places, judged.comparisons, strict=True))
        common += judged.common
    return InvocationComparison(tuple(comparisons[place] for place in range(len(records))), tuple(common))


def _compare_suite(records: Sequence[RecordToJudge], pool: Mapping[str, PooledTest] | None) -> InvocationComparison:
    """Compare all records of an invocation that were measured on the same hardware."""
    judged = compare_together(records, pool, share=1 - SHARE_AT_ITS_END)
    replaced = _inherited_modes(records, judged.common)
    common = tuple(replaced.get(mode, mode) for mode in judged.common)
    # Reports read what all tests changed by from the tests, also from those that have no baseline.
    comparisons = [
        replace(each, common=tuple(replaced.get(mode, mode) for mode in each.common) or common)
        for each in judged.comparisons
    ]
    return InvocationComparison(tuple(comparisons), common)


def _inherited_modes(records: Sequence[RecordToJudge], common: Sequence[CommonMode]) -> Mapping[CommonMode, CommonMode]:
    """Return what all tests regressed by together, where they regressed as much on the main branch: as inherited."""
    regressed = [mode for mode in common if mode.verdict is Verdict.REGRESSED]
    tests = {
        each.test: TestValues(each.candidate, each.merge_base.records, each.rule)
        for each in records
        if each.merge_base is not None and each.merge_base.records
    }
    if not regressed or len(tests) < ENOUGH_TESTS:
        return {}
    changes = {mode.metric: mode for mode in compare_suite_values(tests).common}
    return {
        mode: replace(mode, verdict=Verdict.INHERITED)
        for mode in regressed
        if (change := changes.get(mode.metric)) is not None
        and change.verdict is not Verdict.REGRESSED
        and is_explained(mode.worsening, change.worsening)
    }


def compare_together(
    records: Sequence[RecordToJudge],
    pool: Mapping[str, PooledTest] | None = None,
    *,
    share: float = 1.0,
    only_last: bool = False,
) -> InvocationComparison:
    """Compare records of one invocation.

    Args:
        share: Part of each test's alpha that may be spent, where tests are judged twice.
        only_last: Compare the last record alone, and use the others for what they show.
    """
    if not records:
        return InvocationComparison(())
    tests: dict[str, RecordToJudge] = {}
    for each in records:
        tests[each.test if each.test not in tests else f"{each.test} ({len(tests)})"] = each
    suite = compare_suite_values(
        {name: each.as_values for name, each in tests.items()},
        pool,
        share=share if records[-1].rule.tests >= ENOUGH_TESTS else 1.0,
        only=list(tests)[-1] if only_last else None,
    )
    comparisons = [_with_context(tests[name], comparison) for name, comparison in suite.comparisons.items()]
    return InvocationComparison(tuple(comparisons), suite.common)


def _with_context(each: RecordToJudge, comparison: Comparison) -> Comparison:
    """Return a comparison with what else changed, and with what the merge base explains."""
    if not each.baseline and not each.pinned and each.differing is not None:
        return replace(comparison, verdict=Verdict.NOT_COMPARABLE, differing=each.differing)
    return inherited(each, replace(comparison, changes=each.changes))


def with_verdict(record: Record, comparison: Comparison, *, usable: bool = True) -> Record:
    """Return a record with the verdict of its comparison, and with what the gate says of it.

    Args:
        usable: Whether the record's figures can be used.
    """
    compared = comparison.verdict not in UNCOMPARED
    if not usable or comparison.verdict is Verdict.REGRESSED:
        gate = "failed"
    elif comparison.verdict is Verdict.INHERITED:
        gate = "inherited"
    elif comparison.suspect:
        gate = "suspect"
    else:
        gate = "passed" if compared else "open"
    return replace(record, gate=gate, verdict=str(comparison.verdict) if compared else "")
