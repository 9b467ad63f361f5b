"""What inferences cost, and how many instances serve a load within a latency budget.

Only measured load points answer: a fleet is sized so that no copy of the target takes more than a point at which the
budget was kept. Between points nothing is interpolated, since queues make latency convex in the load and the straight
line would promise too much; beyond the highest one nothing is extrapolated; and no latency below the smallest measured
one is ever promised.

Each point is read on the careful side: the slowest run's throughput and latency.

Assumed, since one machine can't show it: a balancer spreads the load evenly, and copies don't slow one another down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pytest_gpuperf.analysis.operating import OperatingPoints
from pytest_gpuperf.analysis.prices import cheapest, copies_per_instance, device_of, usd_per_million
from pytest_gpuperf.model import (
    HOURS_PER_MONTH,
    Curve,
    CurvePoint,
    Demand,
    Fleet,
    Offer,
    OperatingPoint,
    PlainMapping,
    PointCost,
    Price,
)

#: A hair less, or rounding would ask for one copy more: 130 / 13 is 10.
_ROUNDING = 1 - 1e-9


def point_costs(curves: Iterable[Curve], key: PlainMapping, prices: Iterable[Price]) -> tuple[PointCost, ...]:
    """What inferences cost at each point of a test's curves, on the cheapest machine that has its device.

    Args:
        key: of the record.
        prices: as ``newest_prices`` gives them.

    Returns:
        Empty where no price is of that device, or nothing was measured.
    """
    found = cheapest(prices, key)
    if found is None:
        return ()
    return tuple(
        _point_cost(curve.name, point, *found)
        for curve in curves
        if curve.measured
        for point in curve.points
        if point.throughput > 0
    )


def _point_cost(sweep: str, point: CurvePoint, price: Price, copies: int) -> PointCost:
    share = price.usd_per_hour / copies
    return PointCost(
        sweep=sweep,
        point=point.load,
        instance=price.instance,
        usd_per_hour=share,
        usd_per_million=usd_per_million(share, point.throughput),
        throughput=point.throughput,
        p50_ns=point.p50_ns,
        p90_ns=point.p90_ns,
        price_date=price.date,
        price_source=price.source,
    )


def offers(found: OperatingPoints, prices: Sequence[Price], demand: Demand) -> list[Offer]:
    """What every instance type that has the device makes of a demand; one refusal where none has it."""
    device = device_of(found.key)
    fitting = [(price, copies) for price in prices if (copies := copies_per_instance(price, found.key))]
    refusal = _refusal(found.points, demand)
    if not fitting:
        return [Offer(found.test, device, None, None, refusal or f"no price of {device}")]
    return [
        Offer(
            found.test,
            device,
            price,
            None if refusal else fleet(found.points, price, copies, demand),
            refusal,
            price_curve(found.points, price, copies, demand),
        )
        for price, copies in fitting
    ]


def fleet(points: Sequence[OperatingPoint], price: Price, copies: int, demand: Demand) -> Fleet | None:
    """The cheapest fleet that serves a demand within its budget; among those the one of the lowest latency.

    Args:
        copies: of the target that one instance has room for.

    Returns:
        None where no point keeps the budget.
    """
    fleets = [_fleet(point, price, copies, demand) for point in eligible(points, demand)]
    first = next(iter(demand.budget_ns), "p90")
    return min(fleets, key=lambda one: (one.instances, _latency(one, first), -one.headroom), default=None)


def price_curve(points: Sequence[OperatingPoint], price: Price, copies: int, demand: Demand) -> tuple[Fleet, ...]:
    """Fleets for a demand from the cheapest to the fastest, whatever its budget: the price-latency curve.

    Each is faster, in the budget's first quantile (p90 without a budget), than all that cost less.
    """
    first = next(iter(demand.budget_ns), "p90")
    free = replace(demand, budget_ns={})
    fleets = [_fleet(point, price, copies, free) for point in eligible(points, free) if first in point.latency_ns]
    curve: list[Fleet] = []
    for one in sorted(fleets, key=lambda one: (one.instances, _latency(one, first))):
        if not curve or _latency(one, first) < _latency(curve[-1], first):
            curve.append(one)
    return tuple(curve)


def eligible(points: Iterable[OperatingPoint], demand: Demand) -> list[OperatingPoint]:
    """The points that carry the demand's requests within its budget."""
    return [
        point
        for point in _carrying(points, demand)
        if all(point.latency_ns.get(name, math.inf) <= most for name, most in demand.budget_ns.items())
    ]


def _carrying(points: Iterable[OperatingPoint], demand: Demand) -> list[OperatingPoint]:
    """The points of the demand's batch size and kind of load."""
    sized = [point for point in points if demand.batch_size in (None, point.point.batch_size)]
    opened = [point for point in sized if point.point.rate]
    if demand.loop == "auto":
        return opened or sized
    return opened if demand.loop == "open" else [point for point in sized if not point.point.rate]


def _fleet(point: OperatingPoint, price: Price, per_instance: int, demand: Demand) -> Fleet:
    wanted = demand.inferences_per_s * (1 + demand.headroom)
    copies = max(math.ceil(wanted / point.throughput * _ROUNDING), 1)
    instances = math.ceil(copies / per_instance)
    usd_per_hour = instances * price.usd_per_hour
    # An instance is paid as a whole, so all of its copies serve.
    room = instances * per_instance * point.throughput / demand.inferences_per_s - 1
    return Fleet(
        price=price,
        at=point,
        copies=instances * per_instance,
        instances=instances,
        headroom=room,
        usd_per_month=usd_per_hour * HOURS_PER_MONTH,
        usd_per_million=usd_per_million(usd_per_hour, demand.inferences_per_s),
    )


def _latency(one: Fleet, name: str) -> float:
    return one.at.latency_ns.get(name, math.inf)


def _refusal(points: Sequence[OperatingPoint], demand: Demand) -> str:
    """Why no point serves the demand; empty where one does."""
    if not points:
        return "no load point can be counted on"
    carrying = _carrying(points, demand)
    if not carrying:
        return _not_measured(points, demand)
    if eligible(points, demand):
        return ""
    told = [point for point in carrying if all(name in point.latency_ns for name in demand.budget_ns)]
    if not told:
        return f"too few requests at every load point to tell {' and '.join(demand.budget_ns)}"
    closest = min(told, key=lambda point: _excess(point, demand.budget_ns))
    had = ", ".join(f"{name} {closest.latency_ns[name] / 1e6:.4g} ms" for name in demand.budget_ns)
    return f"no load point keeps the budget; the closest is {closest.point.label} with {had}"


def _not_measured(points: Sequence[OperatingPoint], demand: Demand) -> str:
    sizes = sorted({point.point.batch_size for point in points})
    if demand.batch_size not in (None, *sizes):
        return f"nothing was measured at batch size {demand.batch_size}, only at {', '.join(map(str, sizes))}"
    return f"nothing was measured in {demand.loop} loop"


def _excess(point: OperatingPoint, budget_ns: Mapping[str, float]) -> float:
    return max(point.latency_ns[name] / most for name, most in budget_ns.items())
