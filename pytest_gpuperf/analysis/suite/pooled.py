"""What the baseline of a test tells other tests about spreads, without its figures."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from pytest_gpuperf.analysis.panel import panel
from pytest_gpuperf.analysis.robust import FloatArray, LocationEstimate, locate
from pytest_gpuperf.analysis.values import RecordValues, SeriesKey
from pytest_gpuperf.model import PooledRecord, PooledSeries, PooledTest


def pooled_test(test: str, values: Sequence[RecordValues]) -> PooledTest:
    """Return what a test's baseline shows.

    Args:
        values: Values of the baseline's records, newest first.
    """
    records = tuple(PooledRecord(each.id, each.invocation, each.device) for each in values)
    keys: list[SeriesKey] = list(dict.fromkeys(key for each in values for key in each.values))
    if not keys:
        return PooledTest(test, records, ())
    table = panel(keys, values)
    estimates = locate(table.stack(slice(None)))
    groups: dict[tuple[str, str], list[int]] = {}
    for row, (sweep, _, metric) in enumerate(table.keys):
        groups.setdefault((sweep, metric), []).append(row)
    means = {row for row, key in enumerate(table.keys) if key[1] is None}
    series = (_series(*group, rows, means, estimates) for group, rows in groups.items())
    return PooledTest(test, records, tuple(each for each in series if each is not None))


def _series(
    sweep: str, metric: str, rows: Sequence[int], means: Container[int], estimates: LocationEstimate
) -> PooledSeries | None:
    """Return one metric of one sweep; None if no load point is in half of the records.

    Args:
        rows: Rows of the metric in the panel; the first of them is the mean over the load points, if it is one of
            ``means``.
    """
    points = [row for row in rows if row not in means]
    known = np.isfinite(estimates.centre[points])
    common = [row for row, count in zip(points, known.sum(axis=1), strict=True) if 2 * count >= known.any(axis=0).sum()]
    if not common:
        return None
    mean_row = rows[0] if rows[0] in means else common[0]
    mean, freedom = estimates.centre[mean_row], estimates.freedom[mean_row]
    squares = float((freedom * estimates.variance[mean_row]).sum())
    return PooledSeries(
        sweep,
        metric,
        means=tuple(value if np.isfinite(value) else None for value in mean.tolist()),
        run_variance=squares / max(float(freedom.sum()), 1.0),
        run_freedom=float(freedom.sum()),
        point_variance=_point_variance(estimates.centre[common] - mean),
    )


def _point_variance(differences: FloatArray) -> float:
    """Return the variance between records of what the points differ by from their mean, averaged over the points.

    Args:
        differences: Shape (points, records); NaN where a record lacks the mean.
    """
    differences = differences[:, np.isfinite(differences).all(axis=0)]
    return float(differences.var(axis=1, ddof=1).mean()) if differences.shape[1] > 1 else 0.0
