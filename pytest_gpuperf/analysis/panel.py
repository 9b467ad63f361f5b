"""Panel: the values of several records as the arrays that the tests work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.analysis.evidence import averaging_matrix
from pytest_gpuperf.analysis.robust import BoolArray, FloatArray
from pytest_gpuperf.analysis.values import RecordValues, SeriesKey, Values
from pytest_gpuperf.model import is_of_start

_NONE = Values(())


@dataclass(frozen=True)
class Panel:
    """Values of several records, by series in a fixed order: what is about a sweep as a whole comes first.

    Attributes:
        sweeps: Number of series about a sweep: the means over its load points, and what was measured at its starts. 0
            if there is no mean, since the load point then is the sweep.
        sides: Values of each record, shape (series, runs), padded with NaN.
        disturbances: As ``sides``, shape (series,).
    """

    keys: tuple[SeriesKey, ...]
    sweeps: int
    sides: tuple[FloatArray, ...]
    disturbances: tuple[FloatArray, ...]

    @property
    def averaging_matrix(self) -> FloatArray:
        """Matrix that averages over the points of a sweep's metric; a sweep-wide mean stands for itself."""
        return averaging_matrix([(point is None, sweep, metric) for sweep, point, metric in self.keys])

    def stack(self, which: slice) -> FloatArray:
        """Return the values of some records, shape (series, records, runs), padded with NaN."""
        sides = self.sides[which]
        size = max(side.shape[1] for side in sides)
        stacked = np.full((len(self.keys), len(sides), size), np.nan)
        for index, side in enumerate(sides):
            stacked[:, index, : side.shape[1]] = side
        return stacked

    def stack_disturbances(self, which: slice) -> FloatArray:
        """Return the disturbances of some records, shape (series, records)."""
        return np.stack(self.disturbances[which], axis=1)

    def is_measured(self, which: int | slice) -> BoolArray:
        """Return which series at least one of some records has."""
        sides = [self.sides[which]] if isinstance(which, int) else self.sides[which]
        return np.asarray(np.logical_or.reduce([np.isfinite(side).any(axis=-1) for side in sides]))

    def select(self, rows: BoolArray) -> Panel:
        """Return the panel of some of the series."""
        if rows.all():
            return self
        return Panel(
            tuple(key for key, kept in zip(self.keys, rows.tolist(), strict=True) if kept),
            int(rows[: self.sweeps].sum()),
            tuple(side[rows] for side in self.sides),
            tuple(disturbance[rows] for disturbance in self.disturbances),
        )


def panel(keys: Sequence[SeriesKey], records: Sequence[RecordValues]) -> Panel:
    """Return the panel of some series of all records, with the means over the points of each sweep before them."""
    keys = sorted(keys, key=lambda key: not _of_start(key))  # stable
    sides = [_side(keys, record) for record in records]
    disturbances = [
        np.array([record.values.get(key, _NONE).disturbance for key in keys], dtype=float) for record in records
    ]
    groups: dict[tuple[str, str], list[int]] = {}
    for row, (sweep, _, metric) in enumerate(keys):
        groups.setdefault((sweep, metric), []).append(row)
    means = {group: _common_points(rows, sides) for group, rows in groups.items()}
    means = {group: rows for group, rows in means.items() if len(rows) > 1}
    return Panel(
        keys=(*((sweep, None, metric) for sweep, metric in means), *keys),
        sweeps=len(means) + sum(map(_of_start, keys)) if means else 0,
        sides=tuple(with_means(side, list(means.values())) for side in sides),
        disturbances=tuple(with_means(disturbance, list(means.values())) for disturbance in disturbances),
    )


def _of_start(key: SeriesKey) -> bool:
    """Return whether a series was measured at the starts: it must not be charged for the number of load points."""
    return is_of_start(key[2])


def _side(keys: Sequence[SeriesKey], record: RecordValues) -> FloatArray:
    runs = [record.values.get(key, _NONE).runs for key in keys]
    side = np.full((len(keys), max(map(len, runs), default=0)), np.nan)
    for row, values in enumerate(runs):
        side[row, : len(values)] = values
    return side


def _common_points(rows: Sequence[int], sides: Sequence[FloatArray]) -> list[int]:
    """Return the points that at least half of the records have: a new point must not cost the sweep its history."""
    known = np.array([np.isfinite(side[list(rows)]).any(axis=-1) for side in sides])
    records = max(int(known.any(axis=1).sum()), 1)
    return [row for row, count in zip(rows, known.sum(axis=0), strict=True) if 2 * count >= records]


def with_means(numbers: FloatArray, groups: Sequence[Sequence[int]], axis: int = 0) -> FloatArray:
    """Return numbers along ``axis`` with the mean of each group before them; NaN where a member is missing."""
    if not groups:
        return numbers
    means = [numbers.take(list(rows), axis=axis).mean(axis=axis, keepdims=True) for rows in groups]
    return np.concatenate([*means, numbers], axis=axis)
