"""Judgement of all tests of an invocation: each by itself, relative to what they moved by together, and that once.

1. What all tests moved by together in earlier invocations is taken off the histories (``common.movements``).
2. The spread of what remains is borrowed across tests (``spread``), together with devices and drift (``forecast``).
3. What the tests moved by together in this invocation is taken off each test: estimated from the others, so that a
   change of the test itself stays.
4. The movement is judged itself, as if it were a test, against the movements of earlier invocations.

With fewer than ``ENOUGH_TESTS`` tests of a metric on a device, no movement can be told from the tests' changes: each
test is judged by its total spread, and borrows from others only as many degrees of freedom as there are invocations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pytest_gpuperf.analysis.evidence import RESOLUTION, Evidence, Expected, stored_evidence, t_quantile
from pytest_gpuperf.analysis.priors import SeriesPriors
from pytest_gpuperf.analysis.robust import FloatArray
from pytest_gpuperf.analysis.rule import ENOUGH_TESTS
from pytest_gpuperf.analysis.suite.arrays import Line, TestArrays
from pytest_gpuperf.analysis.suite.common import CommonMovement, common_movement, excess_spread
from pytest_gpuperf.analysis.suite.fits import DEVICES, EarlierMovements, Fit, fits_alone, fits_together
from pytest_gpuperf.analysis.suite.forecast import DevicesShown, Forecast, drift_posterior, forecast, moments
from pytest_gpuperf.model import PooledTest

#: Level, one-sided, from which what all tests moved by together is more than the machine's.
_SIGNIFICANT = 0.01


@dataclass(frozen=True)
class Movement:
    """The evidence about what all tests of a device moved by together, by metric."""

    metrics: tuple[str, ...]
    device: str
    evidence: Evidence
    tests: int
    invocations: int


@dataclass(frozen=True)
class JudgedSuite:
    """Evidence of all tests, the forecast of each test by metric, and what they moved by together on each device."""

    evidence: Mapping[str, Evidence]
    forecasts: Mapping[str, Mapping[str, Forecast]]
    movements: tuple[Movement, ...] = ()


def judge(
    tests: Mapping[str, TestArrays], pool: Mapping[str, PooledTest] | None = None, *, only: str | None = None
) -> JudgedSuite:
    """Return the evidence of the tests of an invocation.

    Args:
        pool: What the store shows of further tests of the device model, by test.
        only: Return the evidence of this test alone.
    """
    wanted = tests if only is None else {name: test for name, test in tests.items() if name == only}
    others = {name: test for name, test in (pool or {}).items() if name not in tests}
    fits: dict[str, dict[str, Fit]] = {name: {} for name in tests}
    moved: dict[str, list[tuple[str, _JudgedMovement]]] = {}
    for metric in dict.fromkeys(metric for test in tests.values() for metric in test.lines):
        groups: dict[str, dict[str, TestArrays]] = {}
        for name, test in tests.items():
            if metric in test.lines:
                groups.setdefault(test.device, {})[name] = test
        for device, group in groups.items():
            if only is not None and only not in group:
                continue
            if len(group) < ENOUGH_TESTS:
                for name, fit in fits_alone(metric, group, others).items():
                    fits[name][metric] = fit
                continue
            before, earlier = fits_together(metric, group, others)
            after, movement = _take_off(before)
            lines = [test.lines[metric] for test in group.values()]
            judged = _judge_movement(movement, lines, earlier, device)
            moved.setdefault(device, []).append((metric, judged))
            for name, fit in after.items():
                change = judged.difference - movement.together + fit.common if judged.is_significant else 0.0
                fits[name][metric] = replace(fit, common_change=change)
    return JudgedSuite(
        {name: _evidence(test, fits[name]) for name, test in wanted.items()},
        {name: {metric: fit.forecast for metric, fit in by_metric.items()} for name, by_metric in fits.items()},
        tuple(_movement(device, judged) for device, judged in moved.items()),
    )


def _take_off(fits: Mapping[str, Fit]) -> tuple[dict[str, Fit], CommonMovement]:
    """Take what all tests moved by together off each test; return that movement as well.

    How much the tests differ in this invocation is evidence, too: with one record each, or on a device never seen, it
    is nearly all there is.
    """
    each = list(fits.values())
    differences = np.array([_difference(fit) for fit in each])
    devices = np.array([fit.forecast.device_variance for fit in each])
    records = np.array([fit.variance * (1 + fit.forecast.record_factor) * fit.forecast.drift_factor for fit in each])
    variances = records + devices
    movement = common_movement(differences, variances)
    excess, worth = excess_spread(differences, variances, movement.together)
    # Satterthwaite (1946): how well the expected spread is known.
    knowledge = [replace(fit.known, worth=worth) for fit in each]
    shown = np.array([known.shown + known.prior_weight for known in knowledge]) + 1e-6
    freedoms = np.array([fit.forecast.device_freedom for fit in each])
    freedom = float(np.mean(variances**2 / (records**2 / shown + devices**2 / freedoms)))
    factor = (freedom + worth * excess) / (freedom + worth)
    movement = common_movement(differences, variances * factor)
    result = {
        name: replace(
            fit,
            known=replace(known, factor=factor),
            forecast=replace(fit.forecast, device_variance=fit.forecast.device_variance * factor),
            common=float(movement.of_others[index]),
            common_variance=float(movement.variance_of_others[index]),
        )
        for index, ((name, fit), known) in enumerate(zip(fits.items(), knowledge, strict=True))
    }
    return result, movement


@dataclass(frozen=True)
class _JudgedMovement:
    """Difference of a movement from what is expected, its standard error, and the degrees of freedom of that."""

    difference: float
    error: float
    freedom: float
    tests: int
    invocations: int

    @property
    def is_significant(self) -> bool:
        """Whether more than the machine may have moved the tests."""
        return abs(self.difference) > self.error * float(t_quantile(_SIGNIFICANT, np.array(self.freedom)))


def _judge_movement(
    movement: CommonMovement, lines: Sequence[Line], earlier: EarlierMovements, device: str
) -> _JudgedMovement:
    """Judge what all tests moved by together as if it were a test."""
    shown = moments(earlier.values, earlier.devices)
    degrees = shown.within_freedom
    weight = float(np.mean([line.prior[1] for line in lines]))
    if all(line.assumed for line in lines):
        weight = max(weight - degrees, 0.0)
    assumed = float(np.mean([max(line.prior[0], line.start_variance) for line in lines]))
    variance = max((weight * assumed + shown.within) / max(weight + degrees, 1e-9), RESOLUTION**2)
    labels, values = (earlier.devices, earlier.values) if len(earlier.values) else ([device], np.zeros(1))
    expected = forecast(
        labels,
        device,
        record_variance=variance,
        device_prior=DevicesShown.of([shown], independent=True).variance(variance, DEVICES),
        drifts=drift_posterior([shown], independent=True),
        drift_variances=shown.drift_variances,
    )
    records = variance * (1 + expected.record_factor) * expected.drift_factor
    disturbed = float(np.mean([line.disturbance for line in lines])) ** 2
    error = records + expected.device_variance + movement.variance + disturbed
    uncertain = records**2 / (weight + degrees) + expected.device_variance**2 / expected.device_freedom
    return _JudgedMovement(
        movement.together - float(expected.weights @ values),
        math.sqrt(error),
        error**2 / uncertain,
        len(lines),
        len(earlier.values),
    )


def _movement(device: str, judged: Sequence[tuple[str, _JudgedMovement]]) -> Movement:
    each = [movement for _, movement in judged]
    difference, error, freedom = (
        np.array([getattr(movement, name) for movement in each]) for name in ("difference", "error", "freedom")
    )
    invocations = max(movement.invocations for movement in each)
    evidence = Evidence(difference, error, freedom, np.full(len(each), float(invocations)), error**2)
    tests = max(movement.tests for movement in each)
    return Movement(tuple(metric for metric, _ in judged), device, evidence, tests, invocations)


def _difference(fit: Fit) -> float:
    present = np.isfinite(fit.rest)
    weights = np.where(present, fit.forecast.weights, 0.0)
    return fit.line.candidate - float(weights @ np.where(present, fit.rest, 0.0)) / float(weights.sum())


def _evidence(test: TestArrays, fits: Mapping[str, Fit]) -> Evidence:
    """Return the evidence of a test's series."""
    values = test.values
    each = [fits[metric] for *_, metric in test.keys]
    history = values.history - np.stack([fit.moved for fit in each])[..., None]
    forecasts = [fit.forecast for fit in each]
    if values.reference is not None:
        again = {metric: fit.forecast_from(test.reference_devices, test.device) for metric, fit in fits.items()}
        forecasts = [again[metric] for *_, metric in test.keys]

    def numbers(name: str, objects: Sequence[object]) -> FloatArray:
        return np.array([getattr(each, name) for each in objects])

    expected = Expected(
        np.stack([forecast.weights for forecast in forecasts]),
        numbers("record_factor", forecasts),
        numbers("drift_factor", forecasts),
        numbers("device_variance", forecasts),
        numbers("device_freedom", forecasts),
        numbers("common", each),
        numbers("common_variance", each),
        np.array([fit.known.is_informed for fit in each]),
        numbers("tail_freedom", each),
    )
    arrays = replace(values, history=history, devices=test.device_codes)
    evidence = stored_evidence(arrays, _priors(test, each), expected)
    return replace(evidence, difference=_limited(evidence.difference, numbers("common_change", each)))


def _limited(difference: FloatArray, common: FloatArray) -> FloatArray:
    """Return differences of which none is larger than the change that the test itself shows.

    If most tests became faster by a change of the code, those that did not are slower than the others, but have not
    regressed. (If it was the machine, a regression of less than that is not seen.)

    Args:
        common: By how much all tests changed together, where that is significant; else 0.
    """
    shown = difference + common
    return np.where(
        common < 0,
        np.minimum(difference, np.maximum(shown, 0.0)),
        np.where(common > 0, np.maximum(difference, np.minimum(shown, 0.0)), difference),
    )


def _priors(test: TestArrays, fits: Sequence[Fit]) -> SeriesPriors:
    """Return what is known about the spread of each series besides its own records."""
    prior = test.prior
    variance, weight, assumed = prior.variance.copy(), prior.weight.copy(), prior.assumed.copy()
    for row, fit in enumerate(fits):
        if fit.known.is_informed:
            spread = fit.known.spread(float(variance[row]), float(weight[row]), assumed=bool(assumed[row]))
            point = fit.point_variance if test.means[row] != row else 0.0
            variance[row], weight[row], assumed[row] = spread.variance + point, spread.freedom, 0.0
    return SeriesPriors(variance, weight, assumed)
