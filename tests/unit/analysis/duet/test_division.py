"""The division of a duet's time between starts and windows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_gpuperf.analysis.duet.division import FEWEST, MOST, BlockCost, DuetDifferences, best_alternations
from pytest_gpuperf.model import LoadPoint

COST = BlockCost(start_s=6.0, pair_s=0.6)


def duet(between: float, within: float, blocks: int = 8, points: int = 1, seed: int = 0) -> DuetDifferences:
    rng = np.random.default_rng(seed)
    starts = rng.normal(0, between, blocks)
    return {
        LoadPoint(point + 1): [(start + rng.normal(0, within, 12)).tolist() for start in starts]
        for point in range(points)
    }


def chosen(*duets: DuetDifferences, cost: BlockCost = COST) -> int:
    return best_alternations(duets, [cost], 12)


def test_without_blocks_the_usual_division_stays() -> None:
    assert best_alternations([], [], 12) == 12
    assert chosen({}) == chosen(duet(0.02, 0.05, blocks=1)) == chosen(duet(0.0, 0.0)) == 12


def test_starts_that_differ_get_more_starts_and_noise_in_time_more_windows() -> None:
    assert chosen(duet(0.05, 0.02)) == FEWEST
    assert chosen(duet(0.002, 0.2)) > 14


def test_dear_starts_get_more_windows() -> None:
    slow = BlockCost(start_s=600.0, pair_s=0.6)
    assert chosen(duet(0.02, 0.08), cost=slow) > chosen(duet(0.02, 0.08))


def test_with_much_history_it_is_the_optimum_of_kalibera_and_jones() -> None:
    history = [duet(0.02, 0.08, seed=seed) for seed in range(40)]
    assert chosen(*history) == pytest.approx(math.sqrt(10 * 16), rel=0.2)


def test_points_of_a_duet_do_not_count_as_more_duets() -> None:
    """They share its starts: with twenty times as many points the choice is as cautious as with a single point."""
    single, many = (chosen(duet(0.05, 0.05, blocks=2, points=points)) for points in (1, 20))
    assert abs(single - many) <= 2


@pytest.mark.parametrize("between", [1e-9, 10.0])
def test_the_choice_is_bounded(between: float) -> None:
    assert FEWEST <= chosen(*[duet(between, 0.3, seed=seed) for seed in range(20)]) <= MOST
