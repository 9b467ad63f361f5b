from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.measure import MeasurePlan
from pytest_gpuperf.model import LoadPoint

points_of_a_sweep = st.lists(
    st.builds(LoadPoint, st.integers(1, 64), st.integers(1, 32)), min_size=1, max_size=8, unique=True
)
FIVE = [LoadPoint(concurrency) for concurrency in (1, 2, 4, 8, 16)]


@given(points_of_a_sweep, st.integers(1, 5), st.integers(0, 20), st.integers(0, 1000))
def test_every_round_visits_every_point_once(points: list[LoadPoint], visits: int, run: int, seed: int) -> None:
    order = list(MeasurePlan(visits=visits, seed=seed).order(points, run))
    assert [visit for visit, _ in order] == [visit for visit in range(visits) for _ in points]
    for visit in range(visits):
        assert Counter(point for number, point in order if number == visit) == Counter(points)


@given(points_of_a_sweep, st.integers(0, 20))
def test_the_order_is_reproducible(points: list[LoadPoint], run: int) -> None:
    assert list(MeasurePlan().order(points, run)) == list(MeasurePlan().order(points, run))


def test_every_run_has_an_order_of_its_own() -> None:
    orders = {tuple(MeasurePlan().order(FIVE, run)) for run in range(20)}
    assert len(orders) == 20


def test_every_round_has_an_order_of_its_own() -> None:
    order = list(MeasurePlan(visits=20).order(FIVE, 0))
    rounds = {tuple(point for number, point in order if number == visit) for visit in range(20)}
    assert len(rounds) > 10


def test_every_seed_has_an_order_of_its_own() -> None:
    assert len({tuple(MeasurePlan(seed=seed).order(FIVE, 0)) for seed in range(20)}) == 20


def test_no_point_always_follows_the_same_neighbour() -> None:
    order = [point for run in range(10) for _, point in MeasurePlan().order(FIVE, run)]
    followers: dict[LoadPoint, set[LoadPoint]] = {point: set() for point in FIVE}
    for point, follower in pairwise(order):
        followers[point].add(follower)
    assert all(len(others - {point}) == len(FIVE) - 1 for point, others in followers.items())


def test_no_point_keeps_to_one_place_in_the_round() -> None:
    firsts = Counter(next(MeasurePlan(visits=1).order(FIVE, run))[1] for run in range(200))
    assert firsts.keys() == set(FIVE)
    assert max(firsts.values()) < 80


def test_the_points_stay_in_the_order_in_which_they_were_given() -> None:
    points = list(FIVE)
    list(MeasurePlan().order(points, 3))
    assert points == FIVE


def test_three_visits_of_a_default_window_carry_a_p90() -> None:
    plan = MeasurePlan()
    assert plan.visits * plan.min_requests >= 50
