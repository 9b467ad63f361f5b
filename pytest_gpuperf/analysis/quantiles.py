"""Quantiles of many histograms at once: a comparison reads thousands of windows, and has 50 ms for it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from pytest_gpuperf.analysis.robust import FloatArray
from pytest_gpuperf.model import Histogram
from pytest_gpuperf.model.histogram import BEYOND_QUANTILE, GAMMA

#: Cells of the table of counts that are filled at a time: what stays in the cache.
_CELLS = 1 << 19


def quantile_logs(groups: Sequence[Sequence[Histogram]], quantiles: Sequence[float]) -> FloatArray:
    """The log of the quantiles, in ns, of each group of histograms taken together.

    The same as ``merged(group).quantile_ns(q)``; NaN where the group has too few requests to tell
    (``Histogram.supports``).

    Returns:
        An array of shape (groups, quantiles).
    """
    result = np.full((len(groups), len(quantiles)), np.nan)
    lengths = [sum(len(one.buckets) for one in group) for group in groups]
    if not sum(lengths) or not quantiles:
        return result
    filled = [one for group in groups for one in group if one.buckets]
    low = min(one.buckets[0] for one in filled)
    width = max(one.buckets[-1] for one in filled) - low + 1
    step = max(_CELLS // width, 1)
    for start in range(0, len(groups), step):
        part = slice(start, start + step)
        result[part] = _part(groups[part], lengths[part], low, width, np.asarray(quantiles))
    return result


def _part(
    groups: Sequence[Sequence[Histogram]], lengths: Sequence[int], low: int, width: int, quantiles: FloatArray
) -> FloatArray:
    size = sum(lengths)
    histograms = [one for group in groups for one in group]
    buckets = np.fromiter(chain.from_iterable(one.buckets for one in histograms), np.int64, size)
    counts = np.fromiter(chain.from_iterable(one.counts for one in histograms), np.int64, size)
    row = np.repeat(np.arange(len(groups)), lengths)
    table = np.bincount(row * width + buckets - low, counts, len(groups) * width).reshape(len(groups), width)
    upto = table.cumsum(axis=1)
    total = upto[:, -1]
    logs = np.full((len(groups), len(quantiles)), np.nan)
    lines = np.arange(len(groups))
    for column, quantile in enumerate(quantiles):
        # The middle of the rank range, as in Histogram.quantile_ns.
        rank = np.minimum(np.maximum(quantile * total, 0.5), total - 0.5)
        cell = (upto >= rank[:, None]).argmax(axis=1)
        inside = table[lines, cell]
        below = upto[lines, cell] - inside
        enough = total * (1 - quantile) >= BEYOND_QUANTILE - 1e-9
        part = (rank - below) / np.where(inside > 0, inside, 1.0)
        logs[enough, column] = ((low + cell + part) * np.log(GAMMA))[enough]
    return logs
