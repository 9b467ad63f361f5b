"""Values: what the gate compares, one number for each run, load point and metric of a record.

All decisions work on these values, so that our records, plain numbers of another load tool, and the sides of a duet are
judged by the same rule. A value is the log of its figure, with the sign that makes larger worse. A share has no useful
log, since the usual share of failed requests is 0: its value is the share itself, so that a difference of values is one
of percentage points. That of two logs is about the relative change, so minimum effect and equivalence apply to both.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_gpuperf.analysis.quantiles import quantile_logs
from pytest_gpuperf.model import (
    GATED,
    START,
    TIME_UNITS,
    CommonMode,
    Histogram,
    LoadPoint,
    Metric,
    NamedPoint,
    PointFigures,
    Record,
    Run,
    StartTimes,
    Window,
    is_share,
    metric_of,
    windows_by_point,
    worse_sign,
)

#: Factors that convert numbers of other units, by the metric's unit. Rates have none.
UNITS: Mapping[str, Mapping[str, float]] = {
    "ns": TIME_UNITS,
    "j": {"j": 1.0, "mj": 1e-3},
    "bytes": {"bytes": 1.0},
    "share": {"share": 1.0, "percent": 0.01},
}
#: Part of a disturbance that remains in values relative to the anchor: records in which other processes took 36 to 79%
#: of the CPU differed by 28 to 48%, and by 12 to 17% relative to the anchor (docs/numbers.md).
_UNCANCELLED = 0.45
#: Largest log of a figure or a ratio: beyond it, it would leave the range of floats.
_LARGEST_LOG = 700.0
#: Metrics that a faster machine improves in proportion: these can be anchored.
_ANCHORABLE = frozenset({"p50", "p90", "p95", "p99", "throughput"})
#: Most that other processes on the CPU can add to the standard deviation of a value's log. On traces of a machine that
#: compiled and tested during the measurement, p90 moved by up to 0.6 and throughput by 0.3; see
#: benchmarks/gate_on_traces.py.
DISTURBANCE_LIMIT = 0.2

SeriesPoint = LoadPoint | NamedPoint
#: Sweep, load point (None for the mean over the sweep), metric.
SeriesKey = tuple[str, SeriesPoint | None, str]
#: Values of each run, with the standard deviation to add for the CPU that others took.
Series = dict[SeriesKey, list[tuple[float, float]]]


@dataclass(frozen=True)
class Values:
    """One metric of one load point in one record, by run.

    ``disturbance`` is the standard deviation to add for the CPU that other processes used.
    """

    runs: tuple[float, ...]
    disturbance: float = 0.0


@dataclass(frozen=True)
class RecordValues:
    """All values of one record.

    Attributes:
        values: Series for which every run has a finite number.
        left_out: Series that some run measured and some run lacks: too few requests for a quantile, NaN, 0.
        anchored: Values relative to the anchor, of those ``values`` that have an anchor.
        device: Identity of the very device, not its model; empty if unknown.
        invocation: Identity of the invocation, which all its tests share; empty if unknown.
    """

    id: str
    values: Mapping[SeriesKey, Values]
    left_out: frozenset[SeriesKey] = field(default_factory=frozenset)
    anchored: Mapping[SeriesKey, Values] = field(default_factory=dict)
    device: str = ""
    invocation: str = ""

    @property
    def points(self) -> set[tuple[str, SeriesPoint | None]]:
        """Sweeps and load points."""
        return {(sweep, point) for sweep, point, _ in {*self.values, *self.left_out}}


def sign(metric: str) -> int:
    """Return -1 for a metric of which more is better, else 1."""
    return worse_sign(metric)


def value_of(metric: str, figure: float) -> float:
    """Return the value of a figure; NaN, which never gates, where there is none."""
    if is_share(metric):
        return sign(metric) * figure if 0 <= figure <= 1 else math.nan
    return sign(metric) * (math.log(figure) if 0 < figure < math.inf else math.nan)


def figure_of(metric: str, value: float) -> float:
    """Return the figure of a value."""
    return sign(metric) * value if is_share(metric) else _exp(sign(metric) * value)


def ratio_of(metric: str, difference: float) -> float:
    """Return the ratio of two figures whose values differ; of two shares, 1 + their difference."""
    change = sign(metric) * difference
    return 1 + min(max(change, -1.0), 1.0) if is_share(metric) else _exp(change)


def without_movement(values: RecordValues, common: Sequence[CommonMode]) -> RecordValues:
    """Return the values of a record without what all tests of its invocation changed by together."""
    moved = {
        mode.metric: sign(mode.metric) * (mode.ratio - 1 if is_share(mode.metric) else math.log(mode.ratio))
        for mode in common
    }
    shifted = {
        key: replace(each, runs=tuple(value - moved.get(key[2], 0.0) for value in each.runs))
        for key, each in values.values.items()
    }
    return replace(values, values=shifted)


def _exp(value: float) -> float:
    """Return the exponential of a value, without leaving the range of floats."""
    return math.exp(min(max(value, -_LARGEST_LOG), _LARGEST_LOG))


def worsening_of(metric: str, difference: float) -> float:
    """Return a difference of values as a worsening: 0.05 is 5%, or 5 percentage points of a share."""
    return min(difference, 1.0) if is_share(metric) else math.expm1(difference)


def point_name(sweep: str, point: SeriesPoint | None) -> str:
    """Return the readable text ``sweep: point``."""
    label = point.label if point else "whole sweep"
    return f"{sweep}: {label}" if sweep else label


def values_of(record: Record, metrics: Iterable[str] = GATED) -> RecordValues:
    """Return the values of each metric that all complete runs of a record support."""
    complete = [run for run in record.runs if run.complete]
    groups = [(run, point, windows) for run in complete for point, windows in windows_by_point([run]).items()]
    series = _series(groups, window_logs([windows for *_, windows in groups], metrics))
    anchored_groups = [group for group in groups if group[0].anchors]
    anchorable = _ANCHORABLE.intersection(metrics)
    target_logs = window_logs([windows for *_, windows in anchored_groups], anchorable)
    anchor_logs = window_logs([_anchor_windows(run, windows) for run, _, windows in anchored_groups], anchorable)
    pairs = zip(target_logs, anchor_logs, strict=True)
    ratios = [{metric: value - anchor[metric] for metric, value in target.items()} for target, anchor in pairs]
    runs = Counter(run.sweep for run in complete)
    anchored = record_values(record.id, _series(anchored_groups, ratios), runs, _UNCANCELLED)
    loaded = record_values(record.id, series, runs)
    starts, unknown = start_values(complete, metrics)
    return replace(
        loaded,
        values={**loaded.values, **starts},
        left_out=loaded.left_out | unknown,
        anchored=anchored.values,
        device=record.device_id,
        invocation=record.invocation,
    )


def _series(groups: Iterable[tuple[Run, LoadPoint, list[Window]]], group_logs: Iterable[Mapping[str, float]]) -> Series:
    series: Series = {}
    for (run, point, windows), logs in zip(groups, group_logs, strict=True):
        figures = PointFigures(tuple(windows))
        for metric, value in logs.items():
            series.setdefault((run.sweep, point, metric), []).append((value, _disturbance(figures, metric)))
    return series


def start_values(runs: Sequence[Run], metrics: Iterable[str]) -> tuple[dict[SeriesKey, Values], frozenset[SeriesKey]]:
    """Return the values of what is measured at the starts, and the series that no run of their sweep has.

    Each start that has such a time is a value: a record has a single cold start, and often no build.
    """
    values: dict[SeriesKey, Values] = {}
    unknown: set[SeriesKey] = set()
    sweeps = dict.fromkeys(run.sweep for run in runs)
    for sweep, metric in itertools.product(sweeps, sorted(_START_TIMES.keys() & frozenset(metrics))):
        starts = [run.start for run in runs if run.sweep == sweep]
        logs = {index: log for index, start in enumerate(starts) if math.isfinite(log := start_log(start, metric))}
        if logs:
            disturbance = sum(_disturbance_of(starts[index].others_cpu_share) for index in logs) / len(logs)
            values[sweep, START, metric] = Values(tuple(logs.values()), disturbance)
        else:
            unknown.add((sweep, START, metric))
    return values, frozenset(unknown)


def start_log(start: StartTimes, metric: str) -> float:
    """Return the value of a start; NaN if the start has no such time."""
    time_s = _START_TIMES[metric](start)
    return math.nan if time_s is None else value_of(metric, time_s * 1e9)


#: What later starts have in common is compared without the first, whose caches are cold.
_START_TIMES: Mapping[str, Callable[[StartTimes], float | None]] = {
    "startup": lambda start: None if start.cold else start.startup_s,
    "cold_startup": lambda start: start.startup_s if start.cold else None,
    "model_load": lambda start: None if start.cold else start.model_load_s,
    "engine_build": lambda start: start.engine_build_s,
}


def _anchor_windows(run: Run, windows: Sequence[Window]) -> list[Window]:
    """Return the anchor's windows next to some windows of a run."""
    anchors = dict(zip(map(id, run.windows), run.anchors, strict=True))
    return [anchors[id(window)] for window in windows]


def values_from_numbers(
    name: str, runs: Sequence[Mapping[str, Mapping[str, float]]], *, sweep: str = ""
) -> RecordValues:
    """Return the values of plain numbers.

    Args:
        name: Name of the record.
        runs: Statistics of each run, by load point and metric; a metric may carry a unit, for example ``p50_ms``.
    """
    series: Series = {}
    for run in runs:
        for label, figures in run.items():
            for metric, figure in figures.items():
                name_of_metric, factor = without_unit(metric)
                value = value_of(name_of_metric, figure * factor)
                series.setdefault((sweep, NamedPoint(label), name_of_metric), []).append((value, 0.0))
    return record_values(name, series, {sweep: len(runs)})


def without_unit(metric: str) -> tuple[str, float]:
    """Return the name of a metric without its unit, and the factor of that unit: ``p50`` and 1e6 for ``p50_ms``.

    The name of an unknown metric or unit is returned as it is, so that another unit is another metric.
    """
    stem, _, unit = metric.rpartition("_")
    known = metric_of(stem)
    factors = UNITS.get(known.unit, {}) if known is not None else {}
    return (stem, factors[unit]) if unit in factors else (metric, 1.0)


def window_logs(groups: Sequence[Sequence[Window]], metrics: Iterable[str]) -> list[dict[str, float]]:
    """Return the values of each group of windows of one load point (``PointFigures``).

    A value is NaN if too few requests support it; a metric that this machine can't measure is absent.
    """
    wanted = [metric for name in sorted(metrics) if (metric := metric_of(name)) is not None]
    latencies = [[window.latency for window in group] for group in groups]
    values = _quantile_values(latencies, [metric for metric in wanted if not metric.of_first])
    if any(metric.of_first for metric in wanted):
        firsts = [[window.first for window in group if window.first is not None] for group in groups]
        first_values = _quantile_values(firsts, [metric for metric in wanted if metric.of_first])
        values = [{**logs, **more} for logs, more in zip(values, first_values, strict=True)]
    for logs, group in zip(values, groups, strict=True):
        figures = PointFigures(tuple(group))
        for metric in wanted:
            figure = figures.goodput_share(metric.budget_ns) if metric.budget_ns else None
            if metric.name in _FIGURES:
                figure = _FIGURES[metric.name](figures)
            if figure is not None:
                logs[metric.name] = value_of(metric.name, figure)
    return values


def _quantile_values(groups: Sequence[Sequence[Histogram]], metrics: Sequence[Metric]) -> list[dict[str, float]]:
    quantiles = {metric.name: metric.quantile for metric in metrics if metric.quantile is not None}
    table = quantile_logs(groups, list(quantiles.values()))
    return [dict(zip(quantiles, row, strict=True)) for row in table.tolist()]


def _energy_j(figures: PointFigures) -> float | None:
    """Return the joules per inference of all devices; NaN if the windows measured one of them by different methods."""
    parts = [figures.energy_j(source) for source in figures.energy_sources]
    known = [part for part in parts if part is not None]
    return (sum(known) if len(known) == len(parts) else math.nan) if parts else None


def _memory_bytes(figures: PointFigures) -> float | None:
    """Return the peak of the target's device memory; that of the whole device where the target's is unknown."""
    memory = figures.memory
    if memory is None:
        return None
    return memory.device_bytes if memory.target_bytes is None else memory.target_bytes


_FIGURES: Mapping[str, Callable[[PointFigures], float | None]] = {
    "throughput": lambda figures: figures.throughput,
    "energy": _energy_j,
    "memory": _memory_bytes,
    "host_memory": lambda figures: figures.memory.host_bytes if figures.memory else None,
    "failed": lambda figures: figures.failed_share,
}


def energy_methods(record: Record) -> frozenset[str]:
    """Return how a record's energy was measured."""
    return frozenset(energy.method for run in record.runs for window in run.windows for energy in window.energy)


def comparable_values(record: Record, method: frozenset[str], metrics: Iterable[str]) -> RecordValues:
    """Return the values of a record that can be compared with those of a candidate.

    Args:
        method: How the candidate's energy was measured: energy that was measured otherwise is left out.
    """
    values = values_of(record, metrics)
    return values if energy_methods(record) == method else without_metric(values, "energy")


def without_metric(values: RecordValues, metric: str) -> RecordValues:
    """Return a record's values without a metric."""
    kept = {key: value for key, value in values.values.items() if key[2] != metric}
    return replace(values, values=kept, left_out=frozenset(key for key in values.left_out if key[2] != metric))


def record_values(name: str, series: Series, runs: Mapping[str, int], uncancelled: float = 1.0) -> RecordValues:
    """Return the values of a record: the series that every run of their sweep has.

    Args:
        runs: Number of complete runs of each sweep.
        uncancelled: Part of a disturbance that remains in the values.
    """
    values, left_out = {}, set()
    for key, members in series.items():
        if len(members) == runs[key[0]] and all(math.isfinite(value) for value, _ in members):
            disturbance = sum(disturbance for _, disturbance in members) / len(members)
            values[key] = Values(tuple(value for value, _ in members), uncancelled * disturbance)
        else:
            left_out.add(key)
    return RecordValues(name, values, frozenset(left_out))


def _disturbance(figures: PointFigures, metric: str) -> float:
    """Return how far other processes may have moved a value, as its standard deviation.

    Work that shares the cores in proportion takes ``1 / (1 - share)`` times as long. The result is bounded: beyond some
    load the share says little about a single target, and a threefold slowdown must be detectable on a busy machine.

    Where a single thread calls and computes, its own wait for a CPU is known. That is not bounded: it says how much
    longer this thread took, and a slower target does not wait more. Throughput drops by the mean wait of a call; a
    quantile rises by no more than the mean wait divided by the share of the calls beyond it (Markov's inequality), and
    by that much where the wait meets those calls alone.

    A goodput moves by the requests whose latency is so close to the budget. Requests don't fail in proportion to it.
    """
    known = metric_of(metric)
    if metric == "failed":
        return 0.0
    waited = min(figures.caller_wait_share, 0.99)
    beyond = 1 - (known.quantile or 0.0) if known is not None else 1.0
    disturbance = max(_disturbance_of(figures.others_cpu_share), math.log1p(waited / (1 - waited) / beyond))
    if known is None or not known.budget_ns or not disturbance:
        return disturbance
    edges = (known.budget_ns * math.exp(end * disturbance) for end in (-1, 1))
    least, most = (figures.goodput_share(edge) for edge in edges)
    return (most - least) / 2


def _disturbance_of(others_cpu_share: float | None) -> float:
    return min(-math.log1p(-min(others_cpu_share or 0.0, 0.99)), DISTURBANCE_LIMIT)
