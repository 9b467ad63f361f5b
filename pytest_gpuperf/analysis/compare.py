"""Comparison of a record with its baseline: rows with verdicts. ``duet.compare`` compares the sides of a duet.

``evidence`` has the arithmetic and its sources, ``multiplicity`` the split of alpha. Here both are applied to a
record's series, and each series gets a verdict: regressed (worse by more than the minimum effect), improved (better by
more), unchanged (shown to lie inside the equivalence bounds), or else inconclusive. "Unchanged" is a claim, too: it is
made only where two one-sided tests put the change inside the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pytest_gpuperf.analysis.anchored import choose_anchored, in_candidate_units
from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.decision import Spending, decide
from pytest_gpuperf.analysis.evidence import Evidence, StoredArrays, stored_evidence, t_quantile
from pytest_gpuperf.analysis.panel import Panel, panel
from pytest_gpuperf.analysis.priors import SeriesPriors, series_priors
from pytest_gpuperf.analysis.robust import FloatArray, locate
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import (
    RecordValues,
    SeriesPoint,
    comparable_values,
    energy_methods,
    point_name,
    sign,
)
from pytest_gpuperf.model import Comparison, Plain, Record, Row, Verdict, worst

#: Probability of detecting the "smallest detectable effect".
POWER = 0.8
#: Most further records to consider when estimating how many would decide an inconclusive row.
FURTHER_RECORDS = 20

#: Largest log of a ratio that is shown: beyond it, a ratio would leave the range of floats.
_WIDEST = 50.0


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
    compared, references, anchored = choose_anchored(candidate, [*baseline, *pinned], rule.metrics)
    rolling, fixed = references[: len(baseline)], references[len(baseline) :]
    sides = [(name, side) for name, side in (("baseline", rolling), ("pinned", fixed)) if side]
    rows: list[Row] = []
    for name, side in sides:
        rows += _baseline_rows(side, compared, rolling, rule, name=name, share=1 / len(sides))
    if anchored:
        rows = in_candidate_units(rows, candidate, anchored)
    records = (*baseline, *pinned)
    points, baseline_points = candidate.points, {point for record in records for point in record.points}
    return Comparison(
        verdict=worst([row.verdict for row in rows]),
        rows=tuple(rows),
        baseline=tuple(dict.fromkeys(record.id for record in records)),
        new_points=point_names(points - baseline_points) if records else (),
        missing_points=point_names(baseline_points - points),
        left_out=left_out_names((candidate, *records), candidate, rule),
        alpha=rule.alpha,
        min_effect=rule.min_effect,
        anchored=anchored,
    )


def point_names(points: Iterable[tuple[str, SeriesPoint | None]]) -> tuple[str, ...]:
    """Return the names of load points, in order."""
    return tuple(sorted(point_name(*point) for point in points))


def _baseline_rows(
    reference: Sequence[RecordValues],
    candidate: RecordValues,
    history: Sequence[RecordValues],
    rule: Rule,
    *,
    name: str,
    share: float,
) -> list[Row]:
    """Return the rows against one baseline.

    The spread between records is read from the history, also for the comparison with pinned records, of which there is
    often only one; series that the history lacks are judged by the pinned records themselves.
    """
    known = {key for record in reference for key in record.values}
    keys = [key for key in candidate.values if key[2] in rule.metrics and key in known]
    if not keys:
        return []
    spread_records = [] if reference is history else [*history, *_records_of_new_series(history, reference)]
    split = 1 + len(reference)
    series = panel(keys, [candidate, *reference, *spread_records])
    series = series.select(series.is_measured(0) & series.is_measured(slice(1, split)))
    prior = series_priors(rule.prior, series.keys)
    references = series.stack(slice(1, split))
    evidence = stored_evidence(
        StoredArrays(
            candidate=series.sides[0],
            history=series.stack(slice(split, None)) if spread_records else references,
            reference=references if spread_records else None,
            candidate_disturbance=series.disturbances[0],
            reference_disturbance=series.stack_disturbances(slice(1, split)),
            averaging_matrix=series.averaging_matrix,
        ),
        prior,
    )
    return rows_of(series, evidence, prior, rule, against=name, share=share)


def _records_of_new_series(history: Sequence[RecordValues], reference: Sequence[RecordValues]) -> list[RecordValues]:
    """Return the reference's records, reduced to the series that the history lacks."""
    known = {key for record in history for key in record.values}
    reduced = [
        RecordValues(record.id, {key: values for key, values in record.values.items() if key not in known})
        for record in reference
    ]
    return [record for record in reduced if record.values]


def left_out_names(sides: Iterable[RecordValues], candidate: RecordValues, rule: Rule) -> tuple[str, ...]:
    """Return the names of the candidate's series that some side can't support."""
    unsupported = {key for side in sides for key in side.left_out if key[2] in rule.metrics}
    measured = {*candidate.values, *candidate.left_out}
    return tuple(sorted(f"{point_name(sweep, point)}, {metric}" for sweep, point, metric in unsupported & measured))


def rows_of(
    series: Panel, evidence: Evidence, prior: SeriesPriors, rule: Rule, *, against: str, share: float = 1.0
) -> list[Row]:
    decision = decide(evidence, series.sweeps, rule, share, Spending.of(rule.looks, series.keys))
    half_width = np.minimum(t_quantile(0.025, evidence.freedom) * evidence.error, _WIDEST)
    errors = t_quantile(decision.level, evidence.freedom) + t_quantile(1 - POWER, evidence.freedom)
    detectable = np.minimum(rule.margin + errors * evidence.error, _WIDEST)
    further = _further_replicates(evidence, prior, rule, decision.level)
    level = locate(series.sides[0]).centre
    claims = (
        (Verdict.REGRESSED, decision.worse),
        (Verdict.IMPROVED, decision.better),
        (Verdict.UNCHANGED, decision.same),
    )
    rows = []
    for index, (sweep, point, metric) in enumerate(series.keys):
        way, difference = sign(metric), float(evidence.difference[index])
        ends = [math.exp(way * (difference + end * half_width[index])) for end in (-way, way)]
        verdict = next((verdict for verdict, claim in claims if claim[index]), Verdict.INCONCLUSIVE)
        rows.append(
            Row(
                sweep=sweep,
                point=point,
                metric=metric,
                candidate=math.exp(way * level[index]),
                baseline=math.exp(way * (level[index] - difference)),
                ratio=math.exp(way * difference),
                low=ends[0],
                high=ends[1],
                p_value=float(decision.p_worse[index]),
                verdict=verdict,
                min_detectable=math.expm1(detectable[index]),
                records_to_decide=further[index] if verdict is Verdict.INCONCLUSIVE else 0,
                against=against,
            )
        )
    return rows


def _further_replicates(evidence: Evidence, prior: SeriesPriors, rule: Rule, level: FloatArray) -> list[int | None]:
    """Return the further replicates until a change of the measured size is significant, or shown to be small.

    Both sides are assumed to become as steady as the history and the runs so far allow.
    """
    bound, size = rule.bound, np.abs(evidence.difference)
    needed: list[int | None] = [None] * len(size)
    for further in range(FURTHER_RECORDS, 0, -1):
        degrees = evidence.replicates - 1 + further
        weight = prior.weight if evidence.paired else np.maximum(prior.weight - prior.assumed * degrees, 0.0)
        freedom = weight + degrees
        shrunk = (weight * prior.variance + degrees * evidence.further_variance) / freedom
        error = np.sqrt(np.maximum(shrunk, 1e-12) * ((not evidence.paired) + 1 / (evidence.replicates + further)))
        enough = ((size - rule.margin) / error >= t_quantile(level, freedom)) | (
            (bound - size) / error >= t_quantile(rule.alpha, freedom)
        )
        needed = [further if now else later for now, later in zip(enough.tolist(), needed, strict=True)]
    return needed
