from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load.generator import MAX_IN_FLIGHT
from pytest_gpuperf.measure import MeasurePlan
from pytest_gpuperf.model import Arrivals, Constant, Intervals, LoadPoint, Poisson, Ramp

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


def test_a_closed_loop_window_waits_for_as_many_requests_as_are_in_flight() -> None:
    plan = MeasurePlan(window_s=0.3, min_requests=17, max_window_s=2.0, lead_in_s=0.2, deadline_s=9.0)
    assert plan.spec(LoadPoint(4, 8)) == WindowSpec(4, 0.3, None, MAX_IN_FLIGHT, 0.2, 17, 2.0, 9.0)
    assert plan.spec(LoadPoint(64)).min_requests == 64


@pytest.mark.parametrize("arrivals", [Constant(300.0), Intervals((10**6,))])
def test_an_open_loop_window_has_its_schedule_and_no_concurrency(arrivals: Arrivals) -> None:
    spec = MeasurePlan().spec(LoadPoint.open_loop(arrivals), arrivals, 5)
    assert (spec.concurrency, spec.arrivals, spec.min_requests) == (0, arrivals, MeasurePlan().min_requests)


@pytest.mark.parametrize("arrivals", [Poisson(300.0, seed=2), Ramp(10.0, 20.0, 2.0, poisson=True)])
def test_every_window_has_random_intervals_of_its_own_and_again_the_same(arrivals: Arrivals) -> None:
    point = LoadPoint.open_loop(arrivals)
    specs = [MeasurePlan().spec(point, arrivals, number) for number in range(20)]
    assert len({spec.arrivals for spec in specs}) == 20
    assert specs == [MeasurePlan().spec(point, arrivals, number) for number in range(20)]
    assert {spec.arrivals.rate for spec in specs if spec.arrivals} == {arrivals.rate}


def test_a_ramp_changes_from_the_windows_start_to_its_end() -> None:
    ramp = Ramp(10.0, 20.0, over_s=2.5)
    spec = MeasurePlan(lead_in_s=0.2).spec(LoadPoint.open_loop(ramp), ramp)
    assert spec.window_s == 2.5
    assert isinstance(spec.arrivals, Ramp)
    assert spec.arrivals.hold_s == spec.lead_in_s == 0.2


def test_a_planned_window_is_no_smoke_run() -> None:
    assert not MeasurePlan().spec(LoadPoint(1)).once
