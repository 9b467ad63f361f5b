"""Priors: the spread that is assumed before the data show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pytest_gpuperf.analysis.robust import FloatArray, locate
from pytest_gpuperf.analysis.values import SeriesKey

#: Most degrees of freedom that earlier measurements count for: machines and days differ.
HISTORY_WEIGHT = 10.0
#: Assumed standard deviations of metrics that spread unlike latencies. Requests of an unchanged target usually never
#: fail: half a percentage point is room for a hiccup. A cold start depends on what the machine did before.
ASSUMED_SD = {"failed": 0.005, "cold_startup": 0.2, "startup": 0.1, "model_load": 0.1, "engine_build": 0.1}


@dataclass(frozen=True)
class Prior:
    """An assumed or measured spread.

    Attributes:
        record_sd: Standard deviation s0 of the log of a record's value (in a duet, of a block's difference).
        weight: Number d0 of records (blocks) that the prior is worth.
        measured: Whether A/A records of the key measured it. A measured prior keeps its weight; an assumed one loses
            one for each degree of freedom of the history. On a machine five times as steady as assumed, it would
            otherwise dominate the sum of squares for hundreds of records.
    """

    record_sd: float
    weight: float
    measured: bool = False

    def of(self, sweep: str, point: str, metric: str) -> Prior:  # noqa: ARG002
        """Return the prior of a series: this one, unless it is only assumed and the metric has an assumption."""
        return self if self.measured else replace(self, record_sd=ASSUMED_SD.get(metric, self.record_sd))


@dataclass(frozen=True)
class Priors:
    """A prior for each series that was calibrated, and a default for the others.

    Attributes:
        known: Priors by sweep, name of the load point (empty for the mean over the sweep) and metric.
        metrics: Priors by metric, for other series.
    """

    default: Prior
    known: Mapping[tuple[str, str, str], Prior] = field(default_factory=dict)
    metrics: Mapping[str, Prior] = field(default_factory=dict)

    def of(self, sweep: str, point: str, metric: str) -> Prior:
        """Return the prior of a series."""
        return self.known.get((sweep, point, metric), self.metrics.get(metric, self.default))


#: Prior of the records of unknown hardware. Undisturbed records of the example suite on a CPU differed by 1 to 2%; 5%
#: leaves room for less steady machines, and still a single baseline record shows a 50% regression.
RECORD_PRIOR = Prior(record_sd=0.05, weight=8)
#: Priors of records, by ``Record.device_kind``. The GPU's is an assumption until a machine is calibrated.
PRIORS = {"gpu": Prior(record_sd=0.02, weight=8), "cpu": RECORD_PRIOR, "unknown": RECORD_PRIOR}
#: Prior of the blocks of a duet: with 0.3 s windows on a noisy shared machine, their differences spread by 1.4 to 1.9%.
#: With this weight, 2.5% keeps the level up to a spread of 4%, also with a minimum effect of 0 (docs/deciding.md).
BLOCK_PRIOR = Prior(record_sd=0.025, weight=6)


def calibrated_priors(default: Prior, record_sd: Mapping[str, float], freedom: Mapping[str, float]) -> Prior | Priors:
    """Return the priors of a device on which A/A records were measured.

    Args:
        default: Prior of the metrics that were not measured there.
        record_sd, freedom: Standard deviation by metric, and its degrees of freedom, of which at most
            ``HISTORY_WEIGHT`` count.
    """
    measured = {
        metric: Prior(sd, min(freedom[metric], HISTORY_WEIGHT), measured=True)
        for metric, sd in record_sd.items()
        # Records without a failed request show nothing about those with one.
        if freedom.get(metric, 0.0) > 0 and sd > 0
    }
    return Priors(default, metrics=measured) if measured else default


@dataclass(frozen=True)
class SeriesPriors:
    """Priors as arrays, with one element per series.

    Attributes:
        variance, weight: Square of s0, and d0.
        assumed: Part of the weight that is not measured, 0 to 1; it yields to the history's degrees of freedom.
    """

    variance: FloatArray
    weight: FloatArray
    assumed: FloatArray

    @classmethod
    def of(cls, priors: Sequence[Prior]) -> SeriesPriors:
        return cls(
            np.array([prior.record_sd**2 for prior in priors]),
            np.array([prior.weight for prior in priors], dtype=float),
            np.array([not prior.measured for prior in priors], dtype=float),
        )


def series_priors(prior: Prior | Priors, keys: Sequence[SeriesKey]) -> SeriesPriors:
    """Return the prior of each series."""
    return SeriesPriors.of([prior.of(sweep, point.label if point else "", metric) for sweep, point, metric in keys])


def with_history(prior: SeriesPriors, history: FloatArray, averaging_matrix: FloatArray) -> SeriesPriors:
    """Return the prior of a duet's blocks, updated by earlier duets of the same key.

    It is pooled over the history and never over the points of one duet: those share its starts, and would be counted as
    many times as there are points. As in ``evidence``, the mean over a sweep's points is a floor under each point's
    variance: duets that ended early have few blocks, which estimate a point's variance badly.

    Args:
        history: Differences of blocks, shape (..., series, records, blocks), padded with NaN.
        averaging_matrix: See ``evidence.averaging_matrix``.
    """
    estimate = locate(history)
    freedom = estimate.freedom.sum(axis=-1)
    squares = (estimate.freedom * estimate.variance).sum(axis=-1)
    mean = squares / np.maximum(freedom, 1)
    squares = freedom * np.maximum(mean, mean @ averaging_matrix.T)
    weight = np.maximum(prior.weight - prior.assumed * freedom, 0.0)
    total = weight + freedom
    variance = (weight * prior.variance + squares) / np.maximum(total, 1e-9)
    known = np.minimum(total, np.maximum(HISTORY_WEIGHT, prior.weight))
    return SeriesPriors(
        np.where(total > 0, variance, prior.variance), known, prior.assumed * weight / np.maximum(total, 1e-9)
    )
