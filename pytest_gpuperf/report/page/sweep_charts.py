"""The charts of a sweep over its load points: throughput, latency, energy, memory and cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import attrgetter

from pytest_gpuperf.model import BudgetMissed, Curve, CurvePoint, LoadPoint, PointCost, ReportedTest, Row, Verdict
from pytest_gpuperf.report.comparison_table import side_names
from pytest_gpuperf.report.figures import interval_with_level, metric_unit, rate
from pytest_gpuperf.report.page.chart import BASE, HEAD, Chart, ChartAxis, ReferenceLine, Series, View, positions

CHANGED = (Verdict.REGRESSED, Verdict.INHERITED, Verdict.IMPROVED)
_QUANTILES = ("p90", "p50", "p95", "p99")
_MEMORY = (
    ("target_memory_bytes", "device memory of the target"),
    ("device_memory_bytes", "device memory in use"),
    ("host_memory_bytes", "host memory of the target"),
)
_ENERGY = (("gpu_energy_j", "GPU energy"), ("cpu_energy_j", "CPU energy"))

PointValue = Callable[[CurvePoint], float | None]


@dataclass(frozen=True)
class SweepView:
    """A sweep of a test, with the sweep of the baseline or reference if there is one."""

    reported: ReportedTest
    curve: Curve

    @cached_property
    def base(self) -> Curve | None:
        """The curve of the baseline or reference; None if there is none."""
        return next((curve for curve in self.reported.base_curves if curve.name == self.curve.name), None)

    @cached_property
    def sides(self) -> tuple[str, str]:
        return side_names(duet=self.reported.comparison.mode == "duet")

    @cached_property
    def points(self) -> tuple[LoadPoint, ...]:
        """Load points of both sides, those of the candidate first."""
        both = [*self.curve, *(self.base or ())]
        return tuple(dict.fromkeys(point.load for point in both))

    @cached_property
    def index(self) -> dict[LoadPoint, int]:
        return {point: index for index, point in enumerate(self.points)}

    @cached_property
    def batched(self) -> bool:
        """Whether only the batch size is swept."""
        loads = {point.concurrency or point.rate for point in self.points}
        return len(loads) == 1 and len({point.batch_size for point in self.points}) > 1

    def position(self, point: LoadPoint) -> float:
        """Return the swept parameter of a load point as a number."""
        return float(point.batch_size) if self.batched else float(point.concurrency or point.rate)

    @cached_property
    def axis(self) -> tuple[ChartAxis, dict[float, float]]:
        """Axis of the swept parameter, and the position of each value on it."""
        if self.batched:
            label = "batch size"
        else:
            label = "concurrency" if all(point.concurrency for point in self.points) else "requests per second"
        return positions([self.position(point) for point in self.points], label)

    def groups(self) -> list[tuple[int, str]]:
        """Return batch sizes with a line of their own and its colour; a single 0 if there is one line only."""
        if self.batched:
            return [(0, HEAD)]
        sizes = sorted({point.batch_size for point in self.points})
        return [(0, HEAD)] if len(sizes) == 1 else [(size, f"g{index % 6}") for index, size in enumerate(sizes)]

    def short(self) -> tuple[str, ...]:
        return tuple(f"{self.position(point):g}" for point in self.points)

    def rows(self, point: LoadPoint) -> list[Row]:
        """Return the rows of a load point."""
        return self._rows.get(point, [])

    @cached_property
    def _rows(self) -> dict[object, list[Row]]:
        rows: dict[object, list[Row]] = {}
        for row in self.reported.comparison.rows:
            if row.sweep == self.curve.name:
                rows.setdefault(row.point, []).append(row)
        return rows

    def remarks(self, metrics: Sequence[str]) -> dict[int, str]:
        """Return the verdicts of metrics at each point that has one other than unchanged."""
        remarks: dict[int, list[str]] = {}
        for index, point in enumerate(self.points):
            for row in self.rows(point):
                if row.metric in metrics and row.verdict is not Verdict.UNCHANGED:
                    remarks.setdefault(index, []).append(f"{row.metric} {interval_with_level(row)} {row.verdict}")
        return {index: "; ".join(texts) for index, texts in remarks.items()}

    def suspect(self) -> LoadPoint | None:
        """Return the load point to look at first: the worst, else the one of the highest throughput."""
        changed = [(point, row) for point in self.points for row in self.rows(point) if row.verdict in CHANGED]
        if changed:
            return max(changed, key=lambda pair: (pair[1].verdict is Verdict.REGRESSED, abs(pair[1].worsening)))[0]
        best = max(self.curve, key=lambda point: point.throughput, default=None)
        return best.load if best else None

    def lines(self, name: str, x: PointValue | None, y: PointValue, quantile: str = "") -> Iterator[Series]:
        """Yield a line for each side and batch size, the baseline first, so that the candidate lies on top.

        Args:
            x: Returns the position on the x axis; None uses the swept parameter.
            quantile: Quantile that needs enough requests for a point to be drawn as a precise one.
        """
        positions = self.axis[1]
        several = len(self.groups()) > 1
        for side, curve in ((BASE, self.base), (HEAD, self.curve)):
            for size, color in self.groups():
                members = [point for point in curve or () if size in (0, point.batch_size)]
                if x is None or self.batched:
                    members.sort(key=lambda point: self.position(point.load))
                kept = [(p, value) for p in members if (value := y(p)) is not None and (x is None or x(p) is not None)]
                if not kept:
                    continue
                side_name = self.sides[0 if side == BASE else 1]
                yield Series(
                    name=name,
                    side=side,
                    color=color if several or side == HEAD else BASE,
                    x=tuple(positions[self.position(p.load)] if x is None else x(p) or 0.0 for p, _ in kept),
                    y=tuple(value for _, value in kept),
                    legend=f"batch {size}" if several and side == HEAD else side_name,
                    labels=tuple(self.index[p.load] for p, _ in kept),
                    imprecise=tuple(i for i, (p, _) in enumerate(kept) if quantile and quantile not in p.supported),
                )


def throughput(sweep: SweepView) -> Chart | None:
    """Chart throughput against latency, with a point for each load point."""
    views = []
    for name, scale, unit in _latencies(sweep):
        series = tuple(sweep.lines("throughput", _latency(name, scale), lambda point: point.throughput, name))
        axis = ChartAxis(f"{name} latency ({unit})", unit)
        views.append(View(name, axis, ChartAxis("inferences per second", "inf/s"), series, show_x=name))
    title = "Throughput against latency"
    return _chart(sweep, "throughput", title, views, ("p90", "throughput"), choice_label="latency", short=sweep.short())


def latency(sweep: SweepView) -> Chart | None:
    """Chart latency against load, with the budgets and the highest load within each."""
    views = []
    for name, scale, unit in _latencies(sweep):
        series = tuple(sweep.lines(name, None, _latency(name, scale), name))
        budgets = sorted({limit.limit_ms for limit in sweep.reported.record.limits if limit.name == name})
        rules = tuple(ReferenceLine(f"budget {limit:g} ms", "budget", y=limit * 1e6 / scale) for limit in budgets)
        best = [(limit, _best_within(sweep.curve, name, limit)) for limit in budgets]
        marked = tuple(sweep.index[point.load] for _, point in best if point)
        note = " ".join(_budget_note(name, limit, point) for limit, point in best)
        axis = ChartAxis(f"{name} latency ({unit})", unit)
        views.append(View(name, sweep.axis[0], axis, series, rules, marked, note))
    # A quantile with a budget is what the author of the test looks at first.
    chosen = next((index for index, view in enumerate(views) if view.rules), 0)
    title = f"Latency against {sweep.axis[0].label}"
    return _chart(sweep, "latency", title, views, _QUANTILES, choice_label="latency", chosen=chosen)


def _latencies(sweep: SweepView) -> list[tuple[str, float, str]]:
    """Return quantiles with the length and name of the unit that all their points share."""
    if not sweep.curve.measured:
        return []
    highest = {name: max((getattr(point, f"{name}_ns") for point in sweep.curve), default=0.0) for name in _QUANTILES}
    return [(name, *metric_unit("latency", slowest)) for name, slowest in highest.items() if slowest > 0]


def _latency(name: str, scale: float) -> PointValue:
    return lambda point: getattr(point, f"{name}_ns") / scale if point.requests else None


def _best_within(curve: Curve, name: str, limit_ms: float) -> CurvePoint | None:
    try:
        return curve.best(**{f"{name}_ms": limit_ms})
    except BudgetMissed:
        return None


def _budget_note(name: str, limit_ms: float, point: CurvePoint | None) -> str:
    if point is None:
        return f"No load point meets {name} ≤ {limit_ms:g} ms."
    return f"Highest load within {name} ≤ {limit_ms:g} ms: {point.load.label}, {rate(point.throughput)} inf/s."


def energy(sweep: SweepView) -> Chart | None:
    """Chart energy per inference."""
    methods = sorted({point.energy_method for point in sweep.curve if point.energy_method})
    note = f"Measured by {', '.join(methods)}." if methods else ""
    views = [
        View(name.removesuffix(" energy"), sweep.axis[0], ChartAxis(f"{unit} per inference", unit), series, note=note)
        for name, unit, series in _resources(sweep, _ENERGY, "energy")
    ]
    return _chart(sweep, "energy", "Energy per inference", views, ("energy",), choice_label="device")


def memory(sweep: SweepView) -> Chart | None:
    """Chart peak memory."""
    views = [
        View(name, sweep.axis[0], ChartAxis(f"{name} ({unit})", unit), series)
        for name, unit, series in _resources(sweep, _MEMORY, "memory")
    ]
    return _chart(sweep, "memory", "Peak memory", views, ("memory", "host_memory"), choice_label="memory")


def _resources(
    sweep: SweepView, fields: Sequence[tuple[str, str]], metric: str
) -> Iterator[tuple[str, str, tuple[Series, ...]]]:
    """Yield the name, the unit and the lines of each field that some point has."""
    for field, name in fields:
        pick = attrgetter(field)
        values = [value for point in sweep.curve if (value := pick(point)) is not None]
        if values:
            scale, unit = metric_unit(metric, max(values))
            yield name, unit, tuple(sweep.lines(name, None, partial(_scaled, pick=pick, scale=scale)))


def _scaled(point: CurvePoint, *, pick: PointValue, scale: float) -> float | None:
    value = pick(point)
    return None if value is None else value / scale


def cost(sweep: SweepView) -> Chart | None:
    """Chart the cost of a million inferences against latency, for each priced machine."""
    costs = [cost for cost in sweep.reported.costs if cost.sweep == sweep.curve.name and cost.point in sweep.index]
    if not costs:
        return None
    scale, unit = metric_unit("latency", max(cost.p90_ns for cost in costs))
    series = []
    for index, instance in enumerate(dict.fromkeys(cost.instance for cost in costs)):
        members = [cost for cost in costs if cost.instance == instance]
        members.sort(key=lambda cost: sweep.index[cost.point])
        series.append(_cost_line(sweep, instance, members, scale, f"g{index % 6}"))
    x, y = ChartAxis(f"p90 latency ({unit})", unit), ChartAxis("$ per million inferences", "$")
    note = "; ".join(dict.fromkeys(map(_price, costs))) + "."
    view = View("cost", x, y, tuple(series), note=note, show_x="p90")
    return _chart(sweep, "cost", "Cost against latency", [view], (), short=sweep.short())


def _price(cost: PointCost) -> str:
    where = f" ({cost.price_source}, {cost.price_date})" if cost.price_source else ""
    return f"{cost.instance} at ${cost.usd_per_hour:g} an hour{where}"


def _cost_line(sweep: SweepView, instance: str, members: Sequence[PointCost], scale: float, color: str) -> Series:
    """Return the line of a machine, with a gap between batch sizes."""
    vertices: list[tuple[float, float | None, int]] = []
    several = len(sweep.groups()) > 1
    for before, cost in zip((None, *members), members, strict=False):
        label = sweep.index[cost.point]
        if several and before is not None and before.point.batch_size != cost.point.batch_size:
            vertices.append((cost.p90_ns / scale, None, label))
        vertices.append((cost.p90_ns / scale, cost.usd_per_million, label))
    x, y, labels = zip(*vertices, strict=True)
    return Series(instance, "", color, x, y, legend=instance, labels=labels)


def _chart(
    sweep: SweepView,
    kind: str,
    title: str,
    views: Sequence[View],
    metrics: Sequence[str],
    *,
    choice_label: str = "shown",
    chosen: int = 0,
    short: tuple[str, ...] = (),
) -> Chart | None:
    full = [view for view in views if view.series]
    if not full:
        return None
    labels = tuple(point.label for point in sweep.points)
    chosen = chosen if chosen < len(full) else 0
    return Chart(kind, title, tuple(full), labels, short, sweep.sides, sweep.remarks(metrics), chosen, choice_label)
