"""Change points: where the level of a series changed, by E-divisive with medians for the levels.

Source: Matteson and James, "A nonparametric approach for multiple change point analysis of multivariate data", Journal
of the American Statistical Association 109 (2014). Two parts of a series are as far apart as their energy distance,

    E(X, Y) = 2 mean |x - y| - mean |x - x'| - mean |y - y'|,     Q = nm / (n + m) E

A segment's best split is where Q is largest; the best one of all segments is kept if permutations inside the segments
rarely (``ALPHA``) reach as much, and then the search continues. Nothing is assumed of the distribution, so outliers and
two modes of a server's start do no harm; but values are taken to be exchangeable while nothing changes. Measured at
``ALPHA`` = 1%: 0.4 to 1.3% of the series without a change get a mark (normal, heavy-tailed, two modes; 20 to 200
values), and 6 to 10% where each record resembles the one before (lag-one correlation 0.3); benchmarks/change_points.py
has these and the power.

A split divides its entire segment (the second part always ends with the segment), which costs O(n^2) instead of O(n^3)
and detects a passing change as its two ends. The library ruptures has PELT and others, but no test of the changes: its
penalty must be chosen, which requires knowledge of the noise. Permutations do not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pytest_gpuperf.analysis.robust import FloatArray

#: Probability of a mark in a series without any change. A page has many series, so it is smaller than the gate's alpha.
ALPHA = 0.01
#: Number of permutations: with it, the smallest p-value is a quarter of ``ALPHA``.
PERMUTATIONS = 399
#: Values in the smallest segment: with three, a single outlier is not a level.
MIN_SIZE = 3
#: Most values, the newest, that are analysed: 300 take half a second per change, and time grows with their square.
MOST_VALUES = 300


@dataclass(frozen=True)
class ChangePoint:
    """One change of the level.

    Attributes:
        index: First value at the new level.
        before, after: Medians of the segments on both sides.
        p_value: Share of the permutations that had as good a split.
    """

    index: int
    before: float
    after: float
    p_value: float


class _Split(NamedTuple):
    statistic: float
    position: int


def change_points(
    values: Sequence[float],
    *,
    alpha: float = ALPHA,
    permutations: int = PERMUTATIONS,
    min_size: int = MIN_SIZE,
    seed: int = 0,
) -> list[ChangePoint]:
    """Return the changes of a series' level, in its order.

    Args:
        values: Values in order of time; logs, for ratios. Only the newest ``MOST_VALUES`` are analysed.
        alpha: Probability of marking a series without a change.
        permutations: Number of permutations; the smallest p-value is ``1 / (permutations + 1)``.
        min_size: Values in the smallest segment.

    Raises:
        ValueError: A value is not finite.
    """
    if not all(map(math.isfinite, values)):
        raise ValueError("change points need finite values")
    skipped = max(len(values) - MOST_VALUES, 0)
    series = np.asarray(values[skipped:], dtype=np.float64)
    generator = np.random.default_rng(seed)
    edges, p_values = [0, len(series)], dict[int, float]()
    splits = {(0, len(series)): _best_split(series, min_size)}
    while True:
        segments = list(pairwise(edges))
        for start, stop in segments:
            if (start, stop) not in splits:
                splits[start, stop] = _best_split(series[start:stop], min_size)
        start, stop = max(segments, key=lambda segment: splits[segment].statistic)
        best = splits[start, stop]
        if best.position == 0:
            break
        # Shuffled inside each segment, until it is clear that the p-value exceeds alpha.
        reached, enough = 0, math.floor(alpha * (permutations + 1))
        for _ in range(permutations):
            shuffled = (generator.permutation(series[slice(*segment)]) for segment in segments)
            reached += max(_best_split(segment, min_size).statistic for segment in shuffled) >= best.statistic
            if reached >= enough:
                break
        p_value = (reached + 1) / (permutations + 1)
        if p_value > alpha:
            break
        p_values[start + best.position] = p_value
        edges = sorted({*edges, start + best.position})
    return [
        ChangePoint(
            index=skipped + middle,
            before=statistics.median(series[start:middle].tolist()),
            after=statistics.median(series[middle:stop].tolist()),
            p_value=p_values[middle],
        )
        for start, middle, stop in zip(edges, edges[1:], edges[2:], strict=False)
    ]


def _best_split(segment: FloatArray, min_size: int) -> _Split:
    """Return the split whose parts are farthest apart; position 0 if the segment is too short."""
    size = len(segment)
    if size < 2 * max(min_size, 2):
        return _Split(-math.inf, 0)
    distances = np.abs(segment[:, None] - segment)
    # Sums over pairs: inside the first k values, across the split, and inside the rest.
    inside = np.cumsum(np.tril(distances).sum(axis=1))
    first = inside[:-1]
    across = np.cumsum(distances.sum(axis=1))[:-1] - 2 * first
    rest = inside[-1] - first - across
    left = np.arange(1, size, dtype=np.float64)
    right = size - left
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = 2 * (across / (left * right) - first / (left * (left - 1)) - rest / (right * (right - 1)))
        weighted = left * right / size * energy
    splits = weighted[min_size - 1 : size - min_size]
    index = int(np.argmax(splits))
    return _Split(float(splits[index]), index + min_size)
