"""One level for many questions: how alpha is split, and what is rejected at each share.

An invocation's alpha goes in equal parts to its gated tests, so that each passes or fails independently. A test's part
is split again between the baselines it is compared with (rolling and pinned). Of the rest, half goes to the sweep-wide
means of the metrics (which find what affects everything) and half to the single points (which find what affects one).

* Among points, Holm's step-down (1979), which holds however the points depend on each other.
* Among the few sweep-wide means, Hochberg's step-up (1988), which rejects all that Holm does. It needs p-values that
  don't depend on each other negatively, and a sweep's metrics don't: a slow record is slow in all of them. It counts
  where they move together: four metrics that tell the same story are then not charged four times for it, which takes
  the power at +5% against 20 records from 0.69 to 0.87.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pytest_gpuperf.analysis.robust import BoolArray, FloatArray


@dataclass(frozen=True)
class Family:
    """Series that share a level.

    Attributes:
        members: Their slice of the last axis.
        alpha: The family's level.
        positive: Whether their p-values don't depend on each other negatively.
    """

    members: slice
    alpha: float
    positive: bool = False

    @property
    def size(self) -> int:
        return int(self.members.stop - self.members.start)

    @property
    def level(self) -> float:
        """Level of a single member that finds no support in the others."""
        return self.alpha / max(self.size, 1)


def families(sweeps: int, points: int, alpha: float, means_share: float = 0.5) -> list[Family]:
    """Return the families of one test against one baseline.

    Args:
        sweeps: Number of sweep-wide means; they come first.
        points: Number of series of single points. With a single load point there is no mean: it is the whole sweep, and
            gets all of alpha.
        means_share: Part of alpha for the sweep-wide means.
    """
    if not sweeps:
        return [Family(slice(0, points), alpha, positive=True)] if points else []
    for_means = means_share * alpha
    return [
        Family(slice(0, sweeps), for_means, positive=True),
        Family(slice(sweeps, sweeps + points), alpha - for_means),
    ]


def reject(p_values: FloatArray, split: list[Family]) -> BoolArray:
    """Return which hypotheses are rejected, family by family, in the shape of the p-values."""
    result = np.zeros(p_values.shape, dtype=bool)
    for family in split:
        step = hochberg if family.positive else holm
        result[..., family.members] = step(p_values[..., family.members], family.alpha)
    return result


def deciding_levels(p_values: FloatArray, split: list[Family]) -> FloatArray:
    """Return the level that decides about each hypothesis: it is rejected if and only if its p-value is at most that.

    That is the level of the last rank that was rejected, and for what was not rejected, that of the rank after it.
    """
    result = np.zeros(p_values.shape)
    for family in split:
        chosen = p_values[..., family.members]
        step = hochberg if family.positive else holm
        rejected = step(chosen, family.alpha)
        count = chosen.shape[-1]
        rank = rejected.sum(axis=-1, keepdims=True)
        level = np.where(
            rejected, family.alpha / np.maximum(count - rank + 1, 1), family.alpha / np.maximum(count - rank, 1)
        )
        result[..., family.members] = level
    return result


def holm(p_values: FloatArray, alpha: float) -> BoolArray:
    """Apply Holm's step-down procedure along the last axis."""
    order, small = _steps(p_values, alpha)
    return _unordered(np.logical_and.accumulate(small, axis=-1), order)


def hochberg(p_values: FloatArray, alpha: float) -> BoolArray:
    """Apply Hochberg's step-up procedure along the last axis."""
    order, small = _steps(p_values, alpha)
    return _unordered(np.logical_or.accumulate(small[..., ::-1], axis=-1)[..., ::-1], order)


def _steps(p_values: FloatArray, alpha: float) -> tuple[npt.NDArray[np.intp], BoolArray]:
    order = np.argsort(p_values, axis=-1, kind="stable")
    count = p_values.shape[-1]
    return order, np.take_along_axis(p_values, order, axis=-1) <= alpha / np.arange(count, 0, -1)


def _unordered(ordered: BoolArray, order: npt.NDArray[np.intp]) -> BoolArray:
    result = np.zeros_like(ordered)
    np.put_along_axis(result, order, ordered, axis=-1)
    return result
