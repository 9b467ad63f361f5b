"""The values of several records side by side, as the arrays that the tests work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.analysis.evidence import BoolArray, averaging
from pytest_gpuperf.analysis.robust import FloatArray
from pytest_gpuperf.analysis.values import RecordValues, SeriesKey, Values

_NONE = Values(())


@dataclass(frozen=True)
class Panel:
    """Series in a fixed order, the sweep-wide means first.

    Attributes:
        keys: of each series.
        sweeps: how many of them are sweep-wide means.
        sides: for each record (series, runs), padded with NaN.
        disturbances: for each record (series,).
    """

    keys: tuple[SeriesKey, ...]
    sweeps: int
    sides: tuple[FloatArray, ...]
    disturbances: tuple[FloatArray, ...]

    @property
    def averaging_matrix(self) -> FloatArray:
        """Averages over the points of a sweep's metric; a sweep-wide mean stands for itself."""
        return averaging([(point is None, sweep, metric) for sweep, point, metric in self.keys])

    def stacked(self, which: slice) -> FloatArray:
        """Several records as (series, records, runs), padded with NaN."""
        sides = self.sides[which]
        size = max(side.shape[1] for side in sides)
        whole = np.full((len(self.keys), len(sides), size), np.nan)
        for index, side in enumerate(sides):
            whole[:, index, : side.shape[1]] = side
        return whole

    def disturbed(self, which: slice) -> FloatArray:
        """Likewise (series, records)."""
        return np.stack(self.disturbances[which], axis=1)

    def measured(self, which: int | slice) -> BoolArray:
        """Which series any of some records has."""
        sides = [self.sides[which]] if isinstance(which, int) else self.sides[which]
        return np.asarray(np.logical_or.reduce([np.isfinite(side).any(axis=-1) for side in sides]))

    def only(self, rows: BoolArray) -> Panel:
        """Some of the series."""
        if rows.all():
            return self
        return Panel(
            tuple(key for key, kept in zip(self.keys, rows.tolist(), strict=True) if kept),
            int(rows[: self.sweeps].sum()),
            tuple(side[rows] for side in self.sides),
            tuple(one[rows] for one in self.disturbances),
        )


def panel(keys: Sequence[SeriesKey], records: Sequence[RecordValues]) -> Panel:
    """Line up the given series of all records, and put the means over the points of each sweep before them."""
    sides = [_side(keys, record) for record in records]
    disturbances = [
        np.array([record.values.get(key, _NONE).disturbance for key in keys], dtype=float) for record in records
    ]
    groups: dict[tuple[str, str], list[int]] = {}
    for row, (sweep, _, metric) in enumerate(keys):
        groups.setdefault((sweep, metric), []).append(row)
    means = {group: _usual(rows, sides) for group, rows in groups.items()}
    means = {group: rows for group, rows in means.items() if len(rows) > 1}
    return Panel(
        keys=(*((sweep, None, metric) for sweep, metric in means), *keys),
        sweeps=len(means),
        sides=tuple(with_means(side, list(means.values())) for side in sides),
        disturbances=tuple(with_means(one, list(means.values())) for one in disturbances),
    )


def _side(keys: Sequence[SeriesKey], record: RecordValues) -> FloatArray:
    runs = [record.values.get(key, _NONE).runs for key in keys]
    side = np.full((len(keys), max(map(len, runs), default=0)), np.nan)
    for row, found in enumerate(runs):
        side[row, : len(found)] = found
    return side


def _usual(rows: Sequence[int], sides: Sequence[FloatArray]) -> list[int]:
    """Points that at least half of the records have: a new point must not cost the sweep its history."""
    known = np.array([np.isfinite(side[list(rows)]).any(axis=-1) for side in sides])
    any_of = max(int(known.any(axis=1).sum()), 1)
    return [row for row, count in zip(rows, known.sum(axis=0), strict=True) if 2 * count >= any_of]


def with_means(numbers: FloatArray, groups: Sequence[Sequence[int]], axis: int = 0) -> FloatArray:
    """Put the mean of each group of series before the series; NaN where one of a group is missing.

    Args:
        numbers: series along ``axis``.
        groups: indices of series.
    """
    if not groups:
        return numbers
    means = [numbers.take(list(rows), axis=axis).mean(axis=axis, keepdims=True) for rows in groups]
    return np.concatenate([*means, numbers], axis=axis)
