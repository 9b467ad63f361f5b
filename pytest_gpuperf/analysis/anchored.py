"""Anchored values: how much slower a target was than the anchor next to it, instead of how slow it was.

What moves the entire machine between two records (a neighbour, a lower clock, another host of the same kind) moves
target and anchor together, and cancels in the ratio. But the ratio contains the anchor's noise and is not always the
steadier value. Which of the two is gated is decided from the baseline alone, for each metric of a sweep; the candidate
has no say in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pytest_gpuperf.analysis.values import RecordValues, SeriesKey, Values, sign
from pytest_gpuperf.model import AnchoredMetric, Row

#: Fewest records of the baseline from which the spreads are compared.
ENOUGH = 8
#: Ratio of variances from which the anchored values are used. Choosing the smaller of two spreads that are equal in
#: truth makes a spread look smaller than it is; with a factor of 2 from 8 records or more the gate keeps its level
#: (``python -m benchmarks.gate_error_rates``).
STEADIER = 2.0


def choose_anchored(
    candidate: RecordValues, baseline: Sequence[RecordValues], metrics: frozenset[str]
) -> tuple[RecordValues, list[RecordValues], tuple[AnchoredMetric, ...]]:
    """Replace values by anchored values where those spread less between the baseline's records.

    Returns:
        Candidate and baseline to compare, and the metrics that are anchored.
    """
    groups: dict[tuple[str, str], list[SeriesKey]] = {}
    for key in candidate.anchored:
        if key[2] in metrics and all(key in record.anchored for record in baseline if key in record.values):
            groups.setdefault((key[0], key[2]), []).append(key)
    chosen: dict[tuple[str, str], AnchoredMetric] = {}
    for (sweep, metric), keys in groups.items():
        records = [record for record in baseline if all(key in record.anchored for key in keys)]
        if len(records) < ENOUGH:
            continue
        plain, anchored = (
            _variance([[values[key] for key in keys] for values in side])
            for side in ([record.values for record in records], [record.anchored for record in records])
        )
        if anchored * STEADIER < plain:
            chosen[sweep, metric] = AnchoredMetric(sweep, metric, math.sqrt(plain), math.sqrt(anchored))
    replaced = {key for group in chosen for key in groups[group]}
    records = [_replace_values(record, replaced) for record in baseline]
    return _replace_values(candidate, replaced), records, tuple(chosen.values())


def in_candidate_units(rows: Sequence[Row], candidate: RecordValues, chosen: Sequence[AnchoredMetric]) -> list[Row]:
    """Return rows about ratios in the candidate's units: its values, and the baseline's on the candidate's machine."""
    shifts: dict[SeriesKey, float] = {}
    for metric in chosen:
        keys = [key for key in candidate.anchored if (key[0], key[2]) == (metric.sweep, metric.metric)]
        anchors = {key: _centre(candidate.values[key]) - _centre(candidate.anchored[key]) for key in keys}
        shifts |= {**anchors, (metric.sweep, None, metric.metric): sum(anchors.values()) / len(anchors)}
    result = []
    for row in rows:
        factor = math.exp(sign(row.metric) * shifts.get((row.sweep, row.point, row.metric), 0.0))
        result.append(replace(row, candidate=row.candidate * factor, baseline=row.baseline * factor))
    return result


def _variance(records: Sequence[Sequence[Values]]) -> float:
    """Return the variance between records, averaged over the load points."""
    centres = np.array([[_centre(values) for values in points] for points in records])
    return float(centres.var(axis=0, ddof=1).mean())


def _centre(values: Values) -> float:
    return sum(values.runs) / len(values.runs)


def _replace_values(record: RecordValues, keys: set[SeriesKey]) -> RecordValues:
    return replace(record, values={**record.values, **{k: v for k, v in record.anchored.items() if k in keys}})
