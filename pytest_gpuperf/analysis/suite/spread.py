"""Spreads borrowed across tests: how much any test's records differ, learned from all tests of a device model.

The variances of the tests are taken for draws of a scaled inverse chi-squared distribution: Smyth, "Linear models and
empirical Bayes methods for assessing differential expression in microarray experiments" (2004). Its centre ``s0^2`` and
its degrees of freedom ``d0`` are estimated from the logs of the variances, whose largest are winsorised as in Phipson
et al., "Robust hyperparameter estimation protects against hypervariable genes" (2016). A test's variance is then
shrunk to the centre with weight ``d0``: much, if all tests are alike, and little if they are not. A test whose own
records spread more than those of the others by more than chance borrows less, down to nothing.

Two tests may differ because one of them is noisier from start to start. What the starts show is known for each test
with many degrees of freedom, so that only the ratio of both variances is borrowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from pytest_gpuperf.analysis.robust import FloatArray

#: Expected variance of the logs of the tests' true variances, and its standard deviation: two tests of a suite differ
#: by a factor of 1.5 in their variance, or of 2.5 at most. Few tests hardly show it.
_HETEROGENEITY, _UNSURE = 0.2, 0.2
#: Most degrees of freedom that the other tests are worth: machines and days differ.
MOST_BORROWED = 200.0
#: A test that spreads more than the others with a p-value below this borrows less from them.
_UNLIKE = 0.02
#: Tests from which the largest tenth of the variances is winsorised.
_ROBUST_FROM = 10


@dataclass(frozen=True)
class BorrowedSpread:
    """What tests show about the variance of any test of theirs: its centre, and the degrees of freedom it is worth."""

    variance: float
    freedom: float

    def for_test(self, variance: float, freedom: float, scale: float) -> BorrowedSpread:
        """Return what a test may borrow: less, the less its own records agree that it is like the others.

        Args:
            variance, freedom: Variance of the test's own records, and its degrees of freedom.
            scale: Factor from the tests' common unit of variance to that of this test.
        """
        alike = 1.0
        if freedom > 0:
            p_value = special.fdtrc(freedom, self.freedom, variance / self.variance)
            alike = min(float(p_value) / _UNLIKE, 1.0)
        return BorrowedSpread(self.variance * scale, self.freedom * alike)


def borrowed_spread(variances: FloatArray, freedoms: FloatArray) -> BorrowedSpread | None:
    """Return the spread that tests show; None if they show nothing.

    Args:
        variances, freedoms: Variance of each test and its degrees of freedom.
    """
    shown = freedoms > 0.5
    variances, freedoms = np.maximum(variances[shown], 1e-12), freedoms[shown]
    if not len(variances):
        return None
    logs = np.log(variances) - special.digamma(freedoms / 2) + np.log(freedoms / 2)
    if len(logs) >= _ROBUST_FROM:
        top = np.quantile(logs, 0.9)
        variances = np.where(logs > top, variances * np.exp(top - logs), variances)
        logs = np.minimum(logs, top)
    by_chance = special.polygamma(1, freedoms / 2)
    spread, precision = 0.0, 0.0
    if len(logs) > 1:
        spread = max(float(logs.var(ddof=1) - by_chance.mean()), 0.0)
        precision = (len(logs) - 1) / (3 * float((by_chance.mean() + _HETEROGENEITY) ** 2))
    expected = 1 / _UNSURE**2
    heterogeneity = (precision * spread + expected * _HETEROGENEITY) / (precision + expected)
    freedom = min(2 * _inverse_trigamma(heterogeneity), MOST_BORROWED)
    centre = float(np.exp(logs.mean() + special.digamma(freedom / 2) - np.log(freedom / 2)))
    if freedoms.mean() < 4:  # the logs of variances with few degrees of freedom scatter too much
        centre = float((freedoms @ variances) / freedoms.sum())
    return BorrowedSpread(centre, freedom)


def shrunk(variances: FloatArray, freedoms: FloatArray, borrowed: BorrowedSpread) -> FloatArray:
    """Return variances shrunk to what all tests show."""
    return np.asarray((borrowed.freedom * borrowed.variance + freedoms * variances) / (borrowed.freedom + freedoms))


def _inverse_trigamma(value: float) -> float:
    """Return ``x`` with ``trigamma(x) == value`` by Newton's method on ``1 / trigamma``, as Smyth (2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(20):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x
