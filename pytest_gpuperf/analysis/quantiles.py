"""Quantiles that the gate compares, of many load points at once: it reads thousands of windows within 50 ms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from pytest_gpuperf.analysis.robust import FloatArray
from pytest_gpuperf.model import Histogram
from pytest_gpuperf.model.histogram import BEYOND_QUANTILE, GAMMA

#: Cells of the table of counts that are filled at a time, so that they stay in the cache.
_CELLS = 1 << 19


def quantile_logs(groups: Sequence[Sequence[Histogram]], quantiles: Sequence[float]) -> FloatArray:
    """Return the logs of the quantiles, in ns, of each group of histograms.

    Equal to the log of ``Histogram.quantile_ns`` of the merged group; NaN without enough requests.
    The array has the shape (groups, quantiles).
    """
    result = np.full((len(groups), len(quantiles)), np.nan)
    lengths = [sum(len(histogram.buckets) for histogram in group) for group in groups]
    if not sum(lengths) or not quantiles:
        return result
    filled = [histogram.buckets for group in groups for histogram in group if histogram.buckets]
    low = min(buckets[0] for buckets in filled)
    width = max(buckets[-1] for buckets in filled) - low + 1
    step = max(_CELLS // width, 1)
    for start in range(0, len(groups), step):
        part = slice(start, start + step)
        result[part] = _part_logs(groups[part], lengths[part], low, width, np.asarray(quantiles))
    return result


def _part_logs(
    groups: Sequence[Sequence[Histogram]], lengths: Sequence[int], low: int, width: int, quantiles: FloatArray
) -> FloatArray:
    size = sum(lengths)
    histograms = [histogram for group in groups for histogram in group]
    buckets = np.fromiter(chain.from_iterable(each.buckets for each in histograms), np.int64, size)
    counts = np.fromiter(chain.from_iterable(each.counts for each in histograms), np.int64, size)
    row = np.repeat(np.arange(len(groups)), lengths)
    table = np.bincount(row * width + buckets - low, counts, len(groups) * width).reshape(len(groups), width)
    cumulated = table.cumsum(axis=1)
    total = cumulated[:, -1]
    logs = np.full((len(groups), len(quantiles)), np.nan)
    lines = np.arange(len(groups))
    for column, quantile in enumerate(quantiles):
        # The middle of the rank range, as in Histogram.quantile_ns.
        rank = np.minimum(np.maximum(quantile * total, 0.5), total - 0.5)
        cell = (cumulated >= rank[:, None]).argmax(axis=1)
        inside = table[lines, cell]
        below = cumulated[lines, cell] - inside
        enough = total * (1 - quantile) >= BEYOND_QUANTILE - 1e-9
        part = (rank - below) / np.where(inside > 0, inside, 1.0)
        logs[enough, column] = ((low + cell + part) * np.log(GAMMA))[enough]
    return logs
