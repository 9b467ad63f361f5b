"""The cost of serving, as tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from pytest_gpuperf.model import Demand, Fleet, LoadPoint, Offer, OperatingPoint, PointCost, Price
from pytest_gpuperf.report.figures import duration, plural, rate
from pytest_gpuperf.report.table import Table


def usd(amount: float) -> str:
    """Format dollars: whole from $100 on, three significant digits below."""
    return f"${amount:,.0f}" if amount >= 100 else f"${Decimal(f'{amount:#.3g}'):f}"


def cost_table(costs: Sequence[PointCost], knees: Sequence[tuple[str, LoadPoint]] = ()) -> Table:
    """Return dollars per million inferences at each load point.

    Args:
        knees: Sweep and load point of each knee, which the table marks.
    """
    rows = []
    for cost in costs:
        mark = "knee" if (cost.sweep, cost.point) in knees else ""
        figures = (rate(cost.throughput), duration(cost.p50_ns), duration(cost.p90_ns), usd(cost.usd_per_million))
        rows.append((f"{cost.sweep}: {cost.point.label}", *figures, mark))
    return Table(("load point", ">inf/s", ">p50", ">p90", ">$/million", ""), tuple(rows))


def demand_line(demand: Demand) -> str:
    """Describe a demand in a sentence."""
    size = demand.batch_size
    load = f"{demand.inferences_per_s:g} inferences/s in requests of any batch size"
    if size is not None:
        content = "1 inference" if size == 1 else f"{size} inferences"
        load = f"{demand.inferences_per_s / size:g} requests/s of {content} each"
    limits = " and ".join(f"{name} {duration(most)}" for name, most in demand.budget_ns.items())
    return f"{load}, {f'within {limits}' if limits else 'no latency budget'}, {demand.headroom:.0%} headroom"


def offer_table(offers: Sequence[Offer], demand: Demand) -> Table:
    """Return the fleets that serve a demand, the cheapest first."""
    names = list(demand.budget_ns) or ["p90"]
    fleets = [(offer, offer.fleet) for offer in offers if offer.fleet is not None]
    fleets.sort(key=lambda pair: (pair[1].usd_per_month, pair[1].instances, pair[1].price.instance))
    rows = [
        (
            *_fleet_cells(offer.device, fleet, names),
            f"{fleet.headroom:+.0%}",
            usd(fleet.usd_per_month),
            usd(fleet.usd_per_million),
        )
        for offer, fleet in fleets
    ]
    return Table((*_fleet_titles(names), ">headroom", ">$/month", ">$/million"), tuple(rows))


def _fleet_titles(names: Sequence[str]) -> tuple[str, ...]:
    return ("fleet", "GPU", "load per instance", *(f">{name}" for name in names))


def _fleet_cells(device: str, fleet: Fleet, names: Sequence[str]) -> tuple[str, ...]:
    where = f"{fleet.at.sweep}: {fleet.at.point.label}"
    return (f"{fleet.instances} x {fleet.price.instance}", device, where, *(_latency(fleet.at, name) for name in names))


def curve_table(offers: Sequence[Offer], demand: Demand) -> Table:
    """Return the price-latency curve of every instance type, from its cheapest fleet to its fastest."""
    names = sorted({"p50", "p90", *demand.budget_ns})
    rows = [
        (*_fleet_cells(offer.device, fleet, names), usd(fleet.usd_per_month))
        for offer in offers
        for fleet in offer.curve
    ]
    return Table((*_fleet_titles(names), ">$/month"), tuple(rows))


def price_line(price: Price) -> str:
    """Format a price with its date and source."""
    device = " ".join(filter(None, (price.gpu, price.mig_profile)))
    several = f"{price.count} x " if price.count > 1 else ""
    return f"{price.instance} ({several}{device}): ${price.usd_per_hour:g}/hour on {price.date}, {price.source}"


def price_table(prices: Sequence[Price]) -> Table:
    """Return the rows of a price table."""
    rows = []
    for price in prices:
        cores = f"{price.cores} cores" if price.cores else ""
        device = " ".join(filter(None, (price.gpu, price.mig_profile, cores)))
        hourly = f"{price.usd_per_hour:g}"
        rows.append((price.instance, device, str(price.count), hourly, price.date, price.source))
    return Table(("instance", "GPU", ">count", ">$/hour", "date", "source"), tuple(rows))


def spread_line(at: OperatingPoint, names: Sequence[str]) -> str:
    """Describe how much the runs behind an operating point differ."""
    ranges = [f"{rate(at.throughput_range[0])} to {rate(at.throughput_range[1])} inf/s"]
    ranges += [
        f"{name} {duration(low)} to {duration(high)}"
        for name in names
        for low, high in [at.latency_range_ns.get(name, (0.0, 0.0))]
        if high
    ]
    return f"{at.sweep}: {at.point.label}: {plural(at.runs, 'run')}, {', '.join(ranges)}"


def _latency(at: OperatingPoint, name: str) -> str:
    return duration(at.latency_ns[name]) if name in at.latency_ns else "-"
