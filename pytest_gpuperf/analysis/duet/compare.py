"""Comparison of the two sides of a duet: rows with verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpuperf.analysis.duet.blocks import block_values, shared_series
from pytest_gpuperf.analysis.evidence import duet_evidence
from pytest_gpuperf.analysis.panel import panel
from pytest_gpuperf.analysis.priors import series_priors, with_history
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.rows import left_out_names, point_names, rows_of
from pytest_gpuperf.analysis.values import RecordValues
from pytest_gpuperf.model import Comparison, Record, Row, worst


def compare_duet(record: Record, history: Sequence[Record], rule: Rule) -> Comparison:
    """Compare the two sides of a duet.

    Args:
        history: Earlier duets of the same key, whose blocks show how blocks differ. Duets whose sides were measured one
            after the other are used only for such a duet, and vice versa.
    """
    candidate, reference = block_values(record, rule.metrics)
    # Blocks of sides that were measured one after the other have another spread.
    earlier = [block_values(duet, rule.metrics) for duet in history if duet.sequential == record.sequential]
    return compare_duet_values(candidate, reference, rule, history=earlier)


def compare_duet_values(
    candidate: RecordValues,
    reference: RecordValues,
    rule: Rule,
    *,
    history: Sequence[tuple[RecordValues, RecordValues]] = (),
) -> Comparison:
    """Compare values, as ``compare_duet`` does records: run ``i`` of both sides is block ``i``."""
    ours, theirs = shared_series(candidate, reference)
    rows: list[Row] = []
    keys = [key for key in ours.values if key[2] in rule.metrics]
    if keys:
        pairs = [shared_series(*pair) for pair in history]
        series = panel(keys, [ours, theirs, *(side for pair in pairs for side in pair)])
        differences = series.stack(slice(0, None, 2)) - series.stack(slice(1, None, 2))
        prior = series_priors(rule.block_prior, series.keys)
        if pairs:
            prior = with_history(prior, differences[:, 1:], series.averaging_matrix)
        evidence = duet_evidence(differences[:, 0], series.averaging_matrix, prior)
        rows = rows_of(series, series.sides[0], evidence, rule, against="reference")
    points, reference_points = candidate.points, reference.points
    return Comparison(
        verdict=worst([row.verdict for row in rows]),
        rows=tuple(rows),
        new_points=point_names(points - reference_points),
        missing_points=point_names(reference_points - points),
        left_out=left_out_names((candidate, reference), candidate, rule),
        mode="duet",
        alpha=rule.alpha,
        min_effect=rule.min_effect,
    )
