"""Rows of a comparison: each series with its ratio, the interval that decides, and its verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.analysis.decision import Decision, Spending, decide
from pytest_gpuperf.analysis.evidence import Evidence, t_quantile
from pytest_gpuperf.analysis.panel import Panel
from pytest_gpuperf.analysis.robust import FloatArray, locate
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.arrays import TestArrays
from pytest_gpuperf.analysis.values import (
    RecordValues,
    SeriesPoint,
    figure_of,
    point_name,
    ratio_of,
    sign,
    worsening_of,
)
from pytest_gpuperf.model import Row, Verdict

#: Probability of detecting the "smallest detectable effect".
POWER = 0.8
#: Most further records to consider when estimating how many would decide an inconclusive row.
FURTHER_RECORDS = 20

#: Largest log of a ratio that is shown: beyond it, a ratio would leave the range of floats.
_WIDEST = 50.0


def rows_of(
    series: Panel | TestArrays,
    candidate: FloatArray,
    evidence: Evidence,
    rule: Rule,
    *,
    against: str,
    share: float = 1.0,
) -> list[Row]:
    """Return the rows of series; ``candidate`` has the values of their runs."""
    decision = decide(evidence, series.sweeps, rule, share, Spending.of(rule.looks, series.keys))
    detectable = detectable_worsening(evidence, decision, rule).tolist()
    levels = locate(candidate).centre.tolist()
    ratios = ratios_of(evidence, decision, [metric for *_, metric in series.keys], rule.confidence)
    undecided = np.array([ratio.verdict is Verdict.INCONCLUSIVE for ratio in ratios])
    further = _further_replicates(evidence, rule, decision) if undecided.any() else [0] * len(ratios)
    return [
        Row(
            sweep=sweep,
            point=point,
            metric=metric,
            candidate=figure_of(metric, levels[index]),
            baseline=figure_of(metric, levels[index] - float(evidence.difference[index])),
            ratio=ratio.ratio,
            low=ratio.low,
            high=ratio.high,
            p_value=float(decision.p_worse[index]),
            verdict=ratio.verdict,
            min_detectable=worsening_of(metric, detectable[index]),
            records_to_decide=further[index] if undecided[index] else 0,
            against=against,
            confidence=ratio.confidence,
        )
        for index, ((sweep, point, metric), ratio) in enumerate(zip(series.keys, ratios, strict=True))
    ]


def detectable_worsening(evidence: Evidence, decision: Decision, rule: Rule) -> FloatArray:
    """Return the smallest worsening, as a log, that is detected with probability ``POWER``, by series."""
    needed = np.maximum(
        t_quantile(decision.level, evidence.freedom) * evidence.error,
        rule.margin + t_quantile(decision.test_level, evidence.freedom) * evidence.error,
    )
    return np.minimum(needed + t_quantile(1 - POWER, evidence.freedom) * evidence.error, _WIDEST)


@dataclass(frozen=True)
class JudgedRatio:
    """Ratio of a series, its interval with that one's confidence, and its verdict."""

    ratio: float
    low: float
    high: float
    confidence: float
    verdict: Verdict


def ratios_of(
    evidence: Evidence, decision: Decision, metrics: Sequence[str], confidence: float | None = None
) -> list[JudgedRatio]:
    """Return the ratio of each series.

    The interval is the one that decides: it lies on one side of 1 where a change is claimed, and inside the equivalence
    bounds where the verdict is "unchanged".
    """
    unchanged = decision.same & ~decision.worse & ~decision.better
    levels = np.where(unchanged, decision.same_level, decision.deciding)
    if confidence is not None:
        levels = np.full_like(levels, (1 - confidence) / 2)
    reaches = np.minimum(t_quantile(levels, evidence.freedom) * evidence.error, _WIDEST).tolist()
    verdicts = np.select(
        [decision.worse, decision.better, unchanged],
        [Verdict.REGRESSED, Verdict.IMPROVED, Verdict.UNCHANGED],
        Verdict.INCONCLUSIVE,
    ).tolist()
    result = []
    for index, metric in enumerate(metrics):
        way, difference = sign(metric), float(evidence.difference[index])
        low, high = (ratio_of(metric, difference + end * reaches[index]) for end in (-way, way))
        verdict = Verdict(verdicts[index])
        result.append(JudgedRatio(ratio_of(metric, difference), low, high, 1 - 2 * float(levels[index]), verdict))
    return result


def _further_replicates(evidence: Evidence, rule: Rule, decision: Decision) -> list[int | None]:
    """Return the further replicates until a change of the measured size is significant, or shown to be small.

    Both sides are assumed to become as steady as the history and the runs so far allow.
    """
    bound, size = rule.bound, np.abs(evidence.difference)
    needed: list[int | None] = [None] * len(size)
    for further in range(FURTHER_RECORDS, 0, -1):
        degrees = np.maximum(evidence.replicates - 1 + further, 1.0)
        error = np.sqrt(
            np.maximum(evidence.further_variance, 1e-12) * ((not evidence.paired) + 1 / (evidence.replicates + further))
        )
        freedom = np.maximum(evidence.freedom, degrees)
        beyond = (size / error >= t_quantile(decision.level, freedom)) & (
            (size - rule.margin) / error >= t_quantile(decision.test_level, freedom)
        )
        enough = beyond | ((bound - size) / error >= t_quantile(rule.alpha, freedom))
        needed = [further if now else later for now, later in zip(enough.tolist(), needed, strict=True)]
    return needed


def point_names(points: Iterable[tuple[str, SeriesPoint | None]]) -> tuple[str, ...]:
    return tuple(sorted(point_name(*point) for point in points))


def left_out_names(sides: Iterable[RecordValues], candidate: RecordValues, rule: Rule) -> tuple[str, ...]:
    """Return the names of the candidate's series that some side can't support."""
    unsupported = {key for side in sides for key in side.left_out if key[2] in rule.metrics}
    measured = {*candidate.values, *candidate.left_out}
    return tuple(sorted(f"{point_name(sweep, point)}, {metric}" for sweep, point, metric in unsupported & measured))
