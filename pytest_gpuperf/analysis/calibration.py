"""What A/A records show: how runs and records differ, what a gate would find among them, and how often it is wrong.

Records of which nothing was changed differ by chance alone. Each of them is judged with all others as its baseline: a
regression found there is a false alarm. Their spread is what later gates take for known (``priors``), and decides which
effects are large enough to be found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from pytest_gpuperf.analysis.compare import POWER, compare
from pytest_gpuperf.analysis.decision import decide
from pytest_gpuperf.analysis.evidence import StoredArrays, quantile, stored_evidence
from pytest_gpuperf.analysis.panel import Panel, panel
from pytest_gpuperf.analysis.priors import Assumed, Prior, Priors, calibrated
from pytest_gpuperf.analysis.robust import FloatArray, locate
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import RecordValues, SeriesPoint, values_of
from pytest_gpuperf.model import Record, Verdict

#: Runs in a record and records in the baseline for which the smallest detectable effect is told.
RUNS = (3, 5, 8)
RECORDS = (1, 5, 20)


@dataclass(frozen=True)
class Proportion:
    """So many of so many.

    Attributes:
        low, high: exact 95% interval (Clopper and Pearson 1934).
    """

    count: int
    of: int

    @property
    def low(self) -> float:
        return float(special.betaincinv(self.count, self.of - self.count + 1, 0.025)) if self.count else 0.0

    @property
    def high(self) -> float:
        if self.count == self.of:
            return 1.0
        return float(special.betaincinv(self.count + 1, self.of - self.count, 0.975))


@dataclass(frozen=True)
class SeriesSpread:
    """How one metric of one load point differs by chance.

    Attributes:
        point: None: the mean over the points of the sweep.
        run_sd: between the fresh starts of a record, of the log; NaN with a single one.
        record_sd: between records, beyond what their runs explain.
        detectable: the smallest worsening that is found with 80% probability, as a share, by records in the baseline
            and runs.
    """

    sweep: str
    point: SeriesPoint | None
    metric: str
    run_sd: float
    record_sd: float
    detectable: Mapping[tuple[int, int], float]


@dataclass(frozen=True)
class TestSpread:
    """One test.

    Attributes:
        false_alarms: of its records, each against all others.
    """

    __test__ = False

    test: str
    series: tuple[SeriesSpread, ...]
    false_alarms: Proportion


@dataclass(frozen=True)
class PooledSpread:
    """The standard deviation of a record's value over all tests, by metric, and its degrees of freedom."""

    record_sd: Mapping[str, float]
    freedom: Mapping[str, float]


@dataclass(frozen=True)
class CalibrationResult:
    """All tests of a device.

    Attributes:
        false_alarms: of whole invocations, with an alarm in any test.
    """

    tests: tuple[TestSpread, ...]
    pooled: PooledSpread
    false_alarms: Proportion


@dataclass(frozen=True)
class _Variances:
    """Variances of the log, arrays of shape (series,).

    Attributes:
        run: between runs; 0 where nothing shows it.
        between: of a record's value, its runs included.
        component: of it, what the runs don't explain.
        freedom: of ``between``.
    """

    run: FloatArray
    between: FloatArray
    component: FloatArray
    freedom: float


def calibrate(tests: Sequence[Sequence[Record]], rules: Sequence[Rule]) -> CalibrationResult:
    """Calibrate from A/A records of one device.

    Args:
        tests: the records of each test, two or more, all of one key; one record may share its invocation with those
            of other tests.
        rules: of each test, with the prior that is assumed.
    """
    values = [[values_of(one, rule.metrics) for one in records] for records, rule in zip(tests, rules, strict=True)]
    pooled = pool(values, rules)
    alarmed: dict[str, bool] = {}
    judged = []
    for records, rule in zip(tests, rules, strict=True):
        found = {}
        for record in records:
            # What it is judged by must not know it.
            prior = _without(record.invocation, tests, values, rules, rule)
            others = [other for other in records if other is not record]
            found[record.id] = compare(record, others, replace(rule, prior=prior)).verdict is Verdict.REGRESSED
            alarmed[record.invocation] = alarmed.get(record.invocation, False) or found[record.id]
        judged.append(Proportion(sum(found.values()), len(found)))
    rows = [_series(side, replace(rule, prior=_prior(rule, pooled))) for side, rule in zip(values, rules, strict=True)]
    return CalibrationResult(
        tests=tuple(
            TestSpread(records[0].test, series, rate) for records, series, rate in zip(tests, rows, judged, strict=True)
        ),
        pooled=pooled,
        false_alarms=Proportion(sum(alarmed.values()), len(alarmed)),
    )


def pool(tests: Iterable[Sequence[RecordValues]], rules: Sequence[Rule]) -> PooledSpread:
    """The spread of records by metric.

    A record moves all points of a test at once, so that the degrees of freedom are those of its records, and not as
    many times that as there are points.
    """
    squares: dict[str, float] = {}
    freedom: dict[str, float] = {}
    for records, rule in zip(tests, rules, strict=True):
        whole = _panel(records, rule)
        if whole is None:
            continue
        variances = _variances(whole)
        for metric in {metric for *_, metric in whole.keys}:
            rows = [row for row, key in enumerate(whole.keys) if key[2] == metric and row >= whole.sweeps]
            squares[metric] = squares.get(metric, 0.0) + variances.freedom * float(variances.between[rows].mean())
            freedom[metric] = freedom.get(metric, 0.0) + variances.freedom
    return PooledSpread(
        {metric: math.sqrt(total / freedom[metric]) for metric, total in sorted(squares.items())}, freedom
    )


def _without(
    invocation: str,
    tests: Sequence[Sequence[Record]],
    values: Sequence[Sequence[RecordValues]],
    rules: Sequence[Rule],
    rule: Rule,
) -> Prior | Priors:
    """The prior of a rule as it would be without one invocation."""
    rest = [
        [value for value, record in zip(side, records, strict=True) if record.invocation != invocation]
        for side, records in zip(values, tests, strict=True)
    ]
    return _prior(rule, pool(rest, rules))


def _prior(rule: Rule, pooled: PooledSpread) -> Prior | Priors:
    assumed = rule.prior.default if isinstance(rule.prior, Priors) else rule.prior
    return calibrated(assumed, pooled.record_sd, pooled.freedom)


def _panel(records: Sequence[RecordValues], rule: Rule) -> Panel | None:
    """What all records have, in the order of the first one; None where there is nothing to learn."""
    if len(records) < 2:
        return None
    first, *others = records
    keys = [key for key in first.values if key[2] in rule.metrics and all(key in other.values for other in others)]
    return panel(keys, records) if keys else None


def _variances(whole: Panel) -> _Variances:
    runs = locate(whole.stacked(slice(None)))
    freedom = runs.freedom.sum(axis=-1)
    run = (runs.freedom * runs.variance).sum(axis=-1) / np.maximum(freedom, 1)
    between = runs.centre.var(axis=-1, ddof=1)
    component = np.maximum(between - run * (1 / runs.count).mean(axis=-1), 0.0)
    return _Variances(run, between, component, float(runs.centre.shape[-1] - 1))


def _series(records: Sequence[RecordValues], rule: Rule) -> tuple[SeriesSpread, ...]:
    whole = _panel(records, rule)
    if whole is None:
        return ()
    variances = _variances(whole)
    sizes = {(m, k): _detectable(whole, variances, rule, m, k) for m in RECORDS for k in RUNS}
    alone = all(side.shape[1] < 2 for side in whole.sides)
    return tuple(
        SeriesSpread(
            sweep=sweep,
            point=point,
            metric=metric,
            run_sd=math.nan if alone else math.sqrt(variances.run[row]),
            record_sd=math.sqrt(variances.component[row]),
            detectable={which: float(found[row]) for which, found in sizes.items()},
        )
        for row, (sweep, point, metric) in enumerate(whole.keys)
    )


def _detectable(whole: Panel, variances: _Variances, rule: Rule, records: int, runs: int) -> FloatArray:
    """The smallest worsening found with 80% probability, shape (series,).

    The gate's own estimates, of records and runs that spread exactly as those that were measured do.
    """
    starts = _scores(runs)
    shown = locate(starts)
    starts = starts / math.sqrt(float(shown.variance))
    levels = _scores(records)
    levels = levels / levels.std(ddof=1) if records > 1 else levels
    candidate = np.sqrt(variances.run)[:, None] * starts
    spread = np.sqrt(variances.component + variances.run / float(shown.count))
    prior = Assumed.of(
        [rule.prior.of(sweep, point.label if point else "", metric) for sweep, point, metric in whole.keys]
    )
    evidence = stored_evidence(
        StoredArrays(
            candidate=candidate,
            history=spread[:, None, None] * levels[:, None] + candidate[:, None, :],
            averaging_matrix=whole.averaging_matrix,
        ),
        prior,
    )
    level = decide(evidence, whole.sweeps, rule).level
    found = quantile(level, evidence.freedom) + quantile(1 - POWER, evidence.freedom)
    return np.asarray(np.expm1(np.minimum(rule.margin + found * evidence.error, 50.0)))


def _scores(count: int) -> FloatArray:
    """Values spaced as a normal sample's are, on average."""
    return np.asarray(special.ndtri((np.arange(count) + 0.5) / count))
