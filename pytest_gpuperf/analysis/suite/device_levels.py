"""Changes of level in a history that was measured on several devices, whose differences are no changes of the code.

A value is modelled as the level of its segment plus the effect of its device. Only a device with records on both sides
of a change tells the two apart. So the search alternates:

1. The effects of the devices are guessed in two ways: from records that are near in time, and without any change.
2. Changes are searched in the values without these effects.
3. Segments that no device connects are joined: their difference may be that of the devices. Levels and effects are
   estimated again, by Tukey's median polish, and the search is repeated until it finds the same changes.
4. Of the two results, the one that explains the history better counts, with a penalty for each change.

A change of the code in the very record at which the device changes for good is therefore no change here: a history
can't tell the two apart, but a duet can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pytest_gpuperf.analysis.changepoint import ChangePoint, change_points
from pytest_gpuperf.analysis.robust import FloatArray

IntArray = npt.NDArray[np.int64]

#: Records nearest in time that a device is compared by at first.
_NEAR = 5
#: Rounds of the search, and of the median polish in each.
_ROUNDS, _POLISHES = 4, 20


def device_effects(values: Sequence[float], devices: Sequence[str]) -> tuple[FloatArray, list[ChangePoint]]:
    """Return the effect of the device on each value, relative to the newest value's, and the changes without it.

    Args:
        values: Logs, oldest first.
        devices: Device of each value; empty if it is unknown.
    """
    series = np.asarray(values, dtype=np.float64)
    names = list(dict.fromkeys(devices))
    if len(names) < 2:
        return np.zeros(len(series)), change_points(values)
    codes = np.array([names.index(device) for device in devices])
    starts = (_from_neighbours(series, codes), _polished(series, codes, ()))
    results = [_search(series, codes, start) for start in starts]
    effects, changes = min(results, key=lambda result: _cost(series, codes, *result))
    return effects[codes] - effects[codes[-1]], changes


def _search(series: FloatArray, codes: IntArray, effects: FloatArray) -> tuple[FloatArray, list[ChangePoint]]:
    """Return the effects of the devices and the changes of level, from a first guess of the effects."""
    edges: list[int] = []
    for _ in range(_ROUNDS):
        before, edges = edges, _identified([change.index for change in _changes(series, codes, effects)], codes)
        effects = _polished(series, codes, edges)
        if edges == before:
            break
    return effects, [change for change in _changes(series, codes, effects) if change.index in edges]


def _cost(series: FloatArray, codes: IntArray, effects: FloatArray, changes: Sequence[ChangePoint]) -> float:
    """Return how badly changes explain a history: the Bayesian information criterion, with Laplace's distribution."""
    rest = series - effects[codes]
    edges = [0, *(change.index for change in changes), len(rest)]
    apart = sum(float(np.abs(rest[start:stop] - np.median(rest[start:stop])).sum()) for start, stop in pairwise(edges))
    return len(rest) * math.log(apart / len(rest) + 1e-12) + 2 * len(changes) * math.log(len(rest))


def _changes(series: FloatArray, codes: IntArray, effects: FloatArray) -> list[ChangePoint]:
    return change_points((series - (effects - effects[codes[-1]])[codes]).tolist())


def _from_neighbours(series: FloatArray, codes: IntArray) -> FloatArray:
    """Return the effect of each device by the records of others that are nearest in time."""
    effects = np.zeros(int(codes.max()) + 1)
    aligned = {int(np.bincount(codes).argmax())}
    times = np.arange(len(series))
    while len(aligned) < len(effects):
        nearest: dict[int, tuple[float, float]] = {}
        known = np.isin(codes, list(aligned))
        for code in set(range(len(effects))) - aligned:
            mine = codes == code
            apart = np.abs(times[mine][:, None] - times[known])
            reach = np.partition(apart.ravel(), min(_NEAR, apart.size) - 1)[min(_NEAR, apart.size) - 1]
            contrasts = series[mine][:, None] - (series - effects[codes])[known]
            nearest[code] = float(reach), float(np.median(contrasts[apart <= reach]))
        code = min(nearest, key=lambda each: nearest[each])
        effects[code] = nearest[code][1]
        aligned.add(code)
    return effects


def _identified(edges: Sequence[int], codes: IntArray) -> list[int]:
    """Return the edges whose segments are connected by devices that both, or both and others between them, have."""
    kept = list(edges)
    while True:
        segments = [set(codes[start:stop].tolist()) for start, stop in pairwise([0, *kept, len(codes)])]
        apart = [edge for edge, pair in zip(kept, pairwise(segments), strict=True) if not pair[0] & pair[1]]
        if not apart:
            return kept
        kept.remove(apart[0])


def _polished(series: FloatArray, codes: IntArray, edges: Sequence[int]) -> FloatArray:
    """Return the effects of devices beside the levels of segments."""
    segments = np.searchsorted(np.asarray(edges, dtype=int), np.arange(len(series)), side="right")
    effects, levels = np.zeros(int(codes.max()) + 1), np.zeros(len(edges) + 1)
    for _ in range(_POLISHES):
        for code in range(len(effects)):
            effects[code] = np.median((series - levels[segments])[codes == code])
        for segment in range(len(levels)):
            levels[segment] = np.median((series - effects[codes])[segments == segment])
    return effects
