"""Decisions: from evidence to claims (worse, better, the same), for any number of series and of simulated records.

"Worse" is claimed where two tests agree:

* against *no change*, at the level that the whole invocation shares: if nothing changed, the probability of any claim
  in the invocation is at most alpha;
* against the *minimum effect*, at the level that the test's own comparisons share: if a test changed by no more than
  that, the probability that the test claims more is at most alpha.

In an invocation with a single test, the second alone decides. In a suite, a test against the minimum effect at the
invocation's level would ask for proof that hardly any test can give: at +5%, with 20 records and a standard deviation
of 1%, 31% of the regressions are found in a suite of 50 tests, instead of 80%.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.analysis.evidence import Evidence
from pytest_gpuperf.analysis.multiplicity import deciding_levels, families, reject
from pytest_gpuperf.analysis.robust import BoolArray, FloatArray
from pytest_gpuperf.analysis.rule import ENOUGH_TESTS, Rule
from pytest_gpuperf.analysis.values import SeriesKey
from pytest_gpuperf.model import LookShares

#: Part of a test's alpha for the sweep-wide means in a suite, where little is left for each test. Against a change of
#: every point they have the most power; a change of a single point has to be larger to be seen, by a tenth or so.
MEANS_SHARE = 0.9


@dataclass(frozen=True)
class Decision:
    """Claims about each series, all arrays of shape (..., series).

    Attributes:
        p_worse: One-sided p-value of "worse by more than the minimum effect", before the correction for multiplicity.
        worse, better: Whether the claim holds at the family's level.
        same: Whether the change is shown to lie inside the equivalence bounds.
        level: Level that a single series must reach without support of the others, shape (series,), against no change.
        test_level: The same against the minimum effect.
        deciding: Level at which each series was decided against no change.
        same_level: Level of each of the two tests that show equivalence.
    """

    p_worse: FloatArray
    worse: BoolArray
    better: BoolArray
    same: BoolArray
    level: FloatArray
    test_level: FloatArray
    deciding: FloatArray
    same_level: FloatArray


@dataclass(frozen=True)
class Spending:
    """What a look may spend: the fields of ``LookShares``, for all series alike or as arrays of shape (series,)."""

    changed: float | FloatArray = 1.0
    unchanged: float | FloatArray = 1.0

    @classmethod
    def of(cls, looks: Mapping[str, LookShares], keys: Sequence[SeriesKey]) -> Spending:
        """Return what the series may spend, each by the look of its sweep."""
        shares = [looks.get(sweep, LookShares()) for sweep, _, _ in keys]
        return cls(np.array([share.changed for share in shares]), np.array([share.unchanged for share in shares]))


def decide(
    evidence: Evidence, sweeps: int, rule: Rule, share: float = 1.0, spending: Spending | None = None
) -> Decision:
    """Decide about the series of one test against one baseline.

    The first ``sweeps`` series are sweep-wide means. ``share`` is the part of the test's alpha for this baseline. A
    p-value is divided by what the look may spend, so that series of sweeps that ended at different looks share a level.
    """
    points = evidence.difference.shape[-1] - sweeps
    in_suite = rule.tests >= ENOUGH_TESTS and not evidence.paired
    invocation = families(sweeps, points, rule.test_alpha * share, MEANS_SHARE if in_suite else 0.5)
    test = families(sweeps, points, rule.alpha * share)
    spending = spending or Spending()
    same_level = rule.alpha * np.broadcast_to(spending.unchanged, points + sweeps)
    p_worse, p_better = evidence.p_worse(rule.margin), evidence.p_better(rule.margin)
    worse_at_all, better_at_all = (
        p_value / spending.changed for p_value in (evidence.p_worse(0.0), evidence.p_better(0.0))
    )
    level, test_level = (
        np.concatenate([np.full(family.size, family.level) for family in split]) for split in (invocation, test)
    )
    return Decision(
        p_worse=p_worse,
        worse=reject(worse_at_all, invocation) & reject(p_worse / spending.changed, test),
        better=reject(better_at_all, invocation) & reject(p_better / spending.changed, test),
        same=evidence.p_different(rule.bound) <= same_level,
        level=level * spending.changed,
        test_level=test_level * spending.changed,
        same_level=same_level,
        deciding=deciding_levels(np.minimum(worse_at_all, better_at_all), invocation) * spending.changed,
    )
