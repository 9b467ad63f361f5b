"""What is taken to be known of a spread before the data show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pytest_gpuperf.analysis.robust import FloatArray, locate

#: Beyond these degrees of freedom the spread of earlier duets says no more about this one: machines and days differ.
HISTORY_WEIGHT = 10.0


@dataclass(frozen=True)
class Prior:
    """An assumed or measured spread.

    Attributes:
        record_sd: standard deviation of the log of a record's value, s0 (of a duet: of a block's difference).
        weight: how many records (blocks) this is worth, d0.
        measured: by A/A records of this key. A measured prior stays; an assumed one steps back by one for each degree
            of freedom of the history: on a machine five times as quiet as it says, it would otherwise go on
            dominating the sum of squares for hundreds of records.
    """

    record_sd: float
    weight: float
    measured: bool = False

    def of(self, sweep: str, point: str, metric: str) -> Prior:  # noqa: ARG002
        """The prior of a series: this one, whatever the series."""
        return self


@dataclass(frozen=True)
class Priors:
    """A prior for each series that was calibrated, and one for the others.

    Attributes:
        known: by sweep, name of the load point (empty: the whole sweep) and metric.
        metrics: by metric, for the series that are not known.
    """

    default: Prior
    known: Mapping[tuple[str, str, str], Prior] = field(default_factory=dict)
    metrics: Mapping[str, Prior] = field(default_factory=dict)

    def of(self, sweep: str, point: str, metric: str) -> Prior:
        """The prior of a series."""
        return self.known.get((sweep, point, metric), self.metrics.get(metric, self.default))


#: Of the records of unknown hardware. Undisturbed records of the example on a CPU were seen to differ by 1 to 2%; 5%
#: leaves room for machines that are less calm, and one baseline record still shows a 50% regression.
RECORD_PRIOR = Prior(record_sd=0.05, weight=8)
#: Of records on the kinds of hardware that are known. The GPU's is an assumption until somebody calibrates.
PRIORS = {"gpu": Prior(record_sd=0.02, weight=8), "cpu": RECORD_PRIOR, "unknown": RECORD_PRIOR}
#: Of the blocks of a duet: with 0.3 s windows on a noisy shared machine their differences spread by 1.4 to 1.9%. With
#: this weight, 2.5% keeps the level up to a spread of 4%, also with a minimum effect of 0 (docs/deciding.md).
BLOCK_PRIOR = Prior(record_sd=0.025, weight=6)


def calibrated(default: Prior, record_sd: Mapping[str, float], freedom: Mapping[str, float]) -> Prior | Priors:
    """The priors of a device on which A/A records were measured.

    Args:
        default: of the metrics that were not measured there.
        record_sd, freedom: by metric, and with how many degrees of freedom it is known. Of these ``HISTORY_WEIGHT``
            count at most: tests and days differ.
    """
    measured = {
        metric: Prior(sd, min(freedom[metric], HISTORY_WEIGHT), measured=True)
        for metric, sd in record_sd.items()
        if freedom.get(metric, 0.0) > 0
    }
    return Priors(default, metrics=measured) if measured else default


@dataclass(frozen=True)
class Assumed:
    """Priors as arrays, one element for each series.

    Attributes:
        variance: s0 squared.
        weight: d0.
        assumed: the part of it that is not measured, 0 to 1: it steps back for the history's degrees of freedom.
    """

    variance: FloatArray
    weight: FloatArray
    assumed: FloatArray

    @classmethod
    def of(cls, priors: Sequence[Prior]) -> Assumed:
        return cls(
            np.array([prior.record_sd**2 for prior in priors]),
            np.array([prior.weight for prior in priors], dtype=float),
            np.array([not prior.measured for prior in priors], dtype=float),
        )


def with_history(prior: Assumed, history: FloatArray) -> Assumed:
    """The prior of a duet's blocks, once earlier duets of the same key are known.

    PooledSpread over history and never over the points of one job: those share its starts, and would be counted as many
    times as there are points.

    Args:
        history: block differences, shape (..., series, records, blocks), padded with NaN.
    """
    seen = locate(history)
    freedom = seen.freedom.sum(axis=-1)
    squares = (seen.freedom * seen.variance).sum(axis=-1)
    weight = np.maximum(prior.weight - prior.assumed * freedom, 0.0)
    whole = weight + freedom
    variance = (weight * prior.variance + squares) / np.maximum(whole, 1e-9)
    known = np.minimum(whole, np.maximum(HISTORY_WEIGHT, prior.weight))
    return Assumed(
        np.where(whole > 0, variance, prior.variance), known, prior.assumed * weight / np.maximum(whole, 1e-9)
    )
