"""Anchored values: how much slower a target was than the anchor beside it, instead of how slow it was.

What moves the whole machine between two records (a neighbour, a lower clock, another host of the same kind) moves
target and anchor alike, and cancels in the ratio. But the ratio has the anchor's own noise in it, and is not always the
steadier one. Which of both is gated is read from the baseline alone, for each metric of a sweep; the candidate has no
say in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pytest_gpuperf.analysis.values import RecordValues, SeriesKey, Values, sign
from pytest_gpuperf.model import AnchoredMetric, Row

#: Records of the baseline from which on their spreads are compared.
ENOUGH = 8
#: By how much (in variance) the ratios have to be the steadier ones. Choosing the smaller of two spreads that are equal
#: in truth makes a spread look smaller than it is; with a factor of 2 of 8 records or more the gate keeps its level
#: (benchmarks/gate_error_rates.py).
STEADIER = 2.0


def choose_anchored(
    candidate: RecordValues, baseline: Sequence[RecordValues], metrics: frozenset[str]
) -> tuple[RecordValues, list[RecordValues], tuple[AnchoredMetric, ...]]:
    """Put anchored values in the place of plain ones, where the baseline's records show that they spread less.

    Returns:
        Candidate and baseline as they are to be compared, and which metrics of which sweeps are anchored.
    """
    groups: dict[tuple[str, str], list[SeriesKey]] = {}
    for key in candidate.anchored:
        if key[2] in metrics and all(key in one.anchored for one in baseline if key in one.values):
            groups.setdefault((key[0], key[2]), []).append(key)
    chosen = []
    for (sweep, metric), keys in groups.items():
        own = [one for one in baseline if all(key in one.anchored for key in keys)]
        if len(own) < ENOUGH:
            continue
        plain, ratios = (_variance([[side(one)[key] for key in keys] for one in own]) for side in (_plain, _anchored))
        if ratios * STEADIER < plain:
            chosen.append(AnchoredMetric(sweep, metric, math.sqrt(plain), math.sqrt(ratios)))
    taken = {(one.sweep, one.metric) for one in chosen}
    replaced = {key for group in taken for key in groups[group]}
    return _with(candidate, replaced), [_with(one, replaced) for one in baseline], tuple(chosen)


def as_measured(rows: Sequence[Row], candidate: RecordValues, chosen: Sequence[AnchoredMetric]) -> list[Row]:
    """Rows about ratios in the units of the candidate: what it had, and what the baseline would have had beside it."""
    shifts: dict[SeriesKey, float] = {}
    for one in chosen:
        keys = [key for key in candidate.anchored if (key[0], key[2]) == (one.sweep, one.metric)]
        own = {key: _centre(candidate.values[key]) - _centre(candidate.anchored[key]) for key in keys}
        shifts |= {**own, (one.sweep, None, one.metric): sum(own.values()) / len(own)}
    result = []
    for row in rows:
        factor = math.exp(sign(row.metric) * shifts.get((row.sweep, row.point, row.metric), 0.0))
        result.append(replace(row, candidate=row.candidate * factor, baseline=row.baseline * factor))
    return result


def _plain(record: RecordValues) -> Mapping[SeriesKey, Values]:
    return record.values


def _anchored(record: RecordValues) -> Mapping[SeriesKey, Values]:
    return record.anchored


def _variance(records: Sequence[Sequence[Values]]) -> float:
    """Between records, averaged over the points."""
    centres = np.array([[_centre(one) for one in points] for points in records])
    return float(centres.var(axis=0, ddof=1).mean())


def _centre(values: Values) -> float:
    return sum(values.runs) / len(values.runs)


def _with(record: RecordValues, keys: set[SeriesKey]) -> RecordValues:
    own = {key: record.anchored[key] for key in keys if key in record.anchored}
    return replace(record, values={**record.values, **own})
