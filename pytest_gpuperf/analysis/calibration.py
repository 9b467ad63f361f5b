"""Calibration from A/A records: how runs and records differ, and how often the gate raises false alarms among them.

Records between which nothing changed differ by chance alone. Each is judged with all others as its baseline, so that
every regression is a false alarm. Their spread is the prior of later gates (``priors``), and decides which effects are
detectable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import special

from pytest_gpuperf.analysis.decision import decide
from pytest_gpuperf.analysis.evidence import StoredArrays, stored_evidence
from pytest_gpuperf.analysis.panel import Panel, panel
from pytest_gpuperf.analysis.priors import Prior, Priors, calibrated_priors, series_priors
from pytest_gpuperf.analysis.robust import FloatArray, locate
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.comparison import compare_values
from pytest_gpuperf.analysis.suite.rows import detectable_worsening
from pytest_gpuperf.analysis.values import RecordValues, SeriesPoint, values_of, worsening_of
from pytest_gpuperf.model import Record, Verdict

#: Runs in a record, and records in the baseline, for which the smallest detectable effect is reported.
RUNS = (3, 5, 8)
RECORDS = (1, 5, 20)


@dataclass(frozen=True)
class Proportion:
    """A count out of a total (``of``), with its exact 95% interval (Clopper and Pearson 1934)."""

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
    """Chance differences of one metric at one load point.

    Attributes:
        point: Load point; None for the mean over the sweep.
        run_sd: Standard deviation of the log between the runs of a record; NaN with a single run.
        record_sd: Standard deviation of the log between records, beyond what their runs explain.
        detectable: Smallest worsening detected with 80% probability, as a share, by records in the baseline and runs.
    """

    sweep: str
    point: SeriesPoint | None
    metric: str
    run_sd: float
    record_sd: float
    detectable: Mapping[tuple[int, int], float]


@dataclass(frozen=True)
class TestSpread:
    """The spreads of one test, and the false alarms among its records, each judged against all others."""

    __test__ = False

    test: str
    series: tuple[SeriesSpread, ...]
    false_alarms: Proportion


@dataclass(frozen=True)
class PooledSpread:
    """Standard deviation of a record's value over all tests, by metric, and its degrees of freedom."""

    record_sd: Mapping[str, float]
    freedom: Mapping[str, float]


@dataclass(frozen=True)
class CalibrationResult:
    """The calibration of a device from all of its tests; ``false_alarms`` counts invocations with any."""

    tests: tuple[TestSpread, ...]
    pooled: PooledSpread
    false_alarms: Proportion


class _Variances(NamedTuple):
    """Variances of the log, arrays of shape (series,): between runs (0 where unknown), of a record's value including
    its runs, and the part of it that the runs don't explain; and the degrees of freedom of a record's value.
    """

    run: FloatArray
    between: FloatArray
    component: FloatArray
    freedom: float


def calibrate(tests: Sequence[Sequence[Record]], rules: Sequence[Rule]) -> CalibrationResult:
    """Calibrate from A/A records of one device.

    Args:
        tests: Records of each test, two or more of one key; records of different tests may share an invocation.
        rules: Rule of each test, with the assumed prior.
    """
    values = [
        [values_of(record, rule.metrics) for record in records] for records, rule in zip(tests, rules, strict=True)
    ]
    pooled = pool(values, rules)
    alarmed: dict[str, bool] = {}
    judged = []
    for records, known, rule in zip(tests, values, rules, strict=True):
        regressed = {}
        for record, candidate in zip(records, known, strict=True):
            # The prior that judges a record must not contain it.
            rest = [
                [value for value, owner in zip(side, owners, strict=True) if owner.invocation != record.invocation]
                for side, owners in zip(values, tests, strict=True)
            ]
            prior = _prior(rule, pool(rest, rules))
            baseline = [earlier for earlier in known if earlier is not candidate]
            comparison = compare_values(candidate, baseline, replace(rule, prior=prior))
            regressed[record.id] = comparison.verdict is Verdict.REGRESSED
            alarmed[record.invocation] = alarmed.get(record.invocation, False) or regressed[record.id]
        judged.append(Proportion(sum(regressed.values()), len(regressed)))
    rows = [_series(side, replace(rule, prior=_prior(rule, pooled))) for side, rule in zip(values, rules, strict=True)]
    return CalibrationResult(
        tests=tuple(
            TestSpread(records[0].test, series, rate) for records, series, rate in zip(tests, rows, judged, strict=True)
        ),
        pooled=pooled,
        false_alarms=Proportion(sum(alarmed.values()), len(alarmed)),
    )


def pool(tests: Iterable[Sequence[RecordValues]], rules: Sequence[Rule]) -> PooledSpread:
    """Return the spread of records by metric.

    A record moves all load points of a test together, so the degrees of freedom are those of the records, not
    multiplied by the number of points.
    """
    squares: dict[str, float] = {}
    freedom: dict[str, float] = {}
    for records, rule in zip(tests, rules, strict=True):
        series = _panel(records, rule)
        if series is None:
            continue
        variances = _variances(series)
        for metric in {metric for *_, metric in series.keys}:
            rows = [row for row, key in enumerate(series.keys) if key[2] == metric and key[1] is not None]
            squares[metric] = squares.get(metric, 0.0) + variances.freedom * float(variances.between[rows].mean())
            freedom[metric] = freedom.get(metric, 0.0) + variances.freedom
    return PooledSpread(
        {metric: math.sqrt(total / freedom[metric]) for metric, total in sorted(squares.items())}, freedom
    )


def _prior(rule: Rule, pooled: PooledSpread) -> Prior | Priors:
    assumed = rule.prior.default if isinstance(rule.prior, Priors) else rule.prior
    return calibrated_priors(assumed, pooled.record_sd, pooled.freedom)


def _panel(records: Sequence[RecordValues], rule: Rule) -> Panel | None:
    """Return the series that all records have, in the order of the first; None if nothing can be learned."""
    if len(records) < 2:
        return None
    first, *rest = records
    keys = [key for key in first.values if key[2] in rule.metrics and all(key in record.values for record in rest)]
    return panel(keys, records) if keys else None


def _variances(series: Panel) -> _Variances:
    runs = locate(series.stack(slice(None)))
    freedom = runs.freedom.sum(axis=-1)
    run = (runs.freedom * runs.variance).sum(axis=-1) / np.maximum(freedom, 1)
    between = runs.centre.var(axis=-1, ddof=1)
    component = np.maximum(between - run * (1 / runs.count).mean(axis=-1), 0.0)
    return _Variances(run, between, component, float(runs.centre.shape[-1] - 1))


def _series(records: Sequence[RecordValues], rule: Rule) -> tuple[SeriesSpread, ...]:
    series = _panel(records, rule)
    if series is None:
        return ()
    variances = _variances(series)
    sizes = {(m, k): _detectable(series, variances, rule, m, k) for m in RECORDS for k in RUNS}
    runs = np.max([np.isfinite(side).sum(axis=1) for side in series.sides], axis=0)
    return tuple(
        SeriesSpread(
            sweep=sweep,
            point=point,
            metric=metric,
            run_sd=math.nan if runs[row] < 2 else math.sqrt(variances.run[row]),
            record_sd=math.sqrt(variances.component[row]),
            detectable={size: worsening_of(metric, float(effects[row])) for size, effects in sizes.items()},
        )
        for row, (sweep, point, metric) in enumerate(series.keys)
    )


def _detectable(series: Panel, variances: _Variances, rule: Rule, records: int, runs: int) -> FloatArray:
    """Return the smallest worsening of values that is detected with 80% probability, shape (series,).

    These are the gate's estimates for records and runs that spread exactly as the measured ones.
    """
    starts = _scores(runs)
    estimate = locate(starts)
    starts = starts / math.sqrt(float(estimate.variance))
    levels = _scores(records)
    levels = levels / levels.std(ddof=1) if records > 1 else levels
    candidate = np.sqrt(variances.run)[:, None] * starts
    spread = np.sqrt(variances.component + variances.run / float(estimate.count))
    evidence = stored_evidence(
        StoredArrays(
            candidate=candidate,
            history=spread[:, None, None] * levels[:, None] + candidate[:, None, :],
            averaging_matrix=series.averaging_matrix,
        ),
        series_priors(rule.prior, series.keys),
    )
    return detectable_worsening(evidence, decide(evidence, series.sweeps, rule), rule)


def _scores(count: int) -> FloatArray:
    """Return values spaced like those of a normal sample, on average."""
    return np.asarray(special.ndtri((np.arange(count) + 0.5) / count))
