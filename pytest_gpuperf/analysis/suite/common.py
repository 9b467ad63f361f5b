"""Common mode: what all tests of an invocation moved by together, and what each test did besides.

A value is modelled as ``level of the test + movement of the invocation + rest``. The movement is a trimmed mean over
the tests, so that a few tests that changed, up to a fifth, do not move it; the levels and the movements are estimated
in turns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from pytest_gpuperf.analysis.robust import BoolArray, FloatArray, locate

#: Fewest tests of an earlier invocation whose movement is estimated; it is taken to be 0 otherwise.
_FEWEST_EARLIER = 3
_TURNS = 4
#: Huber's constant: 95% efficiency for normal values (Huber 1964).
_HUBER = 1.345
#: Share of the largest squares that is left out of the spread among the tests, and how many are at least: in a suite of
#: five tests, two that regress would hide each other.
_LEFT_OUT, _LEAST_LEFT_OUT = 0.2, 2
#: Degrees of freedom that each test adds to that spread.
_WORTH = 0.5


def is_estimated(values: FloatArray) -> BoolArray:
    """Return which earlier invocations have enough tests to show a common movement."""
    return np.asarray(np.isfinite(values).sum(axis=0) >= _FEWEST_EARLIER)


def movements(values: FloatArray) -> FloatArray:
    """Return the movement of each earlier invocation, shape (invocations,).

    Args:
        values: Values of the tests, shape (tests, invocations); NaN where an invocation lacks a test.
    """
    present = np.isfinite(values)
    estimated = is_estimated(values)
    moved = np.zeros(values.shape[1])
    tests = np.maximum(present.sum(axis=1, keepdims=True), 1)
    for _ in range(_TURNS):
        rest = values - moved
        levels = np.where(present, rest, 0.0).sum(axis=1, keepdims=True) / tests
        centres = locate((values - levels).T).centre
        moved = np.where(estimated, np.nan_to_num(centres), 0.0)
    return moved


@dataclass(frozen=True)
class CommonMovement:
    """What the tests of an invocation moved by together.

    Attributes:
        together: Movement of all tests, and its variance.
        of_others: Movement of all other tests, by test, and its variance.
    """

    together: float
    variance: float
    of_others: FloatArray
    variance_of_others: FloatArray


def common_movement(differences: FloatArray, variances: FloatArray) -> CommonMovement:
    """Return the common movement of differences with known variances, one for each test (Huber's M-estimator)."""
    weights = 1 / variances
    centre = float(np.median(differences))
    steady = weights
    for _ in range(8):
        scores = np.abs(differences - centre) * np.sqrt(weights)
        steady = weights * np.minimum(1.0, _HUBER / np.maximum(scores, 1e-12))
        centre = float(steady @ differences / steady.sum())
    others = steady.sum() - steady
    return CommonMovement(
        centre,
        float(1 / weights.sum()),
        (steady @ differences - steady * differences) / others,
        1 / (weights.sum() - weights),
    )


def excess_spread(differences: FloatArray, variances: FloatArray, movement: float) -> tuple[float, float]:
    """Return how much more the differences spread among the tests than expected (a ratio), and its degrees of freedom.

    The tests that differ most do not count: a test that changed must not hide itself.
    """
    squares = np.sort((differences - movement) ** 2 / variances)
    left_out = max(round(_LEFT_OUT * len(squares)), _LEAST_LEFT_OUT)
    kept = squares[:-left_out]
    return float(kept.mean()) / _mean_of_kept(left_out / len(squares)), _WORTH * (len(squares) - 1)


@lru_cache(maxsize=256)
def _mean_of_kept(left_out: float) -> float:
    """Return the mean of the squares of normal values of variance 1 without a share of the largest."""
    cut = float(special.ndtri(1 - left_out / 2))
    return 1 - 2 * cut * math.exp(-(cut**2) / 2) / math.sqrt(2 * math.pi) / (1 - left_out)


def average_position(orders: Sequence[Sequence[str]]) -> list[str]:
    """Return names in an order that agrees with several orders on average, such as invocations from new to old."""
    positions: dict[str, list[int]] = {}
    for order in orders:
        for position, name in enumerate(order):
            positions.setdefault(name, []).append(position)
    return sorted(positions, key=lambda name: sum(positions[name]) / len(positions[name]))
