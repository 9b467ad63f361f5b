"""Where windows become figures."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_gpuperf.model.histogram import Histogram, merged
from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.resources import energy_together, gpus_together, memory_together
from pytest_gpuperf.model.run import Run
from pytest_gpuperf.model.server_times import ServerTimes
from pytest_gpuperf.model.window import EndpointFigures, Window


@dataclass(frozen=True)
class PointRun:
    """All windows of one load point in one run, taken together: one replicate of the point."""

    point: LoadPoint
    requests: int
    errors: int
    throughput: float
    latency_mean_ns: float
    latency: Histogram
    others_cpu_share: float


def point_windows(run: Run) -> dict[LoadPoint, list[Window]]:
    """The run's windows by load point, in order of first appearance.

    Disturbed windows are left out where the point has undisturbed ones: the guard looks at the machine and at others'
    use of it, never at the target's figures, so choosing by it favours no result.
    """
    gathered: dict[LoadPoint, list[Window]] = {}
    for window in run.windows:
        gathered.setdefault(window.point, []).append(window)
    return {point: [w for w in windows if w.undisturbed] or windows for point, windows in gathered.items()}


def windows_by_point(runs: Iterable[Run]) -> dict[LoadPoint, list[Window]]:
    """The windows of several runs of a sweep that its figures are made of, by load point."""
    found: dict[LoadPoint, list[Window]] = {}
    for run in runs:
        for point, own in point_windows(run).items():
            found.setdefault(point, []).extend(own)
    return found


def point_runs(run: Run) -> dict[LoadPoint, PointRun]:
    """The run's windows taken together by load point, as ``point_windows`` gives them."""
    return {point: gather(point, windows) for point, windows in point_windows(run).items()}


def gather(point: LoadPoint, windows: list[Window]) -> PointRun:
    """Windows of one load point taken together; throughput is weighted by time, latency by requests."""
    requests = sum(window.requests for window in windows)
    return PointRun(
        point=point,
        requests=requests,
        errors=sum(window.error_count for window in windows),
        throughput=sum(w.throughput * w.window_s for w in windows) / sum(w.window_s for w in windows),
        latency_mean_ns=sum(w.latency_mean_ns * w.requests for w in windows) / requests if requests else 0.0,
        latency=merged(window.latency for window in windows),
        others_cpu_share=sum(w.others_cpu_share or 0.0 for w in windows) / len(windows),
    )


def aggregate(windows: Sequence[Window]) -> Window:
    """Windows of one load point as one: throughput is weighted by time, latencies by requests.

    The 99th percentile of the lag is that of the worst window, since percentiles can't be added. Findings are those of
    the windows, each once.
    """
    requests = sum(window.requests for window in windows)
    window_s = sum(window.window_s for window in windows)
    services = [window.service for window in windows if window.service is not None]
    firsts = [window.first for window in windows if window.first is not None]
    times = [window.server for window in windows if window.server is not None]
    return replace(
        windows[0],
        window_s=window_s,
        requests=requests,
        throughput=sum(window.throughput * window.window_s for window in windows) / window_s,
        latency_mean_ns=sum(w.latency_mean_ns * w.requests for w in windows) / requests if requests else 0.0,
        latency=merged(window.latency for window in windows),
        errors=_counts([window.errors for window in windows]),
        client_cpu_s=sum(window.client_cpu_s for window in windows),
        stall_s=sum(window.stall_s for window in windows),
        service=merged(services) if services else None,
        late=sum(window.late for window in windows),
        lag_p99_ns=max(window.lag_p99_ns for window in windows),
        first=merged(firsts) if firsts else None,
        answers=sum(window.answers for window in windows),
        endpoints=_endpoints(windows, window_s),
        server=functools.reduce(operator.add, times, ServerTimes(0, 0, 0, 0, 0, 0)) if times else None,
        others_cpu_share=max((w.others_cpu_share for w in windows if w.others_cpu_share is not None), default=None),
        energy=energy_together([window.energy for window in windows]),
        memory=memory_together([window.memory for window in windows]),
        gpus=gpus_together([window.gpus for window in windows]),
        guards=tuple(dict.fromkeys(guard for window in windows for guard in window.guards)),
        findings=tuple(dict.fromkeys(finding for window in windows for finding in window.findings)),
    )


def _counts(several: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in several:
        for kind, count in counts.items():
            total[kind] = total.get(kind, 0) + count
    return total


def _endpoints(windows: Sequence[Window], window_s: float) -> tuple[EndpointFigures, ...]:
    """Quantiles are averages over the windows, weighted by requests: good enough to see which endpoint is slow."""
    gathered: dict[str, list[tuple[EndpointFigures, float]]] = {}
    for window in windows:
        for one in window.endpoints:
            gathered.setdefault(one.address, []).append((one, window.window_s))
    return tuple(
        EndpointFigures(
            address,
            requests=sum(one.requests for one, _ in found),
            errors=sum(one.errors for one, _ in found),
            throughput=sum(one.throughput * length_s for one, length_s in found) / window_s,
            p50_ns=_weighted([(one.p50_ns, one.requests) for one, _ in found]),
            p90_ns=_weighted([(one.p90_ns, one.requests) for one, _ in found]),
        )
        for address, found in gathered.items()
    )


def _weighted(values: Sequence[tuple[float, int]]) -> float:
    total = sum(weight for _, weight in values)
    return sum(value * weight for value, weight in values) / total if total else 0.0
