from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.analysis.cost.fleets import eligible_points, fleet, offers, point_costs, price_curve
from pytest_gpuperf.analysis.cost.operating_points import OperatingPoints, operating_points
from pytest_gpuperf.model import Demand, LoadPoint, OperatingPoint, Price, curves_of
from tests.unit.factories import KEY, curve, curve_point, equal_runs, record

L4 = Price("g6.xlarge", "NVIDIA L4", 1, 0.8, "2026-01-01", "a list")
FOUR = replace(L4, instance="g6.12xlarge", count=4, usd_per_hour=4.6)


def point(throughput: float, p90_ms: float, load: LoadPoint | None = None) -> OperatingPoint:
    latency = {"p50": 0.8e6 * p90_ms, "p90": 1e6 * p90_ms}
    return OperatingPoint("serving", load or LoadPoint(4), throughput, 0.9e6 * p90_ms, latency)


SLOW, FAST = point(50.0, 40.0, LoadPoint(8)), point(20.0, 10.0, LoadPoint(1))


def measured_points(*points: OperatingPoint) -> OperatingPoints:
    return OperatingPoints(str(KEY["test"]), KEY, points)


def test_a_fleet_has_the_instances_that_its_best_point_requires() -> None:
    serving = fleet([SLOW, FAST], L4, 1, Demand(100.0, budget_ns={"p90": 50e6}))
    assert serving is not None
    assert (serving.instances, serving.at, serving.headroom) == (2, SLOW, 0.0)
    assert serving.usd_per_month == pytest.approx(2 * 0.8 * 730)
    assert serving.usd_per_million == pytest.approx(2 * 0.8 / 3600 / 100 * 1e6)
    tight = fleet([SLOW, FAST], L4, 1, Demand(100.0, budget_ns={"p90": 39e6}))
    assert tight is not None
    assert (tight.instances, tight.at) == (5, FAST)


def test_headroom_is_the_possible_growth_of_the_load() -> None:
    serving = fleet([SLOW], L4, 1, Demand(100.0, headroom=0.3))
    assert serving is not None
    assert serving.instances == 3
    assert serving.headroom == pytest.approx(0.5)


def test_rounding_costs_no_instance() -> None:
    serving = fleet([point(13.0, 5.0)], L4, 1, Demand(100.0, headroom=0.3))
    assert serving is not None
    assert serving.instances == 10


def test_among_equal_fleets_the_one_of_lowest_latency_is_chosen() -> None:
    serving = fleet([SLOW, FAST], L4, 1, Demand(15.0, budget_ns={"p90": 50e6}))
    assert serving is not None
    assert (serving.instances, serving.at) == (1, FAST)


def test_all_gpus_of_an_instance_serve() -> None:
    serving = fleet([SLOW], FOUR, 4, Demand(210.0))
    assert serving is not None
    assert (serving.instances, serving.copies) == (2, 8)
    assert serving.headroom == pytest.approx(400 / 210 - 1)
    assert serving.usd_per_month == pytest.approx(2 * 4.6 * 730)


def test_every_quantile_of_the_budget_holds() -> None:
    assert fleet([SLOW], L4, 1, Demand(10.0, budget_ns={"p90": 50e6, "p50": 31e6})) is None
    assert fleet([SLOW], L4, 1, Demand(10.0, budget_ns={"p90": 50e6, "p50": 32e6})) is not None
    assert fleet([SLOW], L4, 1, Demand(10.0, budget_ns={"p99": 1e12})) is None


def test_open_loop_points_are_preferred() -> None:
    opened = point(30.0, 12.0, LoadPoint(0, 1, 30.0, "poisson"))
    assert eligible_points([SLOW, opened], Demand(1.0)) == [opened]
    assert eligible_points([SLOW, opened], Demand(1.0, loop="closed")) == [SLOW]
    assert eligible_points([SLOW, FAST], Demand(1.0)) == [SLOW, FAST]
    assert eligible_points([SLOW], Demand(1.0, loop="open")) == []


def test_a_demand_has_a_batch_size_or_accepts_any() -> None:
    eight = point(400.0, 30.0, LoadPoint(4, 8))
    assert eligible_points([SLOW, eight], Demand(100.0)) == [SLOW]
    assert eligible_points([SLOW, eight], Demand(100.0, 8)) == [eight]
    assert eligible_points([SLOW, eight], Demand(100.0, None)) == [SLOW, eight]


@pytest.mark.parametrize(
    ("demand", "refusal"),
    [
        (Demand(1.0, 2), "nothing was measured at batch size 2, only at 1"),
        (Demand(1.0, loop="open"), "nothing was measured in open loop"),
        (Demand(1.0, budget_ns={"p99": 1e9}), "too few requests at every load point for p99"),
        (
            Demand(1.0, budget_ns={"p90": 9e6}),
            "no load point keeps the budget; the closest is concurrency 1 with p90 10 ms",
        ),
    ],
)
def test_an_unserved_demand_states_its_reason(demand: Demand, refusal: str) -> None:
    (offer,) = offers(measured_points(SLOW, FAST), [L4], demand)
    assert (offer.fleet, offer.refusal) == (None, refusal)


def test_refusals_without_reliable_points_or_prices() -> None:
    (offer,) = offers(measured_points(), [L4], Demand(1.0))
    assert offer.refusal == "no load point can be relied on"
    (offer,) = offers(measured_points(SLOW), [replace(L4, gpu="NVIDIA L40S")], Demand(1.0))
    assert (offer.price, offer.refusal) == (None, "no price of NVIDIA L4")


def test_dearer_fleets_of_the_price_curve_are_faster() -> None:
    between = point(30.0, 45.0)
    curve = price_curve([SLOW, between, FAST], L4, 1, Demand(100.0, budget_ns={"p90": 1.0}))
    assert [(one.instances, one.at) for one in curve] == [(2, SLOW), (5, FAST)]


# Properties

POINTS = st.lists(st.builds(point, st.floats(0.1, 1e4), st.floats(0.01, 1e4)), min_size=1, max_size=6)
LOADS, BUDGETS, ROOMS = st.floats(0.01, 1e6), st.floats(1e3, 2e10), st.floats(0, 5)


def monthly(points: list[OperatingPoint], qps: float, budget_ns: float, headroom: float, gpus: int = 1) -> float:
    serving = fleet(points, FOUR, gpus, Demand(qps, budget_ns={"p90": budget_ns}, headroom=headroom))
    return serving.usd_per_month if serving else float("inf")


@given(POINTS, st.tuples(LOADS, LOADS), st.tuples(BUDGETS, BUDGETS), st.tuples(ROOMS, ROOMS), st.integers(1, 8))
def test_a_larger_demand_never_costs_less(
    points: list[OperatingPoint],
    loads: tuple[float, float],
    budgets: tuple[float, float],
    rooms: tuple[float, float],
    gpus: int,
) -> None:
    """A higher load, a tighter budget, more headroom: each by itself."""
    qps, budget_ns, room = min(loads), max(budgets), min(rooms)
    base = monthly(points, qps, budget_ns, room, gpus)
    assert monthly(points, max(loads), budget_ns, room, gpus) >= base
    assert monthly(points, qps, min(budgets), room, gpus) >= base
    assert monthly(points, qps, budget_ns, max(rooms), gpus) >= base


@given(POINTS, LOADS, BUDGETS, ROOMS, st.integers(1, 8))
def test_a_fleet_stays_within_what_was_measured(
    points: list[OperatingPoint], qps: float, budget_ns: float, room: float, gpus: int
) -> None:
    serving = fleet(points, FOUR, gpus, Demand(qps, budget_ns={"p90": budget_ns}, headroom=room))
    if serving is None:
        assert budget_ns < min(one.latency_ns["p90"] for one in points)
        return
    assert serving.at in points
    assert serving.at.latency_ns["p90"] <= budget_ns
    assert qps * (1 + room) / serving.copies <= serving.at.throughput * (1 + 1e-8)
    assert serving.headroom >= room - 1e-6
    assert serving.instances * gpus == serving.copies


@given(POINTS, LOADS, ROOMS)
def test_the_price_curve_begins_with_the_cheapest_fleet(points: list[OperatingPoint], qps: float, room: float) -> None:
    demand = Demand(qps, headroom=room)
    curve = price_curve(points, L4, 1, demand)
    serving = fleet(points, L4, 1, demand)
    assert serving is not None
    assert curve[0].usd_per_month == serving.usd_per_month
    assert curve[-1].at.latency_ns["p90"] == min(one.latency_ns["p90"] for one in points)


@pytest.mark.parametrize("wrong", [{"inferences_per_s": 0.0}, {"headroom": -0.1}, {"loop": "half"}])
def test_impossible_demands_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"a demand must be|loop must be"):
        Demand(**{"inferences_per_s": 1.0, **wrong})  # type: ignore[arg-type]


# Costs of points


def test_costs_of_points_on_the_cheapest_machine() -> None:
    shown = curve(curve_point(4, throughput=2000.0, p50_ms=2.0))
    (cost,) = point_costs([shown], KEY, [FOUR, L4])
    assert (cost.instance, cost.usd_per_hour) == ("g6.xlarge", 0.8)
    assert cost.usd_per_million == pytest.approx(0.8 / 3600 / 2000 * 1e6)
    assert (cost.price_date, cost.price_source) == ("2026-01-01", "a list")
    (cost,) = point_costs([shown], KEY, [FOUR])
    assert cost.usd_per_hour == pytest.approx(4.6 / 4)


def test_no_costs_without_price_or_measurement() -> None:
    shown = curve(curve_point(4))
    assert point_costs([shown], {**KEY, "device": "NVIDIA L40S"}, [L4]) == ()
    assert point_costs([replace(shown, measured=False)], KEY, [L4]) == ()
    assert point_costs([curve(curve_point(4, throughput=0.0))], KEY, [L4]) == ()


def test_from_a_record_to_a_fleet() -> None:
    one = record(equal_runs(2.0, load_points=3), requests=200)
    (offer,) = offers(operating_points([one]), [L4], Demand(900.0, budget_ns={"p90": 5e6}))
    assert offer.fleet is not None
    # 2 ms at concurrency 1, 4 ms at 2, 6 ms at 4: 500, 500 and 667 a second; the third is too slow.
    assert offer.fleet.instances == 2
    assert offer.fleet.at.point == LoadPoint(1)
    assert len(point_costs(curves_of(one.runs), one.key, [L4])) == 3
