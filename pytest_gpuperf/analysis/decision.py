"""Decisions: from evidence to claims (worse, better, the same), for any number of series and of simulated records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.analysis.evidence import Evidence
from pytest_gpuperf.analysis.multiplicity import families, reject
from pytest_gpuperf.analysis.robust import BoolArray, FloatArray
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import SeriesKey
from pytest_gpuperf.model import LookShares


@dataclass(frozen=True)
class Decision:
    """Claims about each series, all arrays of shape (..., series).

    Attributes:
        p_worse: One-sided p-value of "worse by more than the minimum effect", before the correction for multiplicity.
        worse, better: Whether the claim holds at the family's level.
        same: Whether the change is shown to lie inside the equivalence bounds.
        level: Level that a single series must reach without support of the others, shape (series,).
    """

    p_worse: FloatArray
    worse: BoolArray
    better: BoolArray
    same: BoolArray
    level: FloatArray


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
    split = families(sweeps, evidence.difference.shape[-1] - sweeps, rule.test_alpha * share)
    spending = spending or Spending()
    p_worse = evidence.p_worse(rule.margin)
    alone = np.concatenate([np.full(family.size, family.level) for family in split])
    return Decision(
        p_worse=p_worse,
        worse=reject(p_worse / spending.changed, split),
        better=reject(evidence.p_better(rule.margin) / spending.changed, split),
        same=evidence.p_different(rule.bound) <= rule.alpha * spending.unchanged,
        level=alone * spending.changed,
    )
