"""Forecast: what the records of a baseline predict for a record on a certain device, and how sure that is.

A record's value is modelled as

    level + effect of the device + drift + effect of the record.

**Devices** of one model differ: the effect of a device is random, with a variance that is estimated from the means of
the devices (moments) and shrunk to a stated prior. The best linear unbiased prediction then weighs the records: on a
device with many records mostly those, on a device never seen the mean over all devices.

**Drift.** Records that are near in time may be alike. For each way in which they may be (``DRIFTS``), the likelihood of
the history is computed (restricted: levels of devices are not counted as information); the weights of the ways are
their posterior probabilities. With drift, the spread inside a history is smaller than the spread of a record that is
measured much later. Nobody knows how much later the candidate is, so it is taken to be far: the mean of the error's
variance over the ways decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pytest_gpuperf.analysis.robust import FloatArray

#: Ways in which records may drift: share of the variance that drifts, its correlation from record to record, and the
#: probability before anything is measured. With a tenth for drift, the false alarms of a machine that drifts by 3%
#: (correlation 0.95), 20 records after the baseline, are 3.4% instead of 8.7%, and the power against 20 records that do
#: not drift falls from 0.87 to 0.82 (``python -m benchmarks.gate_error_rates``).
DRIFTS = ((0.0, 0.0, 0.9), (0.9, 0.95, 0.1))
#: A way that is so much less probable than the most probable one is left out.
_NEGLIGIBLE = 0.01
#: Fewest degrees of freedom from which drift can be told from noise.
_ENOUGH = 8


@dataclass(frozen=True)
class DevicePrior:
    """Assumed standard deviation of the log between devices of one model, and how many devices that is worth."""

    sd: float
    weight: float


@dataclass(frozen=True)
class Forecast:
    """How the records of a baseline predict a record.

    Attributes:
        weights: Weight of each record; their sum is 1.
        record_factor: Variance of the forecast, as a multiple of the variance between records of one device.
        drift_factor: By how much drift raises the variance of the difference; 1 without drift.
        device_variance: Variance of the difference because devices differ.
        device_freedom: Degrees of freedom of ``device_variance``.
        device_sd: Standard deviation between devices of this model; 0 if it plays no role.
        known: Number of records of the candidate's device.
        devices: Number of devices in the baseline.
    """

    weights: FloatArray
    record_factor: float
    drift_factor: float = 1.0
    device_variance: float = 0.0
    device_freedom: float = math.inf
    device_sd: float = 0.0
    known: int = 0
    devices: int = 1


@dataclass(frozen=True)
class Moments:
    """What one series of values shows of the spreads.

    Attributes:
        within: Sum of squares of the values around the mean of their device.
        within_freedom: Its degrees of freedom.
        among: Sum of squares of the devices' means around their mean, each counted once.
        among_freedom: Its degrees of freedom.
        inverse_records: Mean over the devices of 1 / number of records.
        tails: By how much the fourth moment of the values exceeds that of normal values, relative to the variance.
        records: Number of values.
        drift: Log likelihood of each way to drift; zeros if it can't be told.
        drift_variances: Variance of a record in each way, relative to that without drift.
    """

    within: float
    within_freedom: float
    among: float
    among_freedom: float
    tails: float
    inverse_records: float
    records: int
    drift: FloatArray
    drift_variances: FloatArray


def moments(values: FloatArray, labels: Sequence[str]) -> Moments:
    """Return what a series shows: one value for each record, newest first; NaN where a record has none."""
    return moments_of_many([(values, labels)])[0]


def moments_of_many(series: Sequence[tuple[FloatArray, Sequence[str]]]) -> list[Moments]:
    """Return what each of many series shows; those measured on the same sequence of devices are computed at once."""
    groups: dict[tuple[int, ...], list[int]] = {}
    measured = []
    for index, (values, labels) in enumerate(series):
        present = np.isfinite(values)
        kept = (
            labels
            if present.all()
            else [label for label, is_kept in zip(labels, present.tolist(), strict=True) if is_kept]
        )
        groups.setdefault(_codes(tuple(kept)), []).append(index)
        measured.append(values[present])
    result: dict[int, Moments] = {}
    for codes, indices in groups.items():
        shown = _moments_of_alike(np.array([measured[index] for index in indices]), codes)
        result |= dict(zip(indices, shown, strict=True))
    return [result[index] for index in range(len(series))]


def _moments_of_alike(seen: FloatArray, codes: tuple[int, ...]) -> list[Moments]:
    """Return what series on the same sequence of devices show, shape (series, records)."""
    nothing = np.zeros(len(DRIFTS))
    series, count = seen.shape
    if not count:
        return [Moments(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0, nothing, nothing + 1)] * series
    counts = np.bincount(codes)
    belongs = np.eye(len(counts))[list(codes)]
    means = seen @ belongs / counts
    residuals = seen - means @ belongs.T
    within, freedom = (residuals**2).sum(axis=1), count - len(counts)
    among = ((means - means.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    tails = np.zeros(series)
    likelihoods, variances = np.zeros((series, len(DRIFTS))), np.ones((series, len(DRIFTS)))
    if freedom >= _ENOUGH:
        some = np.where(within > 0, within, 1.0)
        fits = _drift_fits(codes)
        squares = np.stack([((seen @ fit.residual_maker) * seen).sum(axis=1) for fit in fits], axis=1)
        variances = np.maximum(squares / some[:, None], 1e-9)
        determinants = np.array([fit.log_determinant for fit in fits])
        spread = (within > 0)[:, None]
        likelihoods = np.where(spread, -0.5 * determinants - 0.5 * freedom * np.log(variances), 0.0)
        variances = np.where(spread, variances, 1.0)
        tails = np.where(within > 0, count * (residuals**4).sum(axis=1) / some**2 - 3 * (count - 1) / (count + 1), 0.0)
    inverse = float((1 / counts).mean())
    return [
        Moments(
            within=float(within[row]),
            within_freedom=float(freedom),
            among=float(among[row]),
            among_freedom=float(len(counts) - 1),
            tails=float(tails[row]),
            inverse_records=inverse,
            records=count,
            drift=likelihoods[row],
            drift_variances=variances[row],
        )
        for row in range(series)
    ]


def tail_freedom(shown: Sequence[Moments]) -> float:
    """Return the degrees of freedom of Student's t that records are distributed as; infinite for normal records.

    The excess of the fourth moment (kurtosis) is averaged over the series; the relation to the degrees of freedom was
    fitted to simulated series of 10 and 20 values. Series of normal values have an excess with a standard deviation of
    0.76; only what exceeds twice the standard error counts.
    """
    known = [each for each in shown if each.within_freedom >= _ENOUGH]
    if not known:
        return math.inf
    error = 0.76 / math.sqrt(len(known))
    excess = sum(each.tails for each in known) / len(known)
    if excess < 2 * error:
        return math.inf
    records = sum(each.records for each in known) / len(known)
    return max(1.5 + 0.17 * (records - 2) / excess, 3.0)


def drift_posterior(shown: Sequence[Moments], *, independent: bool) -> FloatArray:
    """Return the probability of each way to drift.

    Args:
        independent: Whether the series have nothing in common, so that each adds its likelihood. Otherwise they count
            as one.
    """
    known = [each.drift for each in shown if each.within_freedom >= _ENOUGH]
    log = np.log([probability for _, _, probability in DRIFTS])
    if known:
        log = log + (np.sum(known, axis=0) if independent else np.mean(known, axis=0))
    weights = np.exp(log - log.max())
    weights = np.where(weights < _NEGLIGIBLE, 0.0, weights)
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class DevicesShown:
    """What several series show of how devices differ.

    Attributes:
        freedom: Degrees of freedom.
        among: Sum of squares of the means of devices.
        noise: Part of that for each unit of variance between the records of a device.
    """

    freedom: float
    among: float
    noise: float

    @classmethod
    def of(cls, shown: Sequence[Moments], *, independent: bool) -> DevicesShown:
        """Add up series.

        Args:
            independent: Whether a device has a separate effect in each series. Otherwise it counts once.
        """
        freedoms = [each.among_freedom for each in shown]
        total = sum(freedoms)
        part = 1.0 if independent or not total else max(freedoms) / total
        return cls(
            part * total,
            part * sum(each.among for each in shown),
            part * sum(each.among_freedom * each.inverse_records for each in shown),
        )

    def variance(self, record_variance: float, prior: DevicePrior) -> tuple[float, float]:
        """Return the variance between devices, and its degrees of freedom.

        Args:
            record_variance: Variance between records of one device.
        """
        excess = max(self.among - self.noise * record_variance, 0.0) if self.freedom else 0.0
        total = prior.weight + self.freedom
        return (prior.weight * prior.sd**2 + excess) / total, total


def forecast(
    labels: Sequence[str],
    device: str,
    *,
    record_variance: float,
    device_prior: tuple[float, float],
    drifts: FloatArray,
    drift_variances: FloatArray,
) -> Forecast:
    """Return the forecast for a record on a device, from records on some devices, newest first.

    Args:
        labels, device: Identities of devices; empty for an unknown one, which is taken for one device.
        record_variance: Variance between records of one device.
        device_prior: Variance between devices, and its degrees of freedom.
        drifts: Probability of each way to drift.
        drift_variances: ``Moments.drift_variances``.
    """
    codes = np.array(_codes((device, *labels)), dtype=np.int64)
    current, codes = int(codes[0]), codes[1:]
    known = int((codes == current).sum())
    devices = len(set(codes.tolist()))
    count = len(codes)
    variance, freedom = device_prior
    mixed = known < count  # some record was measured on another device
    drifting = bool(drifts[1:].any())
    weights, factors = np.full(count, 1 / count), [1 + 1 / count]
    if mixed or drifting:
        same = codes[:, None] == codes
        likeness = [(1 - share) * np.eye(count) + share * rho ** _lags(count) * same for share, rho, _ in DRIFTS]
        alike = sum((part * each for part, each in zip(drifts.tolist(), likeness, strict=True)), np.zeros(same.shape))
        ratio = variance / max(record_variance, 1e-12) if mixed else 0.0
        inverse = np.linalg.inv(alike + ratio * same)
        towards = inverse @ (ratio * (codes == current))
        ones = inverse.sum(axis=1)
        weights = towards + ones * (1 - towards.sum()) / ones.sum()
        factors = [1 + float(weights @ each @ weights) for each in likeness]
    # The variance of a difference in each way to drift, relative to that of the records without drift.
    drifted = float(drifts[: len(factors)] @ (np.array(factors) * drift_variances[: len(factors)]))
    record_factor = float(weights @ weights)
    device_factor = 0.0
    if mixed:
        of_devices = np.bincount(codes, weights=weights, minlength=current + 1)
        device_factor = float((1 - of_devices[current]) ** 2 + (np.delete(of_devices, current) ** 2).sum())
    return Forecast(
        weights,
        record_factor,
        max(drifted / (1 + record_factor), 1.0),
        device_factor * variance,
        freedom if mixed else math.inf,
        math.sqrt(variance) if mixed else 0.0,
        known,
        devices,
    )


@dataclass(frozen=True)
class _DriftFit:
    """Matrices of one way to drift, with a level for each device taken out."""

    residual_maker: FloatArray
    log_determinant: float


@lru_cache(maxsize=256)
def _drift_fits(codes: tuple[int, ...]) -> tuple[_DriftFit, ...]:
    labels = np.array(codes)
    count = len(codes)
    levels = np.eye(labels.max() + 1)[labels]
    same = labels[:, None] == labels
    fits = []
    for share, rho, _ in DRIFTS:
        alike = (1 - share) * np.eye(count) + share * rho ** _lags(count) * same
        inverse = np.linalg.inv(alike)
        information = levels.T @ inverse @ levels
        made = inverse @ levels
        maker = inverse - made @ np.linalg.inv(information) @ made.T
        determinant = np.linalg.slogdet(alike)[1] + np.linalg.slogdet(information)[1]
        fits.append(_DriftFit(maker, float(determinant)))
    base = fits[0].log_determinant
    return tuple(_DriftFit(fit.residual_maker, fit.log_determinant - base) for fit in fits)


@lru_cache(maxsize=64)
def _lags(count: int) -> npt.NDArray[np.int64]:
    return np.abs(np.subtract.outer(np.arange(count), np.arange(count)))


@lru_cache(maxsize=1024)
def _codes(labels: tuple[str, ...]) -> tuple[int, ...]:
    """Return a number for each label, in the order of their first occurrence."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return tuple(numbers[label] for label in labels)
