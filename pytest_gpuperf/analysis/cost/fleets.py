"""The cost of inferences, and the instances that serve a load within a latency budget.

Only measured load points count: a fleet is sized so that no copy of the target exceeds a point that kept the budget.
Nothing is interpolated between points, since queues make latency convex in the load and a straight line would promise
too much; nothing is extrapolated beyond the highest point; and no latency below the smallest measured one is promised.

Each point is read conservatively: throughput and latency of its slowest run.

Assumed, since one machine can't show it: a balancer spreads the load evenly, and copies don't slow each other down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pytest_gpuperf.analysis.cost.operating_points import OperatingPoints
from pytest_gpuperf.analysis.cost.prices import cheapest, copies_per_instance, device_of, usd_per_million
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

#: Slightly less than 1, or rounding would add a copy: 130 / 13 is 10.
_ROUNDING = 1 - 1e-9


def point_costs(curves: Iterable[Curve], key: PlainMapping, prices: Iterable[Price]) -> tuple[PointCost, ...]:
    """Return the cost of inferences at each point of a record's curves, on the cheapest instance with its device.

    Empty if the device has no price, or nothing was measured. ``prices`` are those of ``newest_prices``.
    """
    priced = cheapest(prices, key)
    if priced is None:
        return ()
    return tuple(
        _point_cost(curve.name, point, *priced)
        for curve in curves
        if curve.measured
        for point in curve.points
        if point.throughput > 0
    )


def _point_cost(sweep: str, point: CurvePoint, price: Price, copies: int) -> PointCost:
    copy_usd = price.usd_per_hour / copies
    return PointCost(
        sweep=sweep,
        point=point.load,
        instance=price.instance,
        usd_per_hour=copy_usd,
        usd_per_million=usd_per_million(copy_usd, point.throughput),
        throughput=point.throughput,
        p50_ns=point.p50_ns,
        p90_ns=point.p90_ns,
        price_date=price.date,
        price_source=price.source,
    )


def offers(measured: OperatingPoints, prices: Sequence[Price], demand: Demand) -> list[Offer]:
    """Return how each instance type with the device serves a demand; a single refusal if none has the device."""
    device = device_of(measured.key)
    fitting = [(price, copies) for price in prices if (copies := copies_per_instance(price, measured.key))]
    refusal = _refusal(measured.points, demand)
    if not fitting:
        return [Offer(measured.test, device, None, None, refusal or f"no price of {device}")]
    return [
        Offer(
            measured.test,
            device,
            price,
            None if refusal else fleet(measured.points, price, copies, demand),
            refusal,
            price_curve(measured.points, price, copies, demand),
        )
        for price, copies in fitting
    ]


def fleet(points: Sequence[OperatingPoint], price: Price, copies: int, demand: Demand) -> Fleet | None:
    """Return the cheapest fleet that serves a demand within its budget; among equals, that of the lowest latency.

    None if no point keeps the budget. ``copies`` of the target fit on one instance.
    """
    fleets = [_fleet(point, price, copies, demand) for point in eligible_points(points, demand)]
    first = next(iter(demand.budget_ns), "p90")
    return min(fleets, key=lambda fleet: (fleet.instances, _latency(fleet, first), -fleet.headroom), default=None)


def price_curve(points: Sequence[OperatingPoint], price: Price, copies: int, demand: Demand) -> tuple[Fleet, ...]:
    """Return fleets for a demand from the cheapest to the fastest, whatever its budget: the price-latency curve.

    Each is faster, in the budget's first quantile (p90 without a budget), than all cheaper ones.
    """
    first = next(iter(demand.budget_ns), "p90")
    known = [point for point in _matching_points(points, demand) if first in point.latency_ns]
    fleets = [_fleet(point, price, copies, demand) for point in known]
    curve: list[Fleet] = []
    for candidate in sorted(fleets, key=lambda fleet: (fleet.instances, _latency(fleet, first))):
        if not curve or _latency(candidate, first) < _latency(curve[-1], first):
            curve.append(candidate)
    return tuple(curve)


def eligible_points(points: Iterable[OperatingPoint], demand: Demand) -> list[OperatingPoint]:
    """Return the points that serve the demand's requests within its budget."""
    return [
        point
        for point in _matching_points(points, demand)
        if all(point.latency_ns.get(name, math.inf) <= limit_ns for name, limit_ns in demand.budget_ns.items())
    ]


def _matching_points(points: Iterable[OperatingPoint], demand: Demand) -> list[OperatingPoint]:
    """Return the points of the demand's batch size and kind of load."""
    sized = [point for point in points if demand.batch_size in (None, point.point.batch_size)]
    open_loop = [point for point in sized if point.point.rate]
    if demand.loop == "auto":
        return open_loop or sized
    return open_loop if demand.loop == "open" else [point for point in sized if not point.point.rate]


def _fleet(point: OperatingPoint, price: Price, per_instance: int, demand: Demand) -> Fleet:
    required = demand.inferences_per_s * (1 + demand.headroom)
    copies = max(math.ceil(required / point.throughput * _ROUNDING), 1)
    instances = math.ceil(copies / per_instance)
    usd_per_hour = instances * price.usd_per_hour
    # An entire instance is paid for, so all of its copies serve.
    headroom = instances * per_instance * point.throughput / demand.inferences_per_s - 1
    return Fleet(
        price=price,
        at=point,
        copies=instances * per_instance,
        instances=instances,
        headroom=headroom,
        usd_per_month=usd_per_hour * HOURS_PER_MONTH,
        usd_per_million=usd_per_million(usd_per_hour, demand.inferences_per_s),
    )


def _latency(fleet: Fleet, name: str) -> float:
    return fleet.at.latency_ns.get(name, math.inf)


def _refusal(points: Sequence[OperatingPoint], demand: Demand) -> str:
    """Return why no point serves the demand; empty if one does."""
    if not points:
        return "no load point can be relied on"
    carrying = _matching_points(points, demand)
    if not carrying:
        sizes = sorted({point.point.batch_size for point in points})
        if demand.batch_size not in (None, *sizes):
            return f"nothing was measured at batch size {demand.batch_size}, only at {', '.join(map(str, sizes))}"
        return f"nothing was measured in {demand.loop} loop"
    if eligible_points(points, demand):
        return ""
    supported = [point for point in carrying if all(name in point.latency_ns for name in demand.budget_ns)]
    if not supported:
        return f"too few requests at every load point for {' and '.join(demand.budget_ns)}"
    limits = demand.budget_ns.items()
    closest = min(supported, key=lambda point: max(point.latency_ns[name] / limit_ns for name, limit_ns in limits))
    latencies = ", ".join(f"{name} {closest.latency_ns[name] / 1e6:.4g} ms" for name in demand.budget_ns)
    return f"no load point keeps the budget; the closest is {closest.point.label} with {latencies}"
