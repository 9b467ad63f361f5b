"""Values: what the gate compares, one number for each run, load point and metric of a record.

All decisions work on these values, so that our records, plain numbers of another load tool, and the sides of a duet are
judged by the same rule. A value is the log of its statistic, with the sign that makes larger worse.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_gpuperf.analysis.quantiles import quantile_logs
from pytest_gpuperf.model import (
    GATED,
    QUANTILES,
    LoadPoint,
    NamedPoint,
    PointFigures,
    Record,
    Run,
    Window,
    windows_by_point,
)

#: Metrics that can be compared, and the unit of their numbers.
METRICS = {
    "p50": "ns",
    "p90": "ns",
    "p95": "ns",
    "p99": "ns",
    "throughput": "inferences/s",
    "energy": "j",
    "memory": "bytes",
    "host_memory": "bytes",
}
#: Factors that convert numbers of other units, by the metric's unit. Rates have none.
UNITS: Mapping[str, Mapping[str, float]] = {
    "ns": {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9},
    "j": {"j": 1.0, "mj": 1e-3},
    "bytes": {"bytes": 1.0},
}
#: Part of a disturbance that remains in values relative to the anchor: records in which other processes took 36 to 79%
#: of the CPU differed by 28 to 48%, and by 12 to 17% relative to the anchor (docs/numbers.md).
_UNCANCELLED = 0.45
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
    return -1 if metric == "throughput" else 1


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
    return replace(
        record_values(record.id, series, runs),
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
                value = sign(name_of_metric) * _log(figure * factor)
                series.setdefault((sweep, NamedPoint(label), name_of_metric), []).append((value, 0.0))
    return record_values(name, series, {sweep: len(runs)})


def without_unit(metric: str) -> tuple[str, float]:
    """Return the name of a metric without its unit, and the factor of that unit: ``p50`` and 1e6 for ``p50_ms``.

    The name of an unknown metric or unit is returned as it is, so that another unit is another metric.
    """
    stem, _, unit = metric.rpartition("_")
    factors = UNITS.get(METRICS.get(stem, ""), {})
    return (stem, factors[unit]) if unit in factors else (metric, 1.0)


def window_logs(groups: Sequence[Sequence[Window]], metrics: Iterable[str]) -> list[dict[str, float]]:
    """Return the values of each group of windows of one load point (``PointFigures``).

    A value is NaN if too few requests support it; a metric that this machine can't measure is absent.
    """
    wanted = frozenset(metrics)
    quantiles = {metric: quantile for metric, quantile in QUANTILES.items() if metric in wanted}
    table = quantile_logs([[window.latency for window in group] for group in groups], list(quantiles.values()))
    values = [dict(zip(quantiles, row, strict=True)) for row in table.tolist()]
    for logs, group in zip(values, groups, strict=True):
        figures = PointFigures(tuple(group))
        for metric in wanted & _FIGURES.keys():
            if (figure := _FIGURES[metric](figures)) is not None:
                logs[metric] = sign(metric) * _log(figure)
    return values


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


def _log(figure: float) -> float:
    """Return the logarithm; NaN, which never gates, where there is none."""
    return math.log(figure) if 0 < figure < math.inf else math.nan


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
    """Return how far other processes may have moved a value, as a standard deviation of its log.

    Work that shares the cores in proportion takes ``1 / (1 - share)`` times as long. The result is bounded: beyond some
    load the share says little about a single target, and a threefold slowdown must be detectable on a busy machine.

    Where a single thread calls and computes, its own wait for a CPU is known. That is not bounded: it says how much
    longer this thread took, and a slower target does not wait more. Throughput drops by the mean wait of a call; a
    quantile rises by no more than the mean wait divided by the share of the calls beyond it (Markov's inequality), and
    by that much where the wait meets those calls alone.
    """
    shared = min(-math.log1p(-min(figures.others_cpu_share, 0.99)), DISTURBANCE_LIMIT)
    waited = min(figures.caller_wait_share, 0.99)
    return max(shared, math.log1p(waited / (1 - waited) / (1 - QUANTILES.get(metric, 0.0))))
