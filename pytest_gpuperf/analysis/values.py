"""What is compared: one number for each run, load point and metric of a record.

Everything that decides works on these values, so a record of ours and plain numbers from another load tool (or one
side of a duet) are judged by the same rule. A value is the log of its statistic, turned so that larger is worse.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_gpuperf.analysis.quantiles import quantile_logs
from pytest_gpuperf.model import LoadPoint, NamedPoint, PointFigures, Record, Run, Window, windows_by_point

#: What can be compared, and the unit of its plain number.
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
#: What a plain number of another unit is multiplied by, by the metric's own unit. A rate has none.
UNITS: Mapping[str, Mapping[str, float]] = {
    "ns": {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9},
    "j": {"j": 1.0, "mj": 1e-3},
    "bytes": {"bytes": 1.0},
}
#: What gates unless the test says otherwise. p95 and p99 take windows longer than most, and memory rarely creeps.
GATED = frozenset({"p50", "p90", "throughput", "energy"})
#: Part of a disturbance that is left in what is relative to the anchor: records in which others took 36 to 79% of the
#: CPU differed by 28 to 48% by themselves, and by 12 to 17% relative to it (docs/numbers.md).
_UNCANCELLED = 0.45
#: What a faster machine makes better by as much: these can be anchored.
_FOLLOWS = frozenset({"p50", "p90", "p95", "p99", "throughput"})
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
#: Most that others on the CPU can add to the standard deviation of a value's log. On traces of a machine that compiled
#: and tested beside the measurement, p90 moved by up to 0.6 and throughput by 0.3; see benchmarks/gate_on_traces.py.
DISTURBANCE_LIMIT = 0.2

SeriesPoint = LoadPoint | NamedPoint
#: Sweep, load point (None: the whole sweep), metric.
SeriesKey = tuple[str, SeriesPoint | None, str]


@dataclass(frozen=True)
class Values:
    """One metric of one point in one record.

    Attributes:
        runs: a value for each run.
        disturbance: standard deviation to be added for what others took of the CPU.
    """

    runs: tuple[float, ...]
    disturbance: float = 0.0


@dataclass(frozen=True)
class RecordValues:
    """All values of one record.

    Attributes:
        values: only what every run has as a finite number.
        left_out: what some run measured, and not every one could tell: too few requests for a quantile, NaN, 0.
        anchored: of those ``values`` that have an anchor: relative to it.
    """

    id: str
    values: Mapping[SeriesKey, Values]
    left_out: frozenset[SeriesKey] = field(default_factory=frozenset)
    anchored: Mapping[SeriesKey, Values] = field(default_factory=dict)

    @property
    def points(self) -> set[str]:
        """Names of the load points, with their sweeps."""
        return {point_name(sweep, point) for sweep, point, _ in {*self.values, *self.left_out}}


def sign(metric: str) -> int:
    """-1 where more is better, else 1."""
    return -1 if metric == "throughput" else 1


def point_name(sweep: str, point: SeriesPoint | None) -> str:
    """``sweep: point``."""
    label = point.label if point else "whole sweep"
    return f"{sweep}: {label}" if sweep else label


def values_of(record: Record, metrics: Iterable[str] = GATED) -> RecordValues:
    """The values of every metric that each of the record's complete runs can support."""
    complete = [run for run in record.runs if run.complete]
    places = [(run, point, windows) for run in complete for point, windows in windows_by_point([run]).items()]
    gathered: dict[SeriesKey, list[tuple[float, float]]] = {}
    ratios: dict[SeriesKey, list[tuple[float, float]]] = {}
    for (run, point, windows), logs in zip(places, window_logs([one for *_, one in places], metrics), strict=True):
        share = PointFigures(tuple(windows)).others_cpu_share
        for metric, value in logs.items():
            gathered.setdefault((run.sweep, point, metric), []).append((value, share))
    anchored = [place for place in places if place[0].anchors]
    follows = _FOLLOWS.intersection(metrics)
    anchors = window_logs([_beside(run, windows) for run, _, windows in anchored], follows)
    own = window_logs([windows for *_, windows in anchored], follows)
    for (run, point, windows), logs, near in zip(anchored, own, anchors, strict=True):
        share = PointFigures(tuple(windows)).others_cpu_share
        for metric, value in logs.items():
            ratios.setdefault((run.sweep, point, metric), []).append((value - near[metric], share))
    runs = runs_by_sweep(run.sweep for run in complete)
    return replace(whole(record.id, gathered, runs), anchored=whole(record.id, ratios, runs, _UNCANCELLED).values)


def _beside(run: Run, windows: Sequence[Window]) -> list[Window]:
    """The anchor's windows next to these of the run."""
    near = dict(zip(map(id, run.windows), run.anchors, strict=True))
    return [near[id(window)] for window in windows]


def values_from_numbers(
    name: str, runs: Sequence[Mapping[str, Mapping[str, float]]], *, sweep: str = ""
) -> RecordValues:
    """The values of plain numbers.

    Args:
        name: of the record.
        runs: for each run, by point and metric, the statistic itself; a metric may carry a unit, as ``p50_ms``.
        sweep: what the points belong to.
    """
    gathered: dict[SeriesKey, list[tuple[float, float]]] = {}
    for run in runs:
        for label, figures in run.items():
            for metric, figure in figures.items():
                known, factor = in_own_unit(metric)
                value = sign(known) * _log(figure * factor)
                gathered.setdefault((sweep, NamedPoint(label), known), []).append((value, 0.0))
    return whole(name, gathered, {sweep: len(runs)})


def in_own_unit(metric: str) -> tuple[str, float]:
    """``p50`` and 1e6 of ``p50_ms``: a known metric without its unit, and what its numbers are to be multiplied by.

    Anything else as it is, so that another unit is another metric.
    """
    stem, _, unit = metric.rpartition("_")
    factors = UNITS.get(METRICS.get(stem, ""), {})
    return (stem, factors[unit]) if unit in factors else (metric, 1.0)


def window_logs(groups: Sequence[Sequence[Window]], metrics: Iterable[str]) -> list[dict[str, float]]:
    """Return the values of each group of windows of one load point (``PointFigures``).

    A value is NaN if too few requests support it; a metric that this machine can't measure is absent.
    """
    wanted = frozenset(metrics)
    quantiles = {metric: quantile for metric, quantile in _QUANTILES.items() if metric in wanted}
    table = quantile_logs([[window.latency for window in group] for group in groups], list(quantiles.values()))
    values = [dict(zip(quantiles, row, strict=True)) for row in table.tolist()]
    for logs, group in zip(values, groups, strict=True):
        figures = PointFigures(tuple(group))
        for metric in wanted & _FIGURES.keys():
            if (figure := _FIGURES[metric](figures)) is not None:
                logs[metric] = sign(metric) * _log(figure)
    return values


def _energy_j(figures: PointFigures) -> float | None:
    """Joules per inference of all devices; NaN if the windows measured one of them by different methods."""
    parts = [figures.energy_j(source) for source in figures.energy_sources]
    known = [part for part in parts if part is not None]
    return (sum(known) if len(known) == len(parts) else math.nan) if parts else None


def _memory_bytes(figures: PointFigures) -> float | None:
    """Peak of the target's device memory; of the whole device's, where the target's is unknown."""
    memory = figures.memory
    if memory is None:
        return None
    return memory.device_bytes if memory.target_bytes is None else memory.target_bytes


def _host_bytes(figures: PointFigures) -> float | None:
    return figures.memory.host_bytes if figures.memory is not None else None


_FIGURES: Mapping[str, Callable[[PointFigures], float | None]] = {
    "throughput": lambda figures: figures.throughput,
    "energy": _energy_j,
    "memory": _memory_bytes,
    "host_memory": _host_bytes,
}


def energy_methods(record: Record) -> frozenset[str]:
    """How a record's energy was measured."""
    return frozenset(one.method for run in record.runs for window in run.windows for one in window.energy)


def without(values: RecordValues, metric: str) -> RecordValues:
    """The same without one metric."""
    kept = {key: value for key, value in values.values.items() if key[2] != metric}
    return RecordValues(values.id, kept, frozenset(key for key in values.left_out if key[2] != metric))


def _log(figure: float) -> float:
    """NaN, which never gates, of what has no logarithm."""
    return math.log(figure) if 0 < figure < math.inf else math.nan


def runs_by_sweep(sweeps: Iterable[str]) -> Mapping[str, int]:
    """How many complete runs each sweep has, from the sweep of each run."""
    return Counter(sweeps)


def whole(
    name: str,
    gathered: Mapping[SeriesKey, list[tuple[float, float]]],
    runs: Mapping[str, int],
    uncancelled: float = 1.0,
) -> RecordValues:
    """Keep what every run of its sweep has.

    Args:
        uncancelled: the part of a disturbance that is left in the values.
    """
    values, left_out = {}, set()
    for key, found in gathered.items():
        if len(found) == runs[key[0]] and all(math.isfinite(value) for value, _ in found):
            share = sum(share for _, share in found) / len(found)
            values[key] = Values(tuple(value for value, _ in found), uncancelled * _disturbance(share))
        else:
            left_out.add(key)
    return RecordValues(name, values, frozenset(left_out))


def _disturbance(others_cpu_share: float) -> float:
    """How far others on the CPU may have moved a value, as a standard deviation of its log.

    Work that shares the cores in proportion takes ``1 / (1 - share)`` times as long. Bounded, since from some load on
    the share says no more about one target, and a threefold slowdown is still found on a machine that is never quiet.
    """
    return min(-math.log1p(-min(others_cpu_share, 0.99)), DISTURBANCE_LIMIT)
