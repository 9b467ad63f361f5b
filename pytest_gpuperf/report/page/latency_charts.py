"""The charts of single requests: how their latencies are distributed, and where their time went."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from pytest_gpuperf.model import Histogram, LoadPoint, PointFigures, Run, figures_by_point
from pytest_gpuperf.model.histogram import GAMMA
from pytest_gpuperf.report.figures import metric_unit
from pytest_gpuperf.report.latency_parts import latency_parts
from pytest_gpuperf.report.page.chart import BASE, HEAD, Chart, ChartAxis, ReferenceLine, Series, View
from pytest_gpuperf.report.page.sweep_charts import SweepView

#: Bins of a distribution: enough to show two modes, few enough for a page of a thousand load points.
_BINS = 40
#: Quantiles at the ends of the chart; a single straggler would flatten all other requests.
_RANGE = (0.002, 0.995)

#: Ratio of the slowest to the fastest shown request from which on the axis is logarithmic.
_LONG_TAIL = 6

#: Parts of the mean latency, stacked from below: from the inside of the server outwards.
PARTS = ("compute", "input", "output", "queue", "network", "client")

#: Time of an ensemble's requests outside its steps.
_ELSEWHERE = "network and client"

ByPoint = Mapping[LoadPoint, PointFigures]


def request_charts(sweep: SweepView) -> list[Chart | None]:
    """Return both charts; None for a chart without data."""
    record = sweep.reported.record
    head = sweep_figures(record.runs, sweep.curve.name)
    duet, baseline = sweep.reported.comparison.mode == "duet", sweep.reported.baseline
    base = sweep_figures(record.reference if duet else baseline[0].runs if baseline else (), sweep.curve.name)
    return [distribution(sweep, head, base), breakdown(sweep, head, base)]


def sweep_figures(runs: Sequence[Run], sweep: str) -> dict[LoadPoint, PointFigures]:
    """Return the figures of a sweep by load point."""
    return figures_by_point(run for run in runs if run.sweep == sweep)


def distribution(sweep: SweepView, head: ByPoint, base: ByPoint) -> Chart | None:
    """Chart the distribution of latencies at each load point, both sides overlaid."""
    views: list[View] = []
    suspect = sweep.suspect()
    chosen = 0
    for point in sweep.points:
        sides = {
            side: figures[point].latency
            for side, figures in ((BASE, base), (HEAD, head))
            if point in figures and figures[point].latency.total
        }
        if HEAD not in sides:
            continue
        if point == suspect:
            chosen = len(views)
        views.append(_distribution(sweep, point, sides))
    if not views:
        return None
    labels, choice = tuple(view.name for view in views), "load point"
    title = "Latency distribution"
    return Chart("distribution", title, tuple(views), labels, sides=sweep.sides, chosen=chosen, choice_label=choice)


def _distribution(sweep: SweepView, point: LoadPoint, sides: Mapping[str, Histogram]) -> View:
    low_ns = min(histogram.quantile_ns(_RANGE[0]) for histogram in sides.values())
    high_ns = max(histogram.quantile_ns(_RANGE[1]) for histogram in sides.values())
    high_ns = max(high_ns, low_ns * GAMMA**4)
    scale, unit = metric_unit("latency", high_ns)
    # On a linear axis, a long tail would leave a bin or two to all other requests.
    log = high_ns > _LONG_TAIL * low_ns

    def position(ns: float) -> float:
        return math.log2(ns / scale) if log else ns / scale

    low = position(low_ns)
    width = (position(high_ns) - low) / _BINS
    series, rules = [], []
    for side, histogram in sides.items():
        name = sweep.sides[0 if side == BASE else 1]
        heights = tuple(100 * share for share in shares(histogram, position, low, width))
        series.append(Series("requests", side, side, (low, width), heights, "steps", legend=name, step=0.1))
        for quantile, q in (("p50", 0.5), ("p90", 0.9)):
            at = position(histogram.quantile_ns(q))
            rules.append(ReferenceLine(f"{quantile} {name}", side, x=at, short=quantile if side == HEAD else ""))
    numbers = _round_numbers(low_ns / scale, high_ns / scale) if log else []
    ticks = tuple((math.log2(number), f"{number:g}") for number in numbers)
    return View(
        point.label,
        ChartAxis(f"latency ({unit})", unit, ticks, from_zero=False, log=log),
        ChartAxis("share of requests (%)", "%"),
        tuple(series),
        tuple(rules),
        note=_beyond(sides[HEAD], high_ns),
    )


def _beyond(histogram: Histogram, high_ns: float) -> str:
    counts = zip(histogram.buckets, histogram.counts, strict=True)
    slower = 100 * sum(count for bucket, count in counts if GAMMA**bucket > high_ns) / histogram.total
    beyond = f"; {slower:.2g}% were slower than the chart shows" if slower > 0 else ""
    return f"{histogram.total:,} requests{beyond}."


def _round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, 20, ... within a range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [number for power in powers for first in (1, 2, 5) if low <= (number := first * 10.0**power) <= high]


def shares(
    histogram: Histogram, position: Callable[[float], float], low: float, width: float, bins: int = _BINS
) -> list[float]:
    """Return the share of latencies in each of some bins of equal width.

    The latencies of a bucket are spread evenly over the bins that it overlaps, so that no comb appears if bins are
    narrower than buckets.

    Args:
        position: Returns the position of a latency in ns on the axis.
        low: Position at which the first bin begins.
    """
    heights = [0.0] * bins
    total = histogram.total
    for bucket, count in zip(histogram.buckets, histogram.counts, strict=True):
        begin = (position(GAMMA**bucket) - low) / width
        end = (position(GAMMA ** (bucket + 1)) - low) / width
        for index in range(max(int(begin), 0), min(int(end) + 1, bins)):
            inside = min(end, index + 1) - max(begin, index)
            if inside > 0:
                heights[index] += count / total * inside / (end - begin)
    return heights


def breakdown(sweep: SweepView, head: ByPoint, base: ByPoint) -> Chart | None:
    """Chart the parts of the mean latency at each load point; the bars of the baseline stand on the left."""
    server_parts = _stacked(sweep, head, base, _mean_parts, "server part")
    if server_parts is None:
        return None
    steps = _stacked(sweep, head, base, _mean_steps, "ensemble step")
    views = (server_parts, steps) if steps else (server_parts,)
    labels = tuple(point.label for point in sweep.points)
    return Chart("breakdown", "Where the time goes", views, labels, sides=sweep.sides, choice_label="split by")


def _stacked(
    sweep: SweepView,
    head: ByPoint,
    base: ByPoint,
    parts_of: Callable[[PointFigures], dict[str, float] | None],
    name: str,
) -> View | None:
    """Stack the parts of the mean latency as bars; None if the server reports no times."""
    shown = [point for point in sweep.points if point in head and parts_of(head[point]) is not None]
    if not shown:
        return None
    columns = {
        side: [parts_of(figures[point]) if point in figures else None for point in shown]
        for side, figures in ((BASE, base), (HEAD, head))
    }
    both = any(means is not None for means in columns[BASE])
    known = [means for side in (HEAD, BASE) for means in columns[side] if means is not None]
    scale, unit = metric_unit("latency", max(sum(means.values()) for means in known))
    parts = sorted(dict.fromkeys(part for means in known for part in means), key=lambda part: part == _ELSEWHERE)
    colors = {_ELSEWHERE: "network"} if parts_of is _mean_steps else {name: name for name in PARTS}
    series = []
    for side, column in columns.items():
        shift = (-0.2 if side == BASE else 0.2) if both else 0.0
        for number, part in enumerate(parts):
            kept = [(index, means[part] / scale) for index, means in enumerate(column) if means and part in means]
            if kept:
                color, legend = colors.get(part, f"g{number % 6}"), part if side == HEAD else ""
                x, y = tuple(index + shift for index, _ in kept), tuple(value for _, value in kept)
                labels = tuple(sweep.index[shown[index]] for index, _ in kept)
                series.append(Series(part, side, color, x, y, "bars", legend, labels))
    several = len(sweep.groups()) > 1
    ticks = tuple(
        (float(index), f"{sweep.position(point):g}{f'x{point.batch_size}' if several else ''}")
        for index, point in enumerate(shown)
    )
    x_axis = ChartAxis(sweep.axis[0].label, ticks=ticks, from_zero=False, span=(-0.6, len(shown) - 0.4))
    note = f"The paler bars on the left are the {sweep.sides[0]}." if both else ""
    return View(name, x_axis, ChartAxis(f"mean latency ({unit})", unit), tuple(series), note=note)


def _mean_parts(figures: PointFigures) -> dict[str, float] | None:
    """Return the parts of the mean latency in ns; None if the server reports no times."""
    if figures.server is None or not figures.requests:
        return None
    where = latency_parts(figures)
    # CPU time of the load generator is a part of the time between it and the server.
    client_ns = min(figures.client_cpu_per_request_s * 1e9, where.network_ns)
    return {
        "compute": where.infer_ns,
        "input": where.input_ns,
        "output": where.output_ns,
        "queue": where.queue_ns,
        "network": where.network_ns - client_ns,
        "client": where.send_ns + client_ns,
    }


def _mean_steps(figures: PointFigures) -> dict[str, float] | None:
    """Return the mean latency in ns by steps of an ensemble; None if there are no steps."""
    server = figures.server
    if server is None or not figures.requests or not server.stages or not server.requests:
        return None
    steps = {name: stage.total_ns / server.requests for name, stage in server.stages.items()}
    return {**steps, _ELSEWHERE: max(figures.latency_mean_ns - sum(steps.values()), 0.0)}
