"""Fits of the histories of tests: levels, spreads, devices and drift, before the candidates are looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pytest_gpuperf.analysis.evidence import RESOLUTION
from pytest_gpuperf.analysis.robust import FloatArray
from pytest_gpuperf.analysis.suite.arrays import Line, TestArrays
from pytest_gpuperf.analysis.suite.common import average_position, is_estimated, movements
from pytest_gpuperf.analysis.suite.forecast import (
    NO_FORECAST,
    DevicePrior,
    DevicesShown,
    Forecast,
    Moments,
    drift_posterior,
    forecast,
    moments_of_many,
    tail_freedom,
)
from pytest_gpuperf.analysis.suite.spread import BorrowedSpread, borrowed_spread, shrunk
from pytest_gpuperf.model import PooledTest

#: Assumed spread between devices of one model in what they do to all tests, and in what they do to single tests. GPUs
#: of one model differ by 8% on average between the best and the worst of a cluster (Sinha et al., SC 2022), which is a
#: standard deviation of about 3%; compute-bound work differs more than memory-bound work.
DEVICES = DevicePrior(0.03, 4.0)
DEVICES_OF_A_TEST = DevicePrior(0.02, 4.0)
#: Most weight of an assumed spread in what tests do besides moving together: it describes the machine, whose movement
#: is taken off.
_ASSUMED_OF_A_TEST = 3.0


@dataclass(frozen=True)
class Fit:
    """What is known about one metric of one test before the candidate is looked at.

    Attributes:
        rest: Values of the history without what all tests moved by together, and ``moved`` what that is.
        variance: Variance of a record's value.
        borrowed: What other tests show of it; None if nothing.
        shown: Degrees of freedom that all histories show.
        suite: Whether what all tests moved by together was taken off.
        point_variance: What single points add to the variance of the mean over their sweep.
        between: Variance between devices, and its degrees of freedom.
        drifts, drift_variances: Probability of each way to drift, and the variance of a record in it.
        tail_freedom: Degrees of freedom of Student's t that records are distributed as.
        common, common_variance: What the other tests moved by in this invocation.
        common_change: What all tests changed by together, if that is significant; else 0.
        factor, worth: By how much more the tests of this invocation differ than expected, and the degrees of freedom of
            that.
    """

    line: Line
    rest: FloatArray
    moved: FloatArray
    variance: float
    borrowed: BorrowedSpread | None
    shown: float
    suite: bool
    point_variance: float
    between: tuple[float, float]
    drifts: FloatArray
    drift_variances: FloatArray
    forecast: Forecast
    tail_freedom: float = math.inf
    common: float = 0.0
    common_variance: float = 0.0
    common_change: float = 0.0
    factor: float = 1.0
    worth: float = 0.0

    @property
    def is_informed(self) -> bool:
        """Whether more than the test's own records and its prior is known."""
        return self.suite or self.borrowed is not None

    def forecast_from(self, devices: Sequence[str], device: str) -> Forecast:
        """Return the forecast for a device, from records on some devices, newest first."""
        return forecast(
            devices,
            device,
            record_variance=self.variance,
            device_prior=self.between,
            drifts=self.drifts,
            drift_variances=self.drift_variances,
        )

    @property
    def prior_weight(self) -> float:
        """Weight of the prior beside what is shown."""
        weight = self.line.prior[1]
        return self.assumed_weight(weight) if self.line.assumed else weight

    def assumed_weight(self, weight: float) -> float:
        """Return how much of an assumption's weight is left beside what is shown (``Prior.measured``)."""
        most = min(weight, _ASSUMED_OF_A_TEST) if self.suite else weight
        return max(most - self.shown - self.worth, 0.0)

    def spread(self, variance: float, weight: float, *, assumed: bool) -> BorrowedSpread:
        """Return what is known about the variance of a record's value besides the test's own records.

        While nothing better is known, records are assumed to differ by at least as much as the starts inside one.

        Args:
            variance, weight, assumed: The prior of a series, and whether it is assumed instead of measured.
        """
        if assumed:
            variance, weight = max(variance, self.line.start_variance), self.assumed_weight(weight)
        borrowed = self.borrowed or BorrowedSpread(variance, 0.0)
        total = weight + borrowed.freedom
        mean = (weight * variance + borrowed.freedom * borrowed.variance) / total if total else variance
        return BorrowedSpread(mean * self.factor, max(total, self.worth))


def fits_together(
    metric: str, tests: Mapping[str, TestArrays], others: Mapping[str, PooledTest]
) -> tuple[dict[str, Fit], EarlierMovements]:
    """Fit the histories of a metric of many tests, without what they moved by together."""
    histories = {
        name: _History(test.lines[metric].history, _units(test.invocations, test.devices), test.devices)
        for name, test in tests.items()
    }
    starts = {
        name: (test.lines[metric].start_variance, test.lines[metric].start_freedom) for name, test in tests.items()
    }
    for name, pooled in others.items():
        shown = _pooled(pooled, metric)
        if shown is not None:
            histories[name], starts[name] = shown
    units = average_position([history.units for history in histories.values()])
    place = {unit: column for column, unit in enumerate(units)}
    columns = {name: [place[unit] for unit in history.units] for name, history in histories.items()}
    table = np.full((len(histories), len(units)), np.nan)
    for row, (name, history) in enumerate(histories.items()):
        table[row, columns[name]] = history.values
    moved = movements(table)
    rests = {name: history.values - moved[columns[name]] for name, history in histories.items()}
    shown_rests = _moments({name: (rests[name], history.devices) for name, history in histories.items()})
    # What was estimated from n tests has taken one degree of freedom in n.
    left = 1 - 1 / np.maximum(np.isfinite(table).sum(axis=0), 1)
    shares = {name: float(np.mean(left[columns[name]])) for name in histories}
    fits = _fits(
        tests,
        metric,
        rests=rests,
        moved={name: moved[columns[name]] for name in tests},
        shown=shown_rests,
        starts=starts,
        shares=shares,
    )
    labels = {
        unit: device for each in histories.values() for unit, device in zip(each.units, each.devices, strict=True)
    }
    estimated = is_estimated(table)
    known = [labels[unit] for unit, kept in zip(units, estimated.tolist(), strict=True) if kept]
    return fits, EarlierMovements(moved[estimated], known)


def fits_alone(metric: str, tests: Mapping[str, TestArrays], others: Mapping[str, PooledTest]) -> dict[str, Fit]:
    """Fit the histories of a metric of a few tests, as they are."""
    rests = {name: test.lines[metric].history for name, test in tests.items()}
    series: dict[str, tuple[FloatArray, Sequence[str]]] = {
        name: (rests[name], test.devices) for name, test in tests.items()
    }
    starts = {
        name: (test.lines[metric].start_variance, test.lines[metric].start_freedom) for name, test in tests.items()
    }
    for name, pooled in others.items():
        history = _pooled(pooled, metric)
        if history is not None:
            series[name], starts[name] = (history[0].values, history[0].devices), history[1]
    shown = _moments(series)
    moved = {name: np.zeros(len(rest)) for name, rest in rests.items()}
    return _fits(tests, metric, rests=rests, moved=moved, shown=shown, starts=starts, shares=None)


def _fits(
    tests: Mapping[str, TestArrays],
    metric: str,
    *,
    rests: Mapping[str, FloatArray],
    moved: Mapping[str, FloatArray],
    shown: Mapping[str, Moments],
    starts: Mapping[str, tuple[float, float]],
    shares: Mapping[str, float] | None,
) -> dict[str, Fit]:
    """Return the fits of tests from what their histories show, and those of other tests.

    Args:
        shares: Share of the degrees of freedom that is left after taking off the common movements; None if they were
            not, so that tests of the same invocations show the same movement, which counts once.
    """
    names, independent = list(shown), shares is not None
    freedoms = np.array([shown[name].within_freedom * (1.0 if shares is None else shares[name]) for name in names])
    variances = np.array([shown[name].within for name in names]) / np.maximum(freedoms, 1e-9)
    scales = _start_scales(np.array([starts[name] for name in names]))
    # A test can't borrow from itself.
    borrowed = borrowed_spread(variances / scales, freedoms) if len(names) > 1 else None
    total = float(freedoms.sum() if independent else freedoms.max(initial=0.0))
    if borrowed is not None and not independent:
        borrowed = BorrowedSpread(borrowed.variance, min(borrowed.freedom, total))
    tails = tail_freedom(list(shown.values())) if independent or len(names) == 1 else math.inf
    drifts = drift_posterior(list(shown.values()), independent=independent)
    points = _point_variance([test.lines[metric] for test in tests.values()])
    devices = DevicesShown.of(list(shown.values()), independent=independent)
    places = {name: index for index, name in enumerate(names)}
    fits = {}
    for name, test in tests.items():
        index, line = places[name], test.lines[metric]
        scale = float(scales[index])
        from_others = borrowed and borrowed.for_test(float(variances[index]) / scale, float(freedoms[index]), scale)
        fit = Fit(
            line=line,
            rest=rests[name],
            moved=moved[name],
            variance=0.0,
            borrowed=from_others,
            shown=total,
            suite=independent,
            point_variance=points,
            between=(0.0, 1.0),
            drifts=drifts,
            drift_variances=shown[name].drift_variances,
            forecast=NO_FORECAST,
            tail_freedom=tails,
        )
        spread = fit.spread(*line.prior, assumed=line.assumed)
        variance = float(shrunk(variances[index], freedoms[index], spread))
        variance = max(variance, line.start_variance / line.runs, RESOLUTION**2)
        prior = DEVICES_OF_A_TEST if independent else DEVICES
        between = devices.variance(variance, prior)
        fit = replace(fit, variance=variance, between=between)
        fits[name] = replace(fit, forecast=fit.forecast_from(test.devices, test.device))
    return fits


def _point_variance(lines: Sequence[Line]) -> float:
    """Return the variance between records of what single points differ by from the mean over their sweep."""
    freedom = sum(line.point_freedom for line in lines)
    if freedom:
        return sum(line.point_freedom * line.point_variance for line in lines) / freedom
    # With one record each, the candidates' points are the only ones to differ.
    return float(np.median([line.point_difference for line in lines])) / 2


@dataclass(frozen=True)
class _History:
    """Values of a test, with the invocation and the device of each."""

    values: FloatArray
    units: Sequence[str]
    devices: Sequence[str]


@dataclass(frozen=True)
class EarlierMovements:
    """Movements of earlier invocations, newest first, and their devices."""

    values: FloatArray
    devices: Sequence[str]


def _units(invocations: Sequence[str], devices: Sequence[str]) -> list[str]:
    """Name what moves together: the tests that an invocation measured on one device.

    Records of an unknown invocation are taken to share it with the records in the same place of other tests.
    """
    return [
        f"{invocation or f'unknown {place}'} {device}"
        for place, (invocation, device) in enumerate(zip(invocations, devices, strict=True))
    ]


def _moments(series: Mapping[str, tuple[FloatArray, Sequence[str]]]) -> dict[str, Moments]:
    return dict(zip(series, moments_of_many(list(series.values())), strict=True))


def _pooled(test: PooledTest, metric: str) -> tuple[_History, tuple[float, float]] | None:
    series = [each for each in test.series if each.metric == metric]
    if not series or not test.records:
        return None
    means = np.array([each.means for each in series], dtype=float)  # None becomes NaN
    devices = [record.device for record in test.records]
    history = _History(
        means[0] if len(series) == 1 else means.mean(axis=0),
        _units([record.invocation for record in test.records], devices),
        devices,
    )
    variance, freedom = (
        sum(values) / len(series) for values in zip(*((s.run_variance, s.run_freedom) for s in series), strict=True)
    )
    return history, (variance, freedom)


def _start_scales(starts: FloatArray) -> FloatArray:
    """Return the variance between starts of each test, shrunk to that of all tests."""
    variances, freedoms = np.maximum(starts[:, 0], RESOLUTION**2), starts[:, 1]
    borrowed = borrowed_spread(variances, freedoms)
    return np.full(len(starts), RESOLUTION**2) if borrowed is None else shrunk(variances, freedoms, borrowed)
