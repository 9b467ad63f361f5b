"""One record against others, or the two sides of a duet: rows with verdicts.

``evidence`` holds the arithmetic and its sources, ``multiplicity`` how alpha is split. Here both are applied to what a
record's series say, and each of them gets one verdict: regressed (worse by more than the minimum effect), improved
(better by more), unchanged (shown to lie inside the equivalence bounds), else inconclusive. "Unchanged" is a claim as
well, and is made only where two one-sided tests put the change inside the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pytest_gpuperf.analysis.anchored import as_measured, choose_anchored
from pytest_gpuperf.analysis.blocks import block_values, common
from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.decision import decide
from pytest_gpuperf.analysis.evidence import Evidence, StoredArrays, duet_evidence, quantile, stored_evidence
from pytest_gpuperf.analysis.panel import Panel, panel
from pytest_gpuperf.analysis.priors import Assumed, Prior, Priors, with_history
from pytest_gpuperf.analysis.robust import FloatArray, locate
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import RecordValues, SeriesKey, energy_methods, point_name, sign, values_of, without
from pytest_gpuperf.model import Comparison, Plain, Record, Row, Verdict, worst

__all__ = [
    "Prior",
    "Priors",
    "Rule",
    "changes",
    "compare",
    "compare_duet",
    "compare_duet_values",
    "compare_values",
]

#: Chance of finding the "smallest detectable effect".
POWER = 0.8
#: How far ahead an inconclusive row is asked for the number of records that would decide it.
FURTHER_RECORDS = 20

#: Beyond this log a ratio says no more, and would leave the range of floats.
_WIDEST = 50.0

Differing = Mapping[str, tuple[Plain, Plain]]


def compare(
    candidate: Record,
    baseline: Sequence[Record],
    rule: Rule,
    *,
    pinned: Sequence[Record] = (),
    differing: Differing | None = None,
) -> Comparison:
    """Decide about every gated metric and point that the new record shares with earlier ones of its key.

    Args:
        candidate: the new record.
        baseline: accepted records of the same key, newest first.
        rule: alpha, minimum effect and prior.
        pinned: records that stay a baseline of their own; gated too, with half of alpha.
        differing: where there is no baseline though the test has other records: what differs in the key.
    """
    method = energy_methods(candidate)
    before = {id(record): values_of(record, rule.metrics) for record in (*baseline, *pinned)}
    for record in (*baseline, *pinned):
        if energy_methods(record) != method:
            before[id(record)] = without(before[id(record)], "energy")
    comparison = compare_values(
        values_of(candidate, rule.metrics),
        [before[id(record)] for record in baseline],
        rule,
        pinned=[before[id(record)] for record in pinned],
    )
    if comparison.verdict is Verdict.NO_BASELINE and not before and differing is not None:
        return replace(comparison, verdict=Verdict.NOT_COMPARABLE, differing=differing)
    newest = next(iter((*baseline, *pinned)), None)
    return replace(comparison, changes=changes(newest, candidate) if newest else ())


def compare_values(
    candidate: RecordValues,
    baseline: Sequence[RecordValues],
    rule: Rule,
    *,
    pinned: Sequence[RecordValues] = (),
) -> Comparison:
    """``compare`` on plain values."""
    compared, together, anchored = choose_anchored(candidate, [*baseline, *pinned], rule.metrics)
    newest, kept = together[: len(baseline)], together[len(baseline) :]
    sides = [(name, side) for name, side in (("baseline", newest), ("pinned", kept)) if side]
    rows = [
        row for name, side in sides for row in _against(side, compared, newest, rule, name=name, share=1 / len(sides))
    ]
    if anchored:
        rows = as_measured(rows, candidate, anchored)
    records = (*baseline, *pinned)
    here, there = candidate.points, {name for record in records for name in record.points}
    return Comparison(
        verdict=worst([row.verdict for row in rows]),
        rows=tuple(rows),
        baseline=tuple(dict.fromkeys(record.id for record in records)),
        new_points=tuple(sorted(here - there)) if records else (),
        missing_points=tuple(sorted(there - here)),
        left_out=_left_out((candidate, *records), candidate, rule),
        alpha=rule.alpha,
        min_effect=rule.min_effect,
        anchored=anchored,
    )


def compare_duet(record: Record, history: Sequence[Record], rule: Rule) -> Comparison:
    """Decide about the two sides of a duet.

    Args:
        record: with its ``reference``.
        history: earlier duets of the same key: their blocks show how blocks differ. Those whose sides were
            measured one after the other count only if those of ``record`` were, too, and vice versa.
    """
    candidate, reference = block_values(record, rule.metrics)
    # Blocks of sides that were measured one after the other have a spread of their own.
    earlier = [block_values(duet, rule.metrics) for duet in history if duet.sequential == record.sequential]
    return compare_duet_values(candidate, reference, rule, history=earlier)


def compare_duet_values(
    candidate: RecordValues,
    reference: RecordValues,
    rule: Rule,
    *,
    history: Sequence[tuple[RecordValues, RecordValues]] = (),
) -> Comparison:
    """``compare_duet`` on plain values: run ``i`` of both sides is block ``i``."""
    ours, theirs = common(candidate, reference)
    rows: list[Row] = []
    keys = [key for key in ours.values if key[2] in rule.metrics]
    if keys:
        pairs = [common(*pair) for pair in history]
        whole = panel(keys, [ours, theirs, *(side for pair in pairs for side in pair)])
        differences = whole.stacked(slice(0, None, 2)) - whole.stacked(slice(1, None, 2))
        prior = _assumed(rule.block_prior, whole.keys)
        if pairs:
            prior = with_history(prior, differences[:, 1:])
        evidence = duet_evidence(differences[:, 0], whole.averaging_matrix, prior)
        rows = _rows(whole, evidence, prior, rule, against="reference")
    here, there = candidate.points, reference.points
    return Comparison(
        verdict=worst([row.verdict for row in rows]),
        rows=tuple(rows),
        new_points=tuple(sorted(here - there)),
        missing_points=tuple(sorted(there - here)),
        left_out=_left_out((candidate, reference), candidate, rule),
        mode="duet",
        alpha=rule.alpha,
        min_effect=rule.min_effect,
    )


def _against(
    reference: Sequence[RecordValues],
    candidate: RecordValues,
    history: Sequence[RecordValues],
    rule: Rule,
    *,
    name: str,
    share: float,
) -> list[Row]:
    """The rows against one baseline.

    How records differ is read from the history even where they are compared with a pinned one, which is often alone;
    only series that the history doesn't know are judged by the pinned records themselves.
    """
    known = {key for record in reference for key in record.values}
    keys = [key for key in candidate.values if key[2] in rule.metrics and key in known]
    if not keys:
        return []
    shown = [] if reference is history else [*history, *_unknown_to(history, reference)]
    split = 1 + len(reference)
    whole = panel(keys, [candidate, *reference, *shown])
    whole = whole.only(whole.measured(0) & whole.measured(slice(1, split)))
    prior = _assumed(rule.prior, whole.keys)
    there = whole.stacked(slice(1, split))
    evidence = stored_evidence(
        StoredArrays(
            candidate=whole.sides[0],
            history=whole.stacked(slice(split, None)) if shown else there,
            reference=there if shown else None,
            candidate_disturbance=whole.disturbances[0],
            reference_disturbance=whole.disturbed(slice(1, split)),
            averaging_matrix=whole.averaging_matrix,
        ),
        prior,
    )
    return _rows(whole, evidence, prior, rule, against=name, share=share)


def _unknown_to(history: Sequence[RecordValues], reference: Sequence[RecordValues]) -> list[RecordValues]:
    """The reference's records with what the history doesn't know."""
    lately = {key for record in history for key in record.values}
    rest = [RecordValues(one.id, {k: v for k, v in one.values.items() if k not in lately}) for one in reference]
    return [one for one in rest if one.values]


def _assumed(prior: Prior | Priors, keys: Sequence[SeriesKey]) -> Assumed:
    return Assumed.of([prior.of(sweep, point.label if point else "", metric) for sweep, point, metric in keys])


def _left_out(sides: Iterable[RecordValues], candidate: RecordValues, rule: Rule) -> tuple[str, ...]:
    """What the candidate has, or should have had, that can't be compared."""
    lost = {key for side in sides for key in side.left_out if key[2] in rule.metrics}
    ours = {*candidate.values, *candidate.left_out}
    return tuple(sorted(f"{point_name(sweep, point)}, {metric}" for sweep, point, metric in lost & ours))


def _rows(
    whole: Panel, evidence: Evidence, prior: Assumed, rule: Rule, *, against: str, share: float = 1.0
) -> list[Row]:
    decision = decide(evidence, whole.sweeps, rule, share)
    half = np.minimum(quantile(0.025, evidence.freedom) * evidence.error, _WIDEST)
    found = quantile(decision.level, evidence.freedom) + quantile(1 - POWER, evidence.freedom)
    reach = np.minimum(rule.margin + found * evidence.error, _WIDEST)
    further = _further(evidence, prior, rule, decision.level)
    level = locate(whole.sides[0]).centre
    rows = []
    for index, (sweep, point, metric) in enumerate(whole.keys):
        way, difference = sign(metric), float(evidence.difference[index])
        ends = [math.exp(way * (difference + end * half[index])) for end in (-way, way)]
        verdict = _verdict(*(bool(claim[index]) for claim in (decision.worse, decision.better, decision.same)))
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
                min_detectable=math.expm1(reach[index]),
                records_to_decide=further[index] if verdict is Verdict.INCONCLUSIVE else 0,
                against=against,
            )
        )
    return rows


def _verdict(worse: bool, better: bool, same: bool) -> Verdict:
    if worse:
        return Verdict.REGRESSED
    if better:
        return Verdict.IMPROVED
    return Verdict.UNCHANGED if same else Verdict.INCONCLUSIVE


def _further(evidence: Evidence, prior: Assumed, rule: Rule, level: FloatArray) -> list[int | None]:
    """Further replicates until a change of the seen size is significant, or shown to be small.

    Both sides are taken to become as calm as the history and the runs so far allow.
    """
    bound, size = rule.bound, np.abs(evidence.difference)
    needed: list[int | None] = [None] * len(size)
    for further in range(FURTHER_RECORDS, 0, -1):
        seen = evidence.replicates - 1 + further
        weight = prior.weight if evidence.paired else np.maximum(prior.weight - prior.assumed * seen, 0.0)
        freedom = weight + seen
        shrunk = (weight * prior.variance + seen * evidence.further_variance) / freedom
        error = np.sqrt(np.maximum(shrunk, 1e-12) * ((not evidence.paired) + 1 / (evidence.replicates + further)))
        enough = ((size - rule.margin) / error >= quantile(level, freedom)) | (
            (bound - size) / error >= quantile(rule.alpha, freedom)
        )
        needed = [further if now else later for now, later in zip(enough.tolist(), needed, strict=True)]
    return needed
