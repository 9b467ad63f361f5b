"""A test and a baseline as arrays, and what stands for the test among the tests of an invocation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pytest_gpuperf.analysis.evidence import StoredArrays, within_devices
from pytest_gpuperf.analysis.priors import SeriesPriors
from pytest_gpuperf.analysis.robust import FloatArray, IntArray, locate
from pytest_gpuperf.analysis.values import SeriesKey


@dataclass(frozen=True)
class TestArrays:
    """A test and a baseline as arrays.

    Attributes:
        keys: Series; the sweep-wide means come first.
        sweeps: Number of sweep-wide means.
        values: Values of the candidate and of the records, newest first.
        prior: Prior of the spread between records, by series.
        device, devices: Device of the candidate, and of each record of the history.
        reference_devices: Devices of the reference, where that isn't the history.
        invocations: Invocation of each record of the history.
    """

    __test__ = False

    keys: tuple[SeriesKey, ...]
    sweeps: int
    values: StoredArrays
    prior: SeriesPriors
    device: str
    devices: tuple[str, ...]
    invocations: tuple[str, ...]
    reference_devices: tuple[str, ...] = ()

    @cached_property
    def lines(self) -> dict[str, Line]:
        """What stands for the test in each metric: the mean over its sweeps."""
        averaged = {key[::2] for key in self.keys[: self.sweeps]}
        rows: dict[str, list[int]] = {}
        points: dict[str, list[int]] = {}
        for row, key in enumerate(self.keys):
            kind = rows if row < self.sweeps or key[::2] not in averaged else points
            kind.setdefault(key[2], []).append(row)
        return {metric: _line(self, chosen, points.get(metric, [])) for metric, chosen in rows.items()}

    @cached_property
    def means(self) -> list[int]:
        """For each series the row of the mean over its sweep; of itself, where there is none."""
        rows = {key[::2]: row for row, key in enumerate(self.keys[: self.sweeps])}
        return [rows.get(key[::2], row) for row, key in enumerate(self.keys)]

    @cached_property
    def device_codes(self) -> IntArray:
        """Number of each record's device."""
        codes = {device: code for code, device in enumerate(dict.fromkeys(self.devices))}
        return np.array([codes[device] for device in self.devices])


@dataclass(frozen=True)
class Line:
    """One metric of a test, a value for each record.

    Attributes:
        history, candidate: Values; NaN where a record has none.
        start_variance, start_freedom: Variance between the runs of a record, and its degrees of freedom.
        runs: Number of runs of a record, on average.
        point_variance, point_freedom: Variance between records of what a single point differs by from the mean over its
            sweep, averaged over the points, and its degrees of freedom.
        point_difference: Mean square of that by which the candidate's points differ besides their mean.
        prior: Variance that is assumed for a record's value, and its weight.
        assumed: Whether the prior is assumed, not measured.
        disturbance: Standard deviation to add to the candidate for the CPU that others used.
    """

    history: FloatArray
    candidate: float
    start_variance: float
    start_freedom: float
    runs: float
    point_variance: float
    point_freedom: float
    point_difference: float
    prior: tuple[float, float]
    assumed: bool
    disturbance: float


def _line(test: TestArrays, rows: list[int], points: list[int]) -> Line:
    history, candidate = locate(test.values.history), locate(test.values.candidate)
    squares = (history.freedom * history.variance).sum(axis=-1) + candidate.freedom * candidate.variance
    freedom = history.freedom.sum(axis=-1) + candidate.freedom
    runs = history.count[rows][history.count[rows] > 0]
    point_variance = point_freedom = point_difference = 0.0
    if points:
        means = [test.means[row] for row in points]
        besides = history.centre[points] - history.centre[means]
        variances, degrees = within_devices(besides, np.isfinite(besides), test.device_codes)
        point_variance, point_freedom = float(variances.mean()), float(degrees.mean())
        now = candidate.centre[points] - candidate.centre[means]
        changed = (now - _mean(besides)) ** 2
        known = np.isfinite(changed)
        point_difference = float(changed[known].mean()) if known.any() else 0.0
    disturbance = test.values.candidate_disturbance
    return Line(
        _mean(history.centre[rows].T),
        float(candidate.centre[rows].mean()),
        float((squares / np.maximum(freedom, 1))[rows].mean()),
        float(freedom[rows].mean()),
        float(runs.mean()) if len(runs) else 1.0,
        point_variance,
        point_freedom,
        point_difference,
        (float(test.prior.variance[rows].mean()), float(test.prior.weight[rows].mean())),
        bool((test.prior.assumed[rows] > 0).all()),
        0.0 if disturbance is None else float(disturbance[rows].mean()),
    )


def _mean(values: FloatArray) -> FloatArray:
    """Return means along the last axis, without what is NaN; NaN where nothing is left."""
    present = np.isfinite(values)
    count = present.sum(axis=-1)
    return np.asarray(np.where(present, values, 0.0).sum(axis=-1) / np.where(count, count, np.nan))
