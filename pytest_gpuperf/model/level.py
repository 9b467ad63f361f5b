"""One level of a sweep in perf_client's manner: windows in a row, the last of which agree, taken together."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_gpuperf.model.histogram import merged
from pytest_gpuperf.model.records import EndpointFigures, LoadPoint, ServerTimes, Window
from pytest_gpuperf.model.resources import energy_together, gpus_together, memory_together

STABLE, UNSTABLE, OVER, INTERRUPTED = "stable", "unstable", "over", "interrupted"


@dataclass(frozen=True)
class MeasuredLevel:
    """What was found at one concurrency or request rate.

    Attributes:
        whole: the windows that count, taken together.
        taken: how many windows were measured.
        state: ``stable``; ``unstable``: the windows did not come to agree; ``over``: they were all above the latency
            threshold, so that there was no use in waiting for them to agree; ``interrupted``: the level was cut short.
        within: whether it keeps the latency threshold; None when that can't be told. True where there is none.
        why: a sentence about an unstable or interrupted level.
    """

    whole: Window
    taken: int
    state: str
    within: bool | None = True
    why: str = ""

    @property
    def point(self) -> LoadPoint:
        return self.whole.point

    @property
    def mark(self) -> str:
        """What a reader has to know beside the figures; empty for a good level."""
        if self.state in (UNSTABLE, INTERRUPTED):
            unclear = ", perhaps over the latency threshold" if self.within is None else ""
            return self.state + (", over the latency threshold" if self.within is False else unclear)
        return "over the latency threshold" if self.within is False else ""


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
