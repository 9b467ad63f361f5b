"""``gpuperf cost``: what inferences cost, and what serves a load within a latency budget for how much a month."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord, add_filters, add_store, minute_text, store_url
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.report import escape

if TYPE_CHECKING:
    from pytest_gpuperf.analysis.operating import OperatingPoints
    from pytest_gpuperf.model import Demand, LoadPoint, Offer, PointCost, Price

_QUANTILES = ("p50", "p90", "p95", "p99")
_UNITS = {"us": 1e3, "ms": 1e6, "s": 1e9}
_LATENCY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(us|ms|s)")
_CLOSED = (
    "closed loop: the load point kept a fixed number of requests in flight. Requests that arrive by chance at the same "
    "rate wait longer: measure with rate=, or ask for headroom"
)
_ASSUMED = (
    "assumed: requests are spread evenly over the fleet, copies don't slow one another down, and the instance's other "
    "parts (CPU, network) are no worse than where it was measured"
)
_ANY_BATCH = "the time it takes to put batches together is not in these latencies"


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "cost",
        help="$ per million inferences, and fleets for a load within a latency budget",
        description="What inferences cost at each measured load point; with --qps, how many instances of which GPU "
        "serve that load within the latency budget, and for how much a month. Only measured load points answer: "
        "nothing is interpolated or extrapolated.",
    )
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--qps", type=_positive, metavar="N", help="requests per second, each of --batch-size inferences")
    load.add_argument(
        "--ips", type=_positive, metavar="N", help="inferences per second instead, in requests of any batch size"
    )
    parser.add_argument("--batch-size", type=_count, metavar="B", help="inferences in each request (default: 1)")
    for name in _QUANTILES:
        parser.add_argument(f"--{name}", type=_latency, metavar="TIME", help=f"the most that {name} may be, as 200ms")
    parser.add_argument(
        "--headroom", type=_share, default=0.0, metavar="SHARE", help="by which the load may grow, as 30%% (default: 0)"
    )
    parser.add_argument(
        "--loop",
        choices=("auto", "open", "closed"),
        default="auto",
        help="which load points answer (default: auto, the open-loop ones where there are any)",
    )
    parser.add_argument("--curve", action="store_true", help="show the price-latency curve for the load, too")
    add_filters(parser)
    parser.add_argument("--sweep", default="", metavar="TEXT", help="only sweeps whose name contains this")
    parser.add_argument(
        "--records", type=_count, default=1, metavar="N", help="newest records of each key to rest on (default: 1)"
    )
    add_prices(parser)
    parser.add_argument("--list-prices", action="store_true", help="show the price table, all dates, and end")
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table", help="(default: table)")
    add_store(parser)
    parser.set_defaults(run=run)


def add_prices(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose prices."""
    parser.add_argument("--prices", default="", metavar="FILE", help="a price table in TOML instead of the package's")
    parser.add_argument("--as-of", type=_day, metavar="DATE", help="by the prices of that day, as 2026-01-31")


def chosen_prices(options: argparse.Namespace) -> tuple[Price, ...]:
    """The newest price of each instance, or that of the day that was asked for.

    Raises:
        OptionError: the table can't be used.
    """
    from pytest_gpuperf.analysis.prices import newest_prices
    from pytest_gpuperf.store.prices import read_prices

    return newest_prices(read_prices(options.prices), options.as_of)


@dataclass(frozen=True)
class _Found:
    """One test on one device: what it rests on, and what came out.

    Attributes:
        price: by which its points are priced; None where the device has none.
        knees: sweep and load point of each.
    """

    stored: Sequence[StoredRecord]
    measured: OperatingPoints
    price: Price | None
    costs: tuple[PointCost, ...]
    knees: tuple[tuple[str, LoadPoint], ...]
    offers: tuple[Offer, ...]

    @property
    def device(self) -> str:
        from pytest_gpuperf.analysis.prices import device_of

        return device_of(self.measured.key)


def run(options: argparse.Namespace) -> int:
    """Run the command line; its exit status: 1 where nothing serves the load."""
    from pytest_gpuperf.store import Store

    if options.list_prices:
        return _list_prices(options)
    demand = _demand(options)
    prices = chosen_prices(options)
    records = RecordReader(Store(store_url(options)), options.test, options.key)
    found = [_find(stored, prices, demand, options) for stored in records.complete_by_key(options.records)]
    if not found:
        records.print_unreadable()
        raise GpuperfError(
            f"There is no complete record in {records.store.url} for these options.\n"
            "See what is stored with: gpuperf baseline list"
        )
    found.sort(key=lambda one: (one.measured.test, str(one.measured.key.get("device"))))
    show = {"table": _table, "markdown": _markdown, "json": _json}[options.format]
    print("\n".join(show(found, demand, options.curve)))
    unreadable = records.print_unreadable()
    served = demand is None or any(offer.fleet for one in found for offer in one.offers)
    return unreadable if served else 1


def _list_prices(options: argparse.Namespace) -> int:
    from pytest_gpuperf.report.cost import price_table
    from pytest_gpuperf.store.prices import read_prices

    table = price_table(read_prices(options.prices))
    if options.format == "json":
        titles = ("instance", "gpu", "count", "usd_per_hour", "date", "source")
        print(json.dumps([dict(zip(titles, row, strict=True)) for row in table.rows], indent=2))
    else:
        print("\n".join(table.as_markdown() if options.format == "markdown" else table.as_text()))
    return 0


def _demand(options: argparse.Namespace) -> Demand | None:
    """What is to be served; None where nothing was asked for.

    Raises:
        GpuperfError: the options don't make one.
    """
    from pytest_gpuperf.model import Demand

    budget = {name: limit for name in _QUANTILES if (limit := getattr(options, name)) is not None}
    if options.qps is None and options.ips is None:
        if budget or options.headroom or options.curve:
            raise GpuperfError("A budget, headroom or curve is for a load: write how much with --qps N (or --ips N).")
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


def _find(
    stored: Sequence[StoredRecord], prices: Sequence[Price], demand: Demand | None, options: argparse.Namespace
) -> _Found:
    from pytest_gpuperf.analysis.cost import offers, point_costs
    from pytest_gpuperf.analysis.knee import knee
    from pytest_gpuperf.analysis.operating import operating_points
    from pytest_gpuperf.analysis.prices import cheapest
    from pytest_gpuperf.model import curves_of

    whole = operating_points([one.record for one in stored])
    found = replace(whole, points=tuple(point for point in whole.points if options.sweep in point.sweep))
    runs = [run for one in stored for run in one.record.runs if run.complete]
    curves = [curve for curve in curves_of(runs) if options.sweep in curve.name]
    priced = cheapest(prices, found.key)
    knees = [(curve.name, knee(curve.points)) for curve in curves]
    return _Found(
        stored,
        found,
        priced[0] if priced else None,
        point_costs(curves, found.key, prices),
        tuple((sweep, point.load) for sweep, point in knees if point is not None),
        tuple(offers(found, prices, demand)) if demand else (),
    )


# Rendering


def _table(found: Sequence[_Found], demand: Demand | None, curve: bool) -> list[str]:
    lines: list[str] = []
    for test, group in _by_test(found):
        lines += ["", test] if lines else [test]
        for title, table in _tables(group, demand, curve):
            lines += [f"  {title}", *table.as_text("    ")]
        lines += [f"  {note}" for note in _notes(group, demand)]
    return lines


def _markdown(found: Sequence[_Found], demand: Demand | None, curve: bool) -> list[str]:
    lines = []
    for test, group in _by_test(found):
        lines += [f"### {escape.code(test)}", ""]
        for title, table in _tables(group, demand, curve):
            lines += [f"**{escape.code(title)}**", "", *table.as_markdown(), ""]
        lines += [f"* {escape.code(note)}" for note in _notes(group, demand)] + [""]
    return lines[:-1]


def _by_test(found: Sequence[_Found]) -> list[tuple[str, list[_Found]]]:
    groups: dict[str, list[_Found]] = {}
    for one in found:
        groups.setdefault(one.measured.test, []).append(one)
    return list(groups.items())


def _tables(group: Sequence[_Found], demand: Demand | None, curve: bool) -> list[tuple[str, Any]]:
    from pytest_gpuperf.report.cost import cost_table, curve_table, demand_line, offer_table

    tables = []
    if demand is None:
        for one in group:
            if one.costs:
                first = one.costs[0]
                title = f"{one.device}, {first.instance} at ${first.usd_per_hour:g}/hour"
                tables.append((title, cost_table(one.costs, one.knees)))
        return tables
    offers = [offer for one in group for offer in one.offers]
    if any(offer.fleet for offer in offers):
        tables.append((demand_line(demand), offer_table(offers, demand)))
    # Of the instance types of one device, the cheapest: the others' curves are the same at other prices.
    curves = [offer for one in group for offer in one.offers if offer.curve and offer.price == one.price]
    if curve and curves:
        tables.append(("price against latency, whatever the budget", curve_table(curves, demand)))
    return tables


def _notes(group: Sequence[_Found], demand: Demand | None) -> list[str]:
    """What the numbers rest on."""
    from pytest_gpuperf.report.cost import demand_line, price_line, spread_line

    fleets = [offer.fleet for one in group for offer in one.offers if offer.fleet]
    lines = []
    if demand and not fleets:
        lines.append(f"nothing measured and priced serves {demand_line(demand)}")
    for one in group:
        lines += dict.fromkeys(f"{one.device}: {offer.refusal}" for offer in one.offers if offer.refusal)
        if not demand and one.price is None:
            lines.append(f"{one.device}: no price of it; add a row to a table of yours and name it with --prices")
        lines += [f"{one.device}: record {each}" for each in map(_record_line, one.stored)]
    names = list(demand.budget_ns) if demand else []
    lines += dict.fromkeys(
        f"{offer.device}: {spread_line(offer.fleet.at, names or ['p90'])}"
        for one in group
        for offer in one.offers
        if offer.fleet
    )
    lines += [f"{one.device}: left out: {reason}" for one in group for reason in one.measured.left_out]
    prices = [fleet.price for fleet in fleets] if demand else [one.price for one in group if one.price]
    lines += dict.fromkeys(f"price: {price_line(price)}" for price in prices)
    if fleets:
        lines += ["a month has 730 hours", _ASSUMED]
        lines += [_CLOSED] if any(fleet.at.point.concurrency for fleet in fleets) else []
        lines += [_ANY_BATCH] if demand and demand.batch_size is None else []
    return lines


def _record_line(stored: StoredRecord) -> str:
    record = stored.record
    commit = f", commit {record.commit[:8]}" if record.commit else ""
    gate = "" if record.gate == "passed" else f", gate {record.gate}"
    return f"{record.id} of {minute_text(record.created_utc)} UTC{commit}{gate}"


def _json(found: Sequence[_Found], demand: Demand | None, _curve: bool) -> list[str]:
    document = {"demand": to_plain(demand), "tests": [_document(one) for one in found], "hours_per_month": 730}
    return [json.dumps(document, indent=2, allow_nan=False)]


def _document(one: _Found) -> dict[str, Any]:
    return {
        "test": one.measured.test,
        "device": one.device,
        "key": to_plain(one.measured.key),
        "records": [
            {"id": each.record.id, "created_utc": each.record.created_utc, "commit": each.record.commit}
            for each in one.stored
        ],
        "price": to_plain(one.price),
        "points": [
            {**to_plain(cost), "label": cost.point.label, "knee": (cost.sweep, cost.point) in one.knees}
            for cost in one.costs
        ],
        "left_out": list(one.measured.left_out),
        "offers": to_plain(one.offers),
    }


def to_plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    from pytest_gpuperf.model.codec import to_builtins

    return to_builtins(value)


# Options


def _positive(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 1e12:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0, for example 100")
    return number


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= 10**9 or len(text) > 10:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number, 1 or more")
    return int(text)


def _share(text: str) -> float:
    share = _number(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= share <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: write a share of 0 or more, for example 30% or 0.3")
    return share


def _latency(text: str) -> float:
    match = _LATENCY.fullmatch(text.replace(" ", ""))
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write a time with its unit (us, ms, s), for example 200ms")
    return float(match[1]) * _UNITS[match[2]]


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write a day, for example 2026-01-31") from None


def _number(text: str) -> float:
    """NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
