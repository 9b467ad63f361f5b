"""A duet's record as pairs of values: one for each block and side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice

from pytest_gpuperf.analysis.robust import location
from pytest_gpuperf.analysis.values import GATED, RecordValues, SeriesKey, Values, runs_by_sweep, whole, window_logs
from pytest_gpuperf.model import LoadPoint, Record, Run, Window

_Pairs = list[tuple[Window, Window]]
_Place = tuple[str, LoadPoint, _Pairs]
_Logs = tuple[list[dict[str, float]], dict[str, float]]
_Gathered = dict[SeriesKey, list[tuple[float, float]]]


def block_values(record: Record, metrics: Iterable[str] = GATED) -> tuple[RecordValues, RecordValues]:
    """The values of candidate and reference, run ``i`` of both being block ``i``.

    The difference of both sides is the location of the paired differences of their windows' logs, over
    the visits of its point that both sides made (``robust.location``: a few windows that straddle a burst of others'
    work should not make the block). Pairs that something disturbed are left out where there are undisturbed
    ones. Where single windows have too few requests for a quantile,
    it is read from a block's windows taken together, side by side.
    """
    blocks = list(_blocks(record))
    places = [
        (candidate.sweep, point, pairs)
        for candidate, reference in blocks
        for point, pairs in _paired(candidate, reference).items()
    ]
    runs = runs_by_sweep(candidate.sweep for candidate, _ in blocks)
    sides = [_side(places, side, frozenset(metrics)) for side in (0, 1)]
    ours: _Gathered = {}
    theirs: _Gathered = {}
    for (sweep, point, _), logs in zip(places, zip(*sides, strict=True), strict=True):
        for metric in logs[0][1]:
            for gathered, value in zip((ours, theirs), _both(logs[0], logs[1], metric), strict=True):
                gathered.setdefault((sweep, point, metric), []).append((value, 0.0))
    return whole(record.id, ours, runs), whole(record.id, theirs, runs)


def common(candidate: RecordValues, reference: RecordValues) -> tuple[RecordValues, RecordValues]:
    """Both sides with the series that they share, cut to the blocks that both have."""

    def cut(values: Values, key: SeriesKey) -> Values:
        blocks = min(len(candidate.values[key].runs), len(reference.values[key].runs))
        return Values(values.runs[:blocks], values.disturbance)

    shared = [key for key in candidate.values if key in reference.values]
    ours, theirs = (
        RecordValues(side.id, {key: cut(side.values[key], key) for key in shared}, side.left_out)
        for side in (candidate, reference)
    )
    return ours, theirs


def _blocks(record: Record) -> Iterable[tuple[Run, Run]]:
    others = {(run.sweep, run.index): run for run in record.reference if run.complete}
    for run in record.runs:
        other = others.get((run.sweep, run.index))
        if run.complete and other is not None:
            yield run, other


def _paired(candidate: Run, reference: Run) -> dict[LoadPoint, list[tuple[Window, Window]]]:
    others = {(window.point, window.visit): window for window in reference.windows}
    found: dict[LoadPoint, list[tuple[Window, Window]]] = {}
    for window in candidate.windows:
        other = others.get((window.point, window.visit))
        if other is not None:
            found.setdefault(window.point, []).append((window, other))
    return {
        point: [pair for pair in pairs if pair[0].undisturbed and pair[1].undisturbed] or pairs
        for point, pairs in found.items()
    }


def _side(places: Sequence[_Place], side: int, metrics: frozenset[str]) -> list[_Logs]:
    """For each place the values of its windows, and those of its windows taken together."""
    windows = [[pair[side] for pair in pairs] for _, _, pairs in places]
    single = iter(window_logs([[window] for group in windows for window in group], metrics))
    each = [list(islice(single, len(group))) for group in windows]
    return list(zip(each, window_logs(windows, metrics), strict=True))


def _both(ours: _Logs, theirs: _Logs, metric: str) -> tuple[float, float]:
    """One metric of both sides, read in the same way."""
    own, other = ([logs.get(metric, math.nan) for logs in side[0]] for side in (ours, theirs))
    if not all(map(math.isfinite, (*own, *other))):
        return ours[1][metric], theirs[1].get(metric, math.nan)
    mean = math.fsum(own) / len(own)
    return mean, mean - location([one - two for one, two in zip(own, other, strict=True)])
