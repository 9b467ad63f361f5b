"""Fits of the histories of tests: levels, spreads, devices and drift, before the candidates are looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.analysis.evidence import RESOLUTION
from pytest_gpuperf.analysis.robust import FloatArray
from pytest_gpuperf.analysis.suite.arrays import Line, TestArrays
from pytest_gpuperf.analysis.suite.common import average_position, is_estimated, movements
from pytest_gpuperf.analysis.suite.forecast import (
    DevicePrior,
    DevicesShown,
    Forecast,
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
class SpreadKnowledge:
    """What is known about the variance of a record's value besides the test's own records.

    Attributes:
        borrowed: What other tests show of it; None if nothing.
        shown: Degrees of freedom that all histories show.
        suite: Whether what all tests moved by together was taken off.
        factor, worth: By how much more the tests of this invocation differ than expected, and the degrees of freedom of
            that.
    """

    line: Line
    borrowed: BorrowedSpread | None
    shown: float
    suite: bool
    factor: float = 1.0
    worth: float = 0.0

    @property
    def is_informed(self) -> bool:
        """Whether more than the test's own records and its prior is known."""
        return self.suite or self.borrowed is not None

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
        """Return the variance and the degrees of freedom that it is worth.

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


@dataclass(frozen=True)
class Fit:
    """What is known about one metric of one test.

    Attributes:
        rest: Values of the history without what all tests moved by together, and ``moved`` what that is.
        variance: Variance of a record's value.
        point_variance: What single points add to the variance of the mean over their sweep.
        between: Variance between devices, and its degrees of freedom.
        drifts, drift_variances: Probability of each way to drift, and the variance of a record in it.
        tail_freedom: Degrees of freedom of Student's t that records are distributed as.
        forecast: Forecast for the candidate's device from the history.
        common, common_variance: What the other tests moved by in this invocation.
        common_change: What all tests changed by together, if that is significant; else 0.
    """

    line: Line
    rest: FloatArray
    moved: FloatArray
    known: SpreadKnowledge
    variance: float
    point_variance: float
    between: tuple[float, float]
    drifts: FloatArray
    drift_variances: FloatArray
    tail_freedom: float
    forecast: Forecast
    common: float = 0.0
    common_variance: float = 0.0
    common_change: float = 0.0

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


def fits_together(
    metric: str, tests: Mapping[str, TestArrays], others: Mapping[str, PooledTest]
) -> tuple[dict[str, Fit], EarlierMovements]:
    """Fit the histories of a metric of many tests, without what they moved by together."""
    histories = _histories(metric, tests, others)
    units = average_position([history.units for history in histories.values()])
    place = {unit: column for column, unit in enumerate(units)}
    columns = {name: [place[unit] for unit in history.units] for name, history in histories.items()}
    table = np.full((len(histories), len(units)), np.nan)
    for row, (name, history) in enumerate(histories.items()):
        table[row, columns[name]] = history.values
    moved = movements(table)
    rests = {name: history.values - moved[columns[name]] for name, history in histories.items()}
    # What was estimated from n tests has taken one degree of freedom in n.
    left = 1 - 1 / np.maximum(np.isfinite(table).sum(axis=0), 1)
    shares = {name: float(np.mean(left[columns[name]])) for name in histories}
    fits = _fits(tests, metric, histories, rests, {name: moved[columns[name]] for name in tests}, shares)
    labels = {
        unit: device for each in histories.values() for unit, device in zip(each.units, each.devices, strict=True)
    }
    estimated = is_estimated(table)
    known = [labels[unit] for unit, kept in zip(units, estimated.tolist(), strict=True) if kept]
    return fits, EarlierMovements(moved[estimated], known)


def fits_alone(metric: str, tests: Mapping[str, TestArrays], others: Mapping[str, PooledTest]) -> dict[str, Fit]:
    """Fit the histories of a metric of a few tests, as they are."""
    histories = _histories(metric, tests, others)
    rests = {name: history.values for name, history in histories.items()}
    return _fits(tests, metric, histories, rests, {name: np.zeros(len(rests[name])) for name in tests}, None)


def _histories(metric: str, tests: Mapping[str, TestArrays], others: Mapping[str, PooledTest]) -> dict[str, _History]:
    """Return the histories of a metric, of these tests and of others that have it."""
    lines = {name: test.lines[metric] for name, test in tests.items()}
    histories = {
        name: _History(
            lines[name].history,
            _units(test.invocations, test.devices),
            test.devices,
            (lines[name].start_variance, lines[name].start_freedom),
        )
        for name, test in tests.items()
    }
    pooled = {name: _pooled(test, metric) for name, test in others.items()}
    return histories | {name: history for name, history in pooled.items() if history is not None}


def _fits(  # noqa: PLR0917
    tests: Mapping[str, TestArrays],
    metric: str,
    histories: Mapping[str, _History],
    rests: Mapping[str, FloatArray],
    moved: Mapping[str, FloatArray],
    shares: Mapping[str, float] | None,
) -> dict[str, Fit]:
    """Return the fits of tests from what their histories show, and those of other tests.

    Args:
        shares: Share of the degrees of freedom that is left after taking off the common movements; None if they were
            not, so that tests of the same invocations show the same movement, which counts once.
    """
    names, independent = list(histories), shares is not None
    moments = moments_of_many([(rests[name], histories[name].devices) for name in names])
    shown = dict(zip(names, moments, strict=True))
    freedoms = np.array([shown[name].within_freedom * (1.0 if shares is None else shares[name]) for name in names])
    variances = np.array([shown[name].within for name in names]) / np.maximum(freedoms, 1e-9)
    scales = _start_scales(np.array([histories[name].starts for name in names]))
    # A test can't borrow from itself.
    borrowed = borrowed_spread(variances / scales, freedoms) if len(names) > 1 else None
    total = float(freedoms.sum() if independent else freedoms.max(initial=0.0))
    if borrowed is not None and not independent:
        borrowed = BorrowedSpread(borrowed.variance, min(borrowed.freedom, total))
    tails = tail_freedom(moments) if independent or len(names) == 1 else math.inf
    drifts = drift_posterior(moments, independent=independent)
    points = _point_variance([test.lines[metric] for test in tests.values()])
    devices = DevicesShown.of(moments, independent=independent)
    places = {name: index for index, name in enumerate(names)}
    fits = {}
    for name, test in tests.items():
        index, line = places[name], test.lines[metric]
        scale = float(scales[index])
        from_others = borrowed and borrowed.for_test(float(variances[index]) / scale, float(freedoms[index]), scale)
        known = SpreadKnowledge(line, from_others, total, independent)
        variance = float(shrunk(variances[index], freedoms[index], known.spread(*line.prior, assumed=line.assumed)))
        variance = max(variance, line.start_variance / line.runs, RESOLUTION**2)
        between = devices.variance(variance, DEVICES_OF_A_TEST if independent else DEVICES)
        drift_variances = shown[name].drift_variances
        fits[name] = Fit(
            line=line,
            rest=rests[name],
            moved=moved[name],
            known=known,
            variance=variance,
            point_variance=points,
            between=between,
            drifts=drifts,
            drift_variances=drift_variances,
            tail_freedom=tails,
            forecast=forecast(
                test.devices,
                test.device,
                record_variance=variance,
                device_prior=between,
                drifts=drifts,
                drift_variances=drift_variances,
            ),
        )
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
    """Values of a test, with the invocation and the device of each.

    ``starts`` is the variance between the runs of a record, and its degrees of freedom.
    """

    values: FloatArray
    units: Sequence[str]
    devices: Sequence[str]
    starts: tuple[float, float]


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


def _pooled(test: PooledTest, metric: str) -> _History | None:
    series = [each for each in test.series if each.metric == metric]
    if not series or not test.records:
        return None
    means = np.array([each.means for each in series], dtype=float)  # None becomes NaN
    devices = [record.device for record in test.records]
    return _History(
        means[0] if len(series) == 1 else means.mean(axis=0),
        _units([record.invocation for record in test.records], devices),
        devices,
        (
            sum(each.run_variance for each in series) / len(series),
            sum(each.run_freedom for each in series) / len(series),
        ),
    )


def _start_scales(starts: FloatArray) -> FloatArray:
    """Return the variance between starts of each test, shrunk to that of all tests."""
    variances, freedoms = np.maximum(starts[:, 0], RESOLUTION**2), starts[:, 1]
    borrowed = borrowed_spread(variances, freedoms)
    return np.full(len(starts), RESOLUTION**2) if borrowed is None else shrunk(variances, freedoms, borrowed)
