"""``gpuperf cost``: the price of inferences, and of fleets that serve a load within a latency budget."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_gpuperf.analysis.cost.fleets import offers, point_costs
from pytest_gpuperf.analysis.cost.knee import knee
from pytest_gpuperf.analysis.cost.operating_points import OperatingPoints, operating_points
from pytest_gpuperf.analysis.cost.prices import cheapest, device_of
from pytest_gpuperf.cli.screen import screen_width
from pytest_gpuperf.cli.shared_options import (
    add_filters,
    add_format,
    add_prices,
    add_store,
    add_sweep,
    chosen_prices,
    integer,
    number,
    open_store,
)
from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord, origin_of
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.model import Demand, LoadPoint, Offer, PointCost, Price, curves_of
from pytest_gpuperf.model.codec import to_builtins
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.cost import (
    cost_table,
    curve_table,
    demand_line,
    offer_table,
    price_line,
    price_table,
    spread_line,
)
from pytest_gpuperf.report.table import Table
from pytest_gpuperf.report.wrapping import wrapped
from pytest_gpuperf.safe_text import printable
from pytest_gpuperf.store.prices import read_prices

_QUANTILES = ("p50", "p90", "p95", "p99")
_UNITS = {"us": 1e3, "ms": 1e6, "s": 1e9}
_LATENCY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(us|ms|s)")
_CLOSED = (
    "closed loop: the load point kept a fixed number of requests in flight. Requests that arrive at random at the same "
    "rate wait longer: measure with rate=, or ask for headroom"
)
_ASSUMED = (
    "assumed: requests are spread evenly over the fleet, copies don't slow each other down, and the instance's other "
    "parts (CPU, network) are no worse than where it was measured"
)
_ANY_BATCH = "these latencies do not include the time to collect requests into batches"
_positive = number(lambda amount: 0 < amount <= 1e12, "a number above 0, for example 100")
_headroom = number(lambda share: 0 <= share <= 100, "a share of 0 or more, for example 30% or 0.3", percent=True)


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        "Print what inferences cost at each measured load point. With --qps: how many instances of which GPU serve "
        "that load within the latency budget, and what they cost a month. Every answer is a measured load point; "
        "nothing is interpolated or extrapolated. Exit status 1: nothing serves the load."
    )
    add = parser.add_argument
    load = parser.add_mutually_exclusive_group().add_argument
    load("--qps", type=_positive, metavar="N", help="requests per second, each of --batch-size inferences")
    load("--ips", type=_positive, metavar="N", help="inferences per second, in requests of any batch size")
    add("--batch-size", type=integer(), metavar="B", help="inferences in each request (default: 1)")
    for name in _QUANTILES:
        add(f"--{name}", type=_latency, metavar="TIME", help=f"highest allowed {name}, for example 200ms")
    text = "share by which the load may still grow, for example 30%% (default: 0)"
    add("--headroom", type=_headroom, default=0.0, metavar="SHARE", help=text)
    text = "kind of load points to use (default: auto, which prefers open loop)"
    add("--loop", choices=("auto", "open", "closed"), default="auto", help=text)
    add("--curve", action="store_true", help="also print the price-latency curve at this load")
    add_filters(parser)
    add_sweep(parser)
    text = "use the newest N records of each key (default: 1)"
    add("--records", type=integer(), default=1, metavar="N", help=text)
    add_prices(parser)
    add("--list-prices", action="store_true", help="print the price table, with all dates, and exit")
    add_format(parser)
    add_store(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class _DeviceCost:
    """The cost of one test on one device.

    Attributes:
        price: Price of the load points; None if the device has no price.
        knees: Sweep and load point of each sweep's knee.
    """

    records: Sequence[StoredRecord]
    measured: OperatingPoints
    price: Price | None
    costs: tuple[PointCost, ...]
    knees: tuple[tuple[str, LoadPoint], ...]
    offers: tuple[Offer, ...]

    @property
    def device(self) -> str:
        return device_of(self.measured.key)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status, which is 1 if nothing serves the load."""
    if options.list_prices:
        return _list_prices(options)
    demand = _demand(options)
    prices = chosen_prices(options)
    reader = RecordReader(open_store(options), options.test, options.key)
    costs = [_cost(records, prices, demand, options) for records in reader.complete_by_key(options.records)]
    if not costs:
        reader.fail(
            f"There is no complete record in {reader.store.url} for these options.\n"
            f"See what is stored with: gpuperf baseline list{reader.store.option}"
        )
    costs.sort(key=lambda cost: (cost.measured.test, str(cost.measured.key.get("device"))))
    lines = {"table": _table, "markdown": _markdown, "json": _json}[options.format]
    print("\n".join(lines(costs, demand, options.curve)))
    status = reader.print_unreadable()
    served = demand is None or any(offer.fleet for cost in costs for offer in cost.offers)
    return status if served else 1


def _list_prices(options: argparse.Namespace) -> int:
    table = price_table(read_prices(options.prices))
    if options.format == "json":
        titles = ("instance", "gpu", "count", "usd_per_hour", "date", "source")
        print(json.dumps([dict(zip(titles, row, strict=True)) for row in table.rows], indent=2))
    else:
        width = screen_width()
        text = table.as_markdown() if options.format == "markdown" else wrapped(table.as_text(width=width), width)
        print("\n".join(text))
    return 0


def _demand(options: argparse.Namespace) -> Demand | None:
    """Return the load to serve; None if the options name none."""
    budget = {name: limit for name in _QUANTILES if (limit := getattr(options, name)) is not None}
    if options.qps is None and options.ips is None:
        if budget or options.headroom or options.curve:
            raise GpuperfError("A budget, headroom or curve needs a load: write how much with --qps N (or --ips N).")
        return None
    if options.ips is not None and options.batch_size is not None:
        raise GpuperfError("--ips counts inferences in requests of any batch size: use --qps with --batch-size.")
    size = options.batch_size or 1
    return Demand(
        inferences_per_s=options.ips or options.qps * size,
        batch_size=None if options.ips else size,
        budget_ns=budget,
        headroom=options.headroom,
        loop=options.loop,
    )


def _cost(
    records: Sequence[StoredRecord], prices: Sequence[Price], demand: Demand | None, options: argparse.Namespace
) -> _DeviceCost:
    measured = operating_points([stored.record for stored in records])
    measured = replace(measured, points=tuple(point for point in measured.points if options.sweep in point.sweep))
    runs = [run for stored in records for run in stored.record.runs if run.complete]
    curves = [curve for curve in curves_of(runs) if options.sweep in curve.name]
    priced = cheapest(prices, measured.key)
    knees = [(curve.name, knee(curve.points)) for curve in curves]
    return _DeviceCost(
        records,
        measured,
        priced[0] if priced else None,
        point_costs(curves, measured.key, prices),
        tuple((sweep, point.load) for sweep, point in knees if point is not None),
        tuple(offers(measured, prices, demand)) if demand else (),
    )


# Rendering


def _table(costs: Sequence[_DeviceCost], demand: Demand | None, curve: bool) -> list[str]:
    width = screen_width()
    lines: list[str] = []
    for test, group in _by_test(costs):
        lines += ["", test] if lines else [test]
        for title, table in _tables(group, demand, curve):
            lines += [f"  {title}", *table.as_text("    ", width)]
        lines += wrapped([f"  {note}" for note in _notes(group, demand)], width)
    return list(map(printable, lines))


def _markdown(costs: Sequence[_DeviceCost], demand: Demand | None, curve: bool) -> list[str]:
    lines = []
    for test, group in _by_test(costs):
        lines += [f"### {escape.code(test)}", ""]
        for title, table in _tables(group, demand, curve):
            lines += [f"**{escape.code(title)}**", "", *table.as_markdown(), ""]
        lines += [f"* {escape.code(note)}" for note in _notes(group, demand)] + [""]
    return lines[:-1]


def _by_test(costs: Sequence[_DeviceCost]) -> list[tuple[str, list[_DeviceCost]]]:
    groups: dict[str, list[_DeviceCost]] = {}
    for cost in costs:
        groups.setdefault(cost.measured.test, []).append(cost)
    return list(groups.items())


def _tables(group: Sequence[_DeviceCost], demand: Demand | None, curve: bool) -> list[tuple[str, Table]]:
    tables = []
    if demand is None:
        for cost in group:
            if cost.costs:
                first = cost.costs[0]
                title = f"{cost.device}, {first.instance} at ${first.usd_per_hour:g}/hour"
                tables.append((title, cost_table(cost.costs, cost.knees)))
        return tables
    offers = [offer for cost in group for offer in cost.offers]
    if any(offer.fleet for offer in offers):
        tables.append((demand_line(demand), offer_table(offers, demand)))
    # A device's instance types have the same curve at different prices: the cheapest stands for all.
    curves = [offer for cost in group for offer in cost.offers if offer.curve and offer.price == cost.price]
    if curve and curves:
        tables.append(("price against latency, whatever the budget", curve_table(curves, demand)))
    return tables


def _notes(group: Sequence[_DeviceCost], demand: Demand | None) -> list[str]:
    """Return notes on what the figures are based on."""
    fleets = [offer.fleet for cost in group for offer in cost.offers if offer.fleet]
    lines = []
    if demand and not fleets:
        lines.append(f"no measured and priced load point serves {demand_line(demand)}")
    for cost in group:
        lines += dict.fromkeys(f"{cost.device}: {offer.refusal}" for offer in cost.offers if offer.refusal)
        if not demand and cost.price is None:
            lines.append(f"{cost.device}: no price is known; write a price table, and name it with --prices")
        for record in (stored.record for stored in cost.records):
            gate = ", failed its gate" if record.gate == "failed" else ""
            lines.append(f"{cost.device}: record {origin_of(record)}{gate}")
    names = list(demand.budget_ns) if demand else []
    lines += dict.fromkeys(
        f"{offer.device}: {spread_line(offer.fleet.at, names or ['p90'])}"
        for cost in group
        for offer in cost.offers
        if offer.fleet
    )
    lines += [f"{cost.device}: left out: {reason}" for cost in group for reason in cost.measured.left_out]
    prices = [fleet.price for fleet in fleets] if demand else [cost.price for cost in group if cost.price]
    lines += dict.fromkeys(f"price: {price_line(price)}" for price in prices)
    if fleets:
        lines += ["a month has 730 hours", _ASSUMED]
        lines += [_CLOSED] if any(fleet.at.point.concurrency for fleet in fleets) else []
        lines += [_ANY_BATCH] if demand and demand.batch_size is None else []
    return lines


def _json(costs: Sequence[_DeviceCost], demand: Demand | None, _curve: bool) -> list[str]:
    document = {"demand": to_builtins(demand), "tests": [_document(cost) for cost in costs], "hours_per_month": 730}
    return [json.dumps(document, indent=2, allow_nan=False)]


def _document(cost: _DeviceCost) -> dict[str, Any]:
    return {
        "test": cost.measured.test,
        "device": cost.device,
        "key": to_builtins(cost.measured.key),
        "records": [
            {"id": stored.record.id, "created_utc": stored.record.created_utc, "commit": stored.record.commit}
            for stored in cost.records
        ],
        "price": to_builtins(cost.price),
        "points": [
            {**to_builtins(point), "label": point.point.label, "knee": (point.sweep, point.point) in cost.knees}
            for point in cost.costs
        ],
        "left_out": list(cost.measured.left_out),
        "offers": to_builtins(cost.offers),
    }


def _latency(text: str) -> float:
    match = _LATENCY.fullmatch(text.replace(" ", ""))
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write a time with its unit (us, ms, s), for example 200ms")
    return float(match[1]) * _UNITS[match[2]]
