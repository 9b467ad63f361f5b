"""Decisions: from evidence to claims (worse, better, the same), for any number of series and of simulated records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.analysis.evidence import Evidence
from pytest_gpuperf.analysis.multiplicity import families, reject
from pytest_gpuperf.analysis.robust import BoolArray, FloatArray
from pytest_gpuperf.analysis.rule import Rule


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


def decide(evidence: Evidence, sweeps: int, rule: Rule, share: float = 1.0) -> Decision:
    """Decide about the series of one test against one baseline.

    The first ``sweeps`` series are sweep-wide means. ``share`` is the part of the test's alpha for this baseline.
    """
    split = families(sweeps, evidence.difference.shape[-1] - sweeps, rule.test_alpha * share)
    p_worse = evidence.p_worse(rule.margin)
    return Decision(
        p_worse=p_worse,
        worse=reject(p_worse, split),
        better=reject(evidence.p_better(rule.margin), split),
        same=evidence.p_different(rule.bound) <= rule.alpha,
        level=np.concatenate([np.full(family.size, family.level) for family in split]),
    )
