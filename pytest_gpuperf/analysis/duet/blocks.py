"""Blocks: a duet's record as pairs of values, one for each block and side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from pytest_gpuperf.analysis.robust import location
from pytest_gpuperf.analysis.values import (
    RecordValues,
    Series,
    SeriesKey,
    Values,
    record_values,
    start_log,
    start_values,
    window_logs,
)
from pytest_gpuperf.model import GATED, LoadPoint, Record, Run, Window

PairsByPoint = dict[LoadPoint, list[tuple[Window, Window]]]
#: Sweep and load point, with the pairs of windows of one block.
_PointPairs = tuple[str, LoadPoint, list[tuple[Window, Window]]]
#: Logs of each window, and of all windows merged.
_Logs = tuple[list[dict[str, float]], dict[str, float]]


def block_values(record: Record, metrics: Iterable[str] = GATED) -> tuple[RecordValues, RecordValues]:
    """Return the values of candidate and reference; run ``i`` of both is block ``i``.

    Their difference is the location of the paired differences of the windows' logs, over the visits that both sides
    made (``robust.location``: a few windows that straddle a burst of other work must not decide a block). Disturbed
    pairs are left out where there are undisturbed ones. If single windows have too few requests for a quantile, it is
    read from the merged windows of a block.
    """
    blocks = list(block_pairs(record))
    groups = [(candidate.sweep, point, pairs) for candidate, _, by_point in blocks for point, pairs in by_point.items()]
    candidate_logs, reference_logs = (_side_logs(groups, side, frozenset(metrics)) for side in (0, 1))
    candidate_series: Series = {}
    reference_series: Series = {}
    for (sweep, point, _), ours, theirs in zip(groups, candidate_logs, reference_logs, strict=True):
        for metric in ours[1]:
            values = _paired_values(ours, theirs, metric)
            for series, value in zip((candidate_series, reference_series), values, strict=True):
                series.setdefault((sweep, point, metric), []).append((value, 0.0))
    runs = Counter(candidate.sweep for candidate, _, _ in blocks)
    sides = record_values(record.id, candidate_series, runs), record_values(record.id, reference_series, runs)
    return _with_starts(sides[0], sides[1], [(ours, theirs) for ours, theirs, _ in blocks], metrics)


def _with_starts(
    candidate: RecordValues, reference: RecordValues, blocks: Sequence[tuple[Run, Run]], metrics: Iterable[str]
) -> tuple[RecordValues, RecordValues]:
    """Add what was measured at the starts of both sides of a block.

    Cold starts are left out: the side that starts first warms the caches for the other.
    """
    wanted = frozenset(metrics) - {"cold_startup"}
    values: list[dict[SeriesKey, Values]] = [{}, {}]
    unknown: frozenset[SeriesKey] = frozenset()
    for sweep in dict.fromkeys(run.sweep for run, _ in blocks):
        pairs = [pair for pair in blocks if pair[0].sweep == sweep]
        sides = [start_values([pair[side] for pair in pairs], wanted) for side in (0, 1)]
        unknown |= sides[0][1] | sides[1][1]
        for key in sides[0][0].keys() & sides[1][0].keys():
            logs = [tuple(start_log(run.start, key[2]) for run in pair) for pair in pairs]
            known = [pair for pair in logs if all(map(math.isfinite, pair))]
            for side in (0, 1) if known else ():
                values[side][key] = Values(tuple(pair[side] for pair in known))
    ours, theirs = (
        replace(loaded, values={**loaded.values, **starts}, left_out=loaded.left_out | unknown)
        for loaded, starts in zip((candidate, reference), values, strict=True)
    )
    return ours, theirs


def shared_series(candidate: RecordValues, reference: RecordValues) -> tuple[RecordValues, RecordValues]:
    """Return both sides with the series that they share, cut to the blocks that both have."""

    def cut(values: Values, key: SeriesKey) -> Values:
        blocks = min(len(candidate.values[key].runs), len(reference.values[key].runs))
        return Values(values.runs[:blocks], values.disturbance)

    shared = [key for key in candidate.values if key in reference.values]
    ours, theirs = (
        RecordValues(side.id, {key: cut(side.values[key], key) for key in shared}, side.left_out)
        for side in (candidate, reference)
    )
    return ours, theirs


def block_pairs(record: Record) -> Iterable[tuple[Run, Run, PairsByPoint]]:
    """Yield candidate and reference of each complete block, with the pairs of their windows."""
    references = {(run.sweep, run.index): run for run in record.reference if run.complete}
    for run in record.runs:
        reference = references.get((run.sweep, run.index))
        if run.complete and reference is not None:
            yield run, reference, _pairs_by_point(run, reference)


def _pairs_by_point(candidate: Run, reference: Run) -> PairsByPoint:
    references = {(window.point, window.visit): window for window in reference.windows}
    pairs_by_point: PairsByPoint = {}
    for window in candidate.windows:
        partner = references.get((window.point, window.visit))
        if partner is not None:
            pairs_by_point.setdefault(window.point, []).append((window, partner))
    return {
        point: [pair for pair in pairs if pair[0].undisturbed and pair[1].undisturbed] or pairs
        for point, pairs in pairs_by_point.items()
    }


def _side_logs(groups: Sequence[_PointPairs], side: int, metrics: frozenset[str]) -> list[_Logs]:
    windows = [[pair[side] for pair in pairs] for _, _, pairs in groups]
    logs = iter(window_logs([[window] for group in windows for window in group], metrics))
    single = [list(islice(logs, len(group))) for group in windows]
    return list(zip(single, window_logs(windows, metrics), strict=True))


def _paired_values(candidate: _Logs, reference: _Logs, metric: str) -> tuple[float, float]:
    """Return one metric of both sides, both from single windows or both from the merged windows."""
    ours, theirs = ([logs.get(metric, math.nan) for logs in side[0]] for side in (candidate, reference))
    # A robust location would not count requests that failed in a few windows only.
    if metric == "failed" or not all(map(math.isfinite, (*ours, *theirs))):
        return candidate[1][metric], reference[1].get(metric, math.nan)
    mean = math.fsum(ours) / len(ours)
    return mean, mean - location([a - b for a, b in zip(ours, theirs, strict=True)])
