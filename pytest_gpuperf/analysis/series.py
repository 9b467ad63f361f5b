"""From sessions to the numbers that are compared: one series for each metric of each load point."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.model import LoadPoint, Session, point_runs

_QUANTILES = {"p50": 0.5, "p90": 0.9}
#: Most that others on the CPU can add to the standard deviation of a value's log. On traces of a machine that compiled
#: and tested beside the measurement, p90 moved by up to 0.6 and throughput by 0.3; see benchmarks/gate_on_traces.py.
DISTURBANCE_LIMIT = 0.2


@dataclass(frozen=True)
class Values:
    """One metric of one point in one session.

    Attributes:
        runs: a value for each run: the log of its statistic, turned so that larger is worse.
        disturbance: standard deviation to be added for what others took of the CPU.
    """

    runs: tuple[float, ...]
    disturbance: float = 0.0

    @property
    def mean(self) -> float:
        return sum(self.runs) / len(self.runs)

    @property
    def run_variance(self) -> float:
        """Between the fresh starts; 0 for a single one."""
        return float(np.var(self.runs, ddof=1)) if len(self.runs) > 1 else 0.0


@dataclass(frozen=True)
class Series:
    """One metric of one point (of the whole sweep, if None) on both sides."""

    sweep: str
    point: LoadPoint | None
    metric: str
    candidate: Values
    baseline: tuple[Values, ...]


SeriesKey = tuple[str, LoadPoint | None, str]


def session_values(session: Session) -> dict[SeriesKey, Values]:
    """The values of every metric that each of the session's complete runs can support."""
    values: dict[SeriesKey, list[float]] = {}
    shares: dict[SeriesKey, list[float]] = {}
    complete = [run for run in session.runs if run.complete]
    for run in complete:
        for point, seen in point_runs(run).items():
            logs = {
                metric: math.log(seen.latency.quantile_ns(quantile))
                for metric, quantile in _QUANTILES.items()
                if seen.latency.supports(quantile)
            }
            if seen.throughput > 0:
                logs["throughput"] = -math.log(seen.throughput)
            for metric, value in logs.items():
                values.setdefault((run.sweep, point, metric), []).append(value)
                shares.setdefault((run.sweep, point, metric), []).append(seen.others_cpu_share)
    runs_of = {sweep: sum(run.sweep == sweep for run in complete) for sweep in {run.sweep for run in complete}}
    return {
        key: Values(tuple(found), _disturbance(sum(shares[key]) / len(found)))
        for key, found in values.items()
        if len(found) == runs_of[key[0]]
    }


def _disturbance(others_cpu_share: float) -> float:
    """How far others on the CPU may have moved a value, as a standard deviation of its log.

    Work that shares the cores in proportion takes ``1 / (1 - share)`` times as long. Bounded, since from some load on
    the share says no more about one target, and a threefold slowdown is still found on a machine that is never quiet.
    """
    return min(-math.log1p(-min(others_cpu_share, 0.99)), DISTURBANCE_LIMIT)


def sweep_means(series: Sequence[Series]) -> list[Series]:
    """The geometric mean over a sweep's points, for every sweep and metric of more than one point."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        groups.setdefault((one.sweep, one.metric), []).append(one)
    means = []
    for (sweep, metric), members in groups.items():
        shapes = {(len(member.candidate.runs), tuple(len(one.runs) for one in member.baseline)) for member in members}
        if len(members) < 2 or len(shapes) > 1:
            continue
        baseline = [
            _mean_values([member.baseline[index] for member in members]) for index in range(len(members[0].baseline))
        ]
        means.append(
            Series(sweep, None, metric, _mean_values([member.candidate for member in members]), tuple(baseline))
        )
    return means


def _mean_values(members: Sequence[Values]) -> Values:
    """Run by run, the mean over points of one session."""
    runs = np.mean([member.runs for member in members], axis=0)
    return Values(tuple(runs.tolist()), float(np.mean([member.disturbance for member in members])))


def mean_of(values: Iterable[float]) -> float:
    """The mean of one value or more."""
    found = list(values)
    return sum(found) / len(found)
