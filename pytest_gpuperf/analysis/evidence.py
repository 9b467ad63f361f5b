"""The arithmetic of both tests, on plain arrays: any number of series at once, and of simulated records.

**Stored baseline.** The unit of replication is the record. A record's value is the trimmed mean over its runs, and
with ``m`` baseline records

    T = (d - log(1 + min_effect)) / sqrt(v_c + s^2 / m)

where ``d`` is the candidate minus the mean of the baseline, turned so that positive is worse. With several devices or
drift, the mean is a weighted one, and ``1 / m`` the sum of the squared weights (``suite.forecast``). The standard
deviation ``s`` of one record's value is the hard part: a young baseline hardly knows it. It is shrunk to a prior as in
Smyth, "Linear models and empirical Bayes methods for assessing differential expression" (2004):

    s^2 = (d0 * s0^2 + (m - 1) * s_between^2) / (d0 + m - 1),   T ~ t with d0 + m - 1 degrees of freedom

and never taken to be below what the records' own runs show (``s_run^2 / k``). While nothing better is known, records
are assumed to differ by at least as much as the fresh starts inside one of them: the prior's own ``s0`` is raised to
``s_run``. So on a quiet machine a 50% regression fails against a single record, and on a noisy one noise does not.

Records differ in noise, though: a baseline measured on an idle machine says little about a record measured beside
a compiler. So the candidate has a variance of its own, ``v_c``: ``s^2``, adjusted for its number of runs, or what its
own runs show where that is more; and both sides grow by what others took of the CPU (see ``values``).

**Duet.** The unit is the block, and a block's value a difference already: a moderated one-sample t over ``n`` blocks,

    T = (d - log(1 + min_effect)) / (s / sqrt(n)),   s^2 = (d0 * s0^2 + f * s_blocks^2) / (d0 + f)

with ``s0`` and ``d0`` from earlier duets of the same key (``priors``).

Points of one sweep went through the same starts. Their mean variance is therefore a floor under each point's, which few
runs estimate badly; it brings no degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from pytest_gpuperf.analysis.priors import SeriesPriors
from pytest_gpuperf.analysis.robust import BoolArray, FloatArray, IntArray, LocationEstimate, locate

#: A candidate's runs may differ so many times as much (in variance) as the baseline's before its record as a whole is
#: taken to be noisier too: with three runs that all points share, chance alone exceeds it in one record of 20.
USUAL_EXCESS = 3.0
#: No value is known better: it is read from buckets of half a percent, and an interval of no width would decide on
#: rounding. Standard deviation of a log.
RESOLUTION = 0.001


@dataclass(frozen=True)
class Evidence:
    """Estimates, all arrays of shape (..., series).

    Attributes:
        difference: Log ratio; positive is worse.
        error: Standard error of ``difference``.
        freedom: Degrees of freedom of ``error``.
        replicates: Number of records in the baseline, or of blocks.
        further_variance: Variance that a further replicate is expected to show.
        paired: Whether a replicate is a difference already; else the candidate is one replicate against all others.
    """

    difference: FloatArray
    error: FloatArray
    freedom: FloatArray
    replicates: FloatArray
    further_variance: FloatArray
    paired: bool = False

    def p_worse(self, margin: float) -> FloatArray:
        """Return the one-sided p-value of "worse by more than the margin"."""
        return t_tail((self.difference - margin) / self.error, self.freedom)

    def p_better(self, margin: float) -> FloatArray:
        """Return the one-sided p-value of "better by more than the margin"."""
        return t_tail((-self.difference - margin) / self.error, self.freedom)

    def p_different(self, bound: float) -> FloatArray:
        """Return the p-value of two one-sided tests (Schuirmann 1987): small if the change lies inside the bound."""
        return t_tail((bound - np.abs(self.difference)) / self.error, self.freedom)


@dataclass(frozen=True)
class StoredArrays:
    """Both sides of a comparison with a stored baseline.

    Attributes:
        candidate: Shape (..., series, runs), padded with NaN.
        history: Records that show how records differ, shape (..., series, records, runs), padded with NaN.
        reference: Records that the candidate is compared with, where they aren't the history.
        devices: Number of each record's device, shape (records,); None if all have the same.
        candidate_disturbance, reference_disturbance: Standard deviations for what others took of the CPU, shapes
            (..., series) and (..., series, records).
        averaging_matrix: Shape (series, series): averages over a sweep's points, metric by metric.
    """

    candidate: FloatArray
    history: FloatArray
    averaging_matrix: FloatArray
    reference: FloatArray | None = None
    devices: IntArray | None = None
    candidate_disturbance: FloatArray | None = None
    reference_disturbance: FloatArray | None = None


@dataclass(frozen=True)
class Expected:
    """How the reference's records predict the candidate; arrays of shape (series,) unless stated otherwise.

    Attributes:
        weights: Weight of each record, shape (series, records).
        record_factor: Variance of the prediction, as a multiple of a record's variance.
        drift_factor: By how much drift raises the variance of the difference.
        device_variance, device_freedom: Variance of the difference because devices differ, and its degrees of freedom.
        common: What all tests of the invocation changed by together: it is taken off the candidate.
        common_variance: Variance of that estimate.
        informed: Whether the prior comes from records, of which nothing has to be assumed.
        tail_freedom: Degrees of freedom of Student's t that records are distributed as; infinite for normal records.
    """

    weights: FloatArray
    record_factor: FloatArray
    drift_factor: FloatArray
    device_variance: FloatArray
    device_freedom: FloatArray
    common: FloatArray
    common_variance: FloatArray
    informed: BoolArray
    tail_freedom: FloatArray


def stored_evidence(arrays: StoredArrays, prior: SeriesPriors, expected: Expected | None = None) -> Evidence:
    """Return the evidence of a record against records; NaN for a series without a counterpart.

    Args:
        expected: None to compare with the plain mean of the reference.
    """
    candidate, history = locate(arrays.candidate), locate(arrays.history)
    reference = history if arrays.reference is None else locate(arrays.reference)
    run_variance, candidate_run, history_run = _run_variances(candidate, history, arrays.averaging_matrix)
    present = history.count > 0
    records = present.sum(axis=-1)
    between, degrees = within_devices(history.centre, present, arrays.devices)
    per_run = np.where(present, 1 / np.maximum(history.count, 1), 0.0).sum(axis=-1) / np.maximum(records, 1)

    weight = np.maximum(prior.weight - prior.assumed * degrees, 0.0)
    freedom = np.maximum(weight + degrees, 1e-9)
    informed = False if expected is None else expected.informed
    assumed = np.maximum(prior.variance, run_variance * np.where(informed, per_run, 1.0))
    shrunk = (weight * assumed + degrees * between) / freedom
    shrunk = np.maximum.reduce([shrunk, run_variance * per_run, np.full_like(shrunk, RESOLUTION**2)])
    runs = np.maximum(candidate.count, 1)
    candidate_variance = np.maximum.reduce(
        [
            shrunk + run_variance * (1 / runs - per_run),
            np.maximum(run_variance / runs, RESOLUTION**2),
            np.where(candidate_run > USUAL_EXCESS * history_run, candidate_run / runs, 0.0),
            candidate_run - USUAL_EXCESS * history_run,
        ]
    )
    reference_present = reference.count > 0
    references = reference_present.sum(axis=-1)
    weights = reference_present.astype(float)
    record_factor = 1 / np.maximum(references, 1)
    if expected is not None:
        # The largest weight is 1, so that equal weights give exactly the mean.
        kept = np.where(reference_present, expected.weights / expected.weights.max(axis=-1, keepdims=True), 0.0)
        weights = np.where(kept.sum(axis=-1, keepdims=True) > 1e-6, kept, weights)
    total = np.where(references, weights.sum(axis=-1), np.nan)
    baseline = np.where(reference_present, weights * reference.centre, 0.0).sum(axis=-1) / total
    weights = weights / total[..., None]
    if expected is not None:
        record_factor = np.maximum(expected.record_factor, np.nan_to_num((weights**2).sum(axis=-1)))
    estimated = candidate_variance + shrunk * record_factor
    from_history = shrunk * (1 + record_factor)
    # Satterthwaite's approximation (1946): what is taken off for the candidate's further runs makes the rest less
    # certain (but where much is taken off, the runs' own spread is a floor under it), and an assumed variance has no
    # uncertainty to add.
    kept_share = np.clip((estimated / from_history) ** 2, 0.5, 1.0)
    added = _disturbed(arrays, weights)
    difference = candidate.centre - baseline
    uncertain = estimated**2 / (freedom * kept_share)
    if expected is not None:
        difference = difference - expected.common
        added = added + expected.device_variance + expected.common_variance
        estimated = estimated * expected.drift_factor
        uncertain = uncertain * expected.drift_factor**2 + expected.device_variance**2 / expected.device_freedom
    variance, freedom = estimated + added, (estimated + added) ** 2 / uncertain
    if expected is not None:
        # A t distribution of this variance: wider by far at the levels of a large suite, and narrower in the middle.
        tails = expected.tail_freedom
        heavy = tails < freedom
        variance = np.where(heavy, variance * (1 - 2 / np.maximum(tails, 2.5)), variance)
        freedom = np.minimum(freedom, tails)
    return Evidence(
        difference=difference,
        error=np.sqrt(variance),
        freedom=freedom,
        replicates=records.astype(float),
        further_variance=np.maximum(between, run_variance * per_run),
    )


def duet_evidence(differences: FloatArray, averaging_matrix: FloatArray, prior: SeriesPriors) -> Evidence:
    """Return the evidence of a duet, from differences of shape (..., series, blocks), padded with NaN."""
    blocks = locate(differences)
    observed = np.maximum(blocks.variance, group_means(blocks.variance, averaging_matrix))
    # As between records: what is only assumed is raised to what the blocks show.
    assumed = prior.variance + prior.assumed * np.maximum(observed - prior.variance, 0.0)
    freedom = np.maximum(prior.weight + blocks.freedom, 1e-9)
    variance = np.maximum((prior.weight * assumed + blocks.freedom * observed) / freedom, RESOLUTION**2)
    return Evidence(
        difference=blocks.centre,
        error=np.sqrt(variance / np.maximum(blocks.count, 1)),
        freedom=freedom,
        replicates=blocks.count,
        further_variance=observed,
        paired=True,
    )


def averaging_matrix(groups: list[object]) -> FloatArray:
    """Return the matrix that replaces each series' number by the mean over its group."""
    names = list(dict.fromkeys(groups))
    member = np.array([[group == name for name in names] for group in groups], dtype=float)
    return np.asarray(member @ (member / member.sum(axis=0)).T)


def group_means(numbers: FloatArray, averaging_matrix: FloatArray) -> FloatArray:
    """Apply ``averaging_matrix``."""
    return np.asarray(numbers @ averaging_matrix.T)


def t_tail(statistic: FloatArray, freedom: FloatArray) -> FloatArray:
    """Return P(Student's t > statistic); 1 where there is no number, which then never gates."""
    p_value = special.stdtr(freedom, -np.asarray(statistic))
    return np.asarray(np.where(np.isfinite(p_value), p_value, 1.0))


def t_quantile(level: float | FloatArray, freedom: FloatArray) -> FloatArray:
    """Return the point that Student's t exceeds with probability ``level``."""
    return np.asarray(-special.stdtrit(freedom, level))


def _run_variances(
    candidate: LocationEstimate, history: LocationEstimate, averaging_matrix: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the variances between fresh starts in a record: pooled over both sides, candidate, history."""
    squares = (history.freedom * history.variance).sum(axis=-1)
    freedom = history.freedom.sum(axis=-1)
    history_run = squares / np.maximum(freedom, 1)
    pooled = (squares + candidate.freedom * candidate.variance) / np.maximum(freedom + candidate.freedom, 1)
    variances = (pooled, candidate.variance, history_run)
    raised = [np.maximum(variance, group_means(variance, averaging_matrix)) for variance in variances]
    return raised[0], raised[1], raised[2]


def within_devices(
    centres: FloatArray, present: BoolArray, devices: IntArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the variance between records of one device, and its degrees of freedom, along the last axis."""
    squares, degrees = np.zeros(centres.shape[:-1]), np.zeros(centres.shape[:-1])
    labels = np.zeros(centres.shape[-1], dtype=int) if devices is None else devices
    for label in dict.fromkeys(labels.tolist()):
        chosen = present & (labels == label)
        count = chosen.sum(axis=-1)
        mean = np.where(chosen, centres, 0.0).sum(axis=-1) / np.maximum(count, 1)
        squares += (np.where(chosen, centres - mean[..., None], 0.0) ** 2).sum(axis=-1)
        degrees += np.maximum(count - 1, 0)
    return squares / np.maximum(degrees, 1), degrees


def _disturbed(arrays: StoredArrays, weights: FloatArray) -> FloatArray | float:
    if arrays.candidate_disturbance is None or arrays.reference_disturbance is None:
        return 0.0
    reference = (np.nan_to_num(weights) ** 2 * arrays.reference_disturbance**2).sum(axis=-1)
    return np.asarray(arrays.candidate_disturbance**2 + reference)
