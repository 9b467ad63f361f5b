"""Comparison of all tests of an invocation with their baselines: rows with verdicts, and the common mode.

``evidence`` has the arithmetic and its sources, ``multiplicity`` the split of alpha. Here both are applied to a
record's series, and each series gets a verdict: regressed (worse by more than the minimum effect), improved (better by
more), unchanged (shown to lie inside the equivalence bounds), or else inconclusive. "Unchanged" is a claim, too: it is
made only where two one-sided tests put the change inside the bounds. ``duet.compare`` compares the sides of a duet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pytest_gpuperf.analysis.anchored import choose_anchored, in_candidate_units
from pytest_gpuperf.analysis.decision import decide
from pytest_gpuperf.analysis.evidence import StoredArrays
from pytest_gpuperf.analysis.panel import panel
from pytest_gpuperf.analysis.priors import series_priors
from pytest_gpuperf.analysis.rule import ENOUGH_TESTS, Rule
from pytest_gpuperf.analysis.suite.arrays import TestArrays
from pytest_gpuperf.analysis.suite.forecast import Forecast
from pytest_gpuperf.analysis.suite.judge import Movement, judge
from pytest_gpuperf.analysis.suite.rows import detectable_worsening, left_out_names, point_names, ratios_of, rows_of
from pytest_gpuperf.analysis.values import RecordValues, worsening_of
from pytest_gpuperf.model import AnchoredMetric, CommonMode, Comparison, DeviceSpread, PooledTest, Row, Verdict, worst

#: A worsening of at least so much is suspect at this level already.
_LARGE, _LARGE_ALPHA = 0.5, 0.25
#: Verdicts of records that join the baseline, unless they are suspect.
_JOINING = (Verdict.INCONCLUSIVE, Verdict.IMPROVED, Verdict.UNCHANGED)


@dataclass(frozen=True, eq=False)
class TestValues:
    """Values of a test, of its baseline (newest first) and of pinned records, with the rule that decides."""

    __test__ = False

    candidate: RecordValues
    baseline: Sequence[RecordValues]
    rule: Rule
    pinned: Sequence[RecordValues] = ()

    @cached_property
    def arrays(self) -> TestSides:
        """The test against each of its baselines. Made once: a suite is judged at the end of each of its tests."""
        compared, references, anchored = choose_anchored(
            self.candidate, [*self.baseline, *self.pinned], self.rule.metrics
        )
        baseline, pinned = references[: len(self.baseline)], references[len(self.baseline) :]
        return TestSides(
            _arrays(baseline, compared, baseline, self.rule) if baseline else None,
            _arrays(pinned, compared, baseline, self.rule) if pinned else None,
            anchored,
        )


@dataclass(frozen=True)
class TestSides:
    """A test against its rolling baseline and against pinned records; None where they have no series in common."""

    __test__ = False

    rolling: TestArrays | None
    fixed: TestArrays | None
    anchored: tuple[AnchoredMetric, ...]


@dataclass(frozen=True)
class SuiteComparison:
    """The comparison of the tests of an invocation, and what all of them changed by together."""

    comparisons: Mapping[str, Comparison]
    common: tuple[CommonMode, ...] = ()


def compare_suite_values(
    tests: Mapping[str, TestValues],
    pool: Mapping[str, PooledTest] | None = None,
    *,
    share: float = 1.0,
    only: str | None = None,
) -> SuiteComparison:
    """Compare all tests of an invocation.

    Args:
        pool: What the store shows of tests of the same device model; tests that are compared here don't count.
        share: Part of each test's alpha that may be spent.
        only: Compare this test alone, and use the others for what they show.
    """
    rolling = {name: test.arrays.rolling for name, test in tests.items() if test.arrays.rolling is not None}
    suite = judge(rolling, pool, only=only)
    judged_devices = _judged_devices(rolling.values())
    common = {each.device: _common_modes(each, tests, judged_devices) for each in suite.movements}
    comparisons = {}
    for name in tests if only is None else [only]:
        test = tests[name]
        rule = replace(test.rule, share=share)
        sides = [("baseline", rolling[name], suite)] if name in rolling else []
        if test.arrays.fixed is not None:
            sides.append(("pinned", test.arrays.fixed, judge({name: test.arrays.fixed}, pool)))
        rows: list[Row] = []
        for against, arrays, judged in sides:
            rows += rows_of(
                arrays, arrays.values.candidate, judged.evidence[name], rule, against=against, share=1 / len(sides)
            )
        if test.arrays.anchored:
            rows = in_candidate_units(rows, test.candidate, test.arrays.anchored)
        metrics = {row.metric for row in rows}
        shared = common.get(rolling[name].device, []) if name in rolling else []
        modes = tuple(mode for mode in shared if mode.metric in metrics)
        comparison = _comparison(test, rows)
        comparisons[name] = replace(
            comparison,
            anchored=test.arrays.anchored,
            common=modes,
            devices=_device_spread(suite.forecasts.get(name, {})),
            suspect=comparison.suspect or (comparison.verdict in _JOINING and _is_suspect_together(modes, rule)),
        )
    return SuiteComparison(comparisons, tuple(mode for modes in common.values() for mode in modes))


def compare_values(
    candidate: RecordValues,
    baseline: Sequence[RecordValues],
    rule: Rule,
    *,
    pinned: Sequence[RecordValues] = (),
) -> Comparison:
    """Compare a record with its baseline, newest first, by itself."""
    return compare_suite_values({"": TestValues(candidate, baseline, rule, pinned)}).comparisons[""]


def _comparison(test: TestValues, rows: list[Row]) -> Comparison:
    records, candidate, rule = (*test.baseline, *test.pinned), test.candidate, test.rule
    points, baseline_points = candidate.points, {point for record in records for point in record.points}
    verdict = worst([row.verdict for row in rows])
    return Comparison(
        verdict=verdict,
        rows=tuple(rows),
        baseline=tuple(dict.fromkeys(record.id for record in records)),
        new_points=point_names(points - baseline_points) if records else (),
        missing_points=point_names(baseline_points - points),
        left_out=left_out_names((candidate, *records), candidate, rule),
        alpha=rule.alpha,
        min_effect=rule.min_effect,
        suspect=verdict in _JOINING and _is_suspect(rows, rule),
    )


def _is_suspect(rows: Sequence[Row], rule: Rule) -> bool:
    """Return whether some row would be a regression if it were the only comparison of the invocation.

    A large worsening is suspect with less evidence: it would do more harm in a baseline, and waiting costs a record.
    Rows of single points count where there is no mean over their sweep: of many points, some look worse by chance.
    """
    averaged = {(row.sweep, row.metric, row.against) for row in rows if row.point is None}
    return any(
        row.p_value <= (_LARGE_ALPHA if row.worsening >= _LARGE else rule.alpha)
        for row in rows
        if row.point is None or (row.sweep, row.metric, row.against) not in averaged
    )


def _is_suspect_together(modes: Sequence[CommonMode], rule: Rule) -> bool:
    """Return whether all tests of the invocation may have become slower: each of their records then waits."""
    return any(mode.p_value <= rule.alpha for mode in modes)


def _device_spread(forecasts: Mapping[str, Forecast]) -> DeviceSpread | None:
    """Return how the candidate's device relates to those of the baseline, by the metric that differs most."""
    mixed = [forecast for forecast in forecasts.values() if forecast.device_sd]
    if not mixed:
        return None
    widest = max(mixed, key=lambda forecast: forecast.device_sd)
    others = widest.devices - bool(widest.known)
    return DeviceSpread(widest.known, others, widest.device_sd, measured=widest.devices > 1)


def _judged_devices(tests: Iterable[TestArrays]) -> int:
    """Return the number of devices on which what all tests moved by together is judged: these share its alpha."""
    return max(sum(count >= ENOUGH_TESTS for count in Counter(test.device for test in tests).values()), 1)


def _common_modes(movement: Movement, tests: Mapping[str, TestValues], judged_devices: int) -> list[CommonMode]:
    """Decide about what all tests of a device moved by together."""
    rule = next(iter(tests.values())).rule
    rule = replace(
        rule,
        tests=1,
        alpha=rule.common_alpha / judged_devices,
        min_effect=min(test.rule.min_effect for test in tests.values()),
    )
    decision = decide(movement.evidence, 0, rule)
    detectable = detectable_worsening(movement.evidence, decision, rule).tolist()
    ratios = ratios_of(movement.evidence, decision, movement.metrics)
    return [
        CommonMode(
            metric=metric,
            ratio=ratio.ratio,
            low=ratio.low,
            high=ratio.high,
            p_value=float(decision.p_worse[index]),
            verdict=ratio.verdict,
            tests=movement.tests,
            invocations=movement.invocations,
            min_detectable=worsening_of(metric, detectable[index]),
            confidence=ratio.confidence,
        )
        for index, (metric, ratio) in enumerate(zip(movement.metrics, ratios, strict=True))
    ]


def _arrays(
    reference: Sequence[RecordValues], candidate: RecordValues, history: Sequence[RecordValues], rule: Rule
) -> TestArrays | None:
    """Return a test and one of its baselines as arrays; None if they have no series in common.

    The spread between records is read from the history, also for the comparison with pinned records, of which there is
    often only one; series that the history lacks are judged by the pinned records themselves.
    """
    known = {key for record in reference for key in record.values}
    keys = [key for key in candidate.values if key[2] in rule.metrics and key in known]
    if not keys:
        return None
    spread_records = [] if reference is history else [*history, *_records_of_new_series(history, reference)]
    split = 1 + len(reference)
    series = panel(keys, [candidate, *reference, *spread_records])
    series = series.select(series.is_measured(0) & series.is_measured(slice(1, split)))
    references = series.stack(slice(1, split))
    shown = spread_records or reference
    return TestArrays(
        series.keys,
        series.sweeps,
        StoredArrays(
            candidate=series.sides[0],
            history=series.stack(slice(split, None)) if spread_records else references,
            reference=references if spread_records else None,
            candidate_disturbance=series.disturbances[0],
            reference_disturbance=series.stack_disturbances(slice(1, split)),
            averaging_matrix=series.averaging_matrix,
        ),
        series_priors(rule.prior, series.keys),
        candidate.device,
        tuple(record.device for record in shown),
        tuple(record.invocation for record in shown),
        tuple(record.device for record in reference),
    )


def _records_of_new_series(history: Sequence[RecordValues], reference: Sequence[RecordValues]) -> list[RecordValues]:
    """Return the reference's records, reduced to the series that the history lacks."""
    known = {key for record in history for key in record.values}
    reduced = [
        RecordValues(record.id, {key: values for key, values in record.values.items() if key not in known})
        for record in reference
    ]
    return [record for record in reduced if record.values]
