"""The rules by which windows become the figures of a load point, for the reports and the gate alike.

The gate computes its quantiles for many load points at once in ``analysis.quantiles``, by the same rule.

One rule for each kind of quantity:

* Counts and times add up.
* Throughput is weighted by time, mean latency by requests: both are then those of one long window.
* A quantile is read from the merged histogram, of the target as of each endpoint. Neither the median nor the mean of
  several windows' quantiles is the quantile of their requests: a window of ten slow requests must not weigh as much as
  one of a thousand, and a tail that only one window has must not vanish.
* A ratio that brings its own denominator (joules per inference, the mean share of the CPU) is taken over the windows
  that measured it.
* What is subtracted from a figure of all windows (the server's times, from the latency) is known only if every window
  measured it. Otherwise the difference between windows would show as time spent in the network.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from pytest_gpuperf.model.histogram import Histogram, merge_histograms
from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.resources import Memory, peak_memory
from pytest_gpuperf.model.run import Run
from pytest_gpuperf.model.server_times import ServerTimes
from pytest_gpuperf.model.window import EndpointFigures, Window

CountedT = TypeVar("CountedT")

#: Lines about what the server said of failed requests.
_SENTENCES = 5


#: Share of answers from the response cache from which a load point measures the cache.
CACHED_SHARE = 0.01


@dataclass(frozen=True)
class PointFigures:
    """The figures of one load point, from one window or more.

    Properties without a docstring are sums, and mean what ``Window`` says.
    """

    windows: tuple[Window, ...]

    @property
    def point(self) -> LoadPoint:
        return self.windows[0].point

    @property
    def window_s(self) -> float:
        return sum(window.window_s for window in self.windows)

    @property
    def requests(self) -> int:
        return sum(window.requests for window in self.windows)

    @property
    def errors(self) -> Mapping[str, int]:
        """Failed requests, by type."""
        errors: dict[str, int] = {}
        for window in self.windows:
            for kind, count in window.errors.items():
                errors[kind] = errors.get(kind, 0) + count
        return errors

    @property
    def error_kinds(self) -> str:
        """The types of failed requests with their numbers, in a line; the most frequent first."""
        return ", ".join(f"{kind} x {count}" for kind, count in _by_count(self.errors))

    @property
    def error_sentences(self) -> list[str]:
        """What the server said most often of failed requests, a line for each type and sentence."""
        counts: dict[tuple[str, str], int] = {}
        for window in self.windows:
            for kind, sentences in window.error_sentences.items():
                for sentence, count in sentences.items():
                    counts[kind, sentence] = counts.get((kind, sentence), 0) + count
        return [f"{kind} x {count}: {sentence}" for (kind, sentence), count in _by_count(counts)[:_SENTENCES]]

    @property
    def error_count(self) -> int:
        return sum(window.error_count for window in self.windows)

    @property
    def throughput(self) -> float:
        """Inferences per second, weighted by time."""
        return _inferences(self.windows) / self.window_s

    @property
    def latency_mean_ns(self) -> float:
        """Mean latency, weighted by requests; 0 without one."""
        return sum(w.latency_mean_ns * w.requests for w in self.windows) / self.requests if self.requests else 0.0

    @cached_property
    def latency(self) -> Histogram:
        """Latencies of all requests."""
        return merge_histograms(window.latency for window in self.windows)

    @cached_property
    def service(self) -> Histogram | None:
        """Times from sent to done (open loop)."""
        return _merged(window.service for window in self.windows)

    @cached_property
    def first(self) -> Histogram | None:
        """Times to the first answer (streams)."""
        return _merged(window.first for window in self.windows)

    @property
    def answers(self) -> int:
        return sum(window.answers for window in self.windows)

    @property
    def failed_share(self) -> float:
        """Share of all requests that failed; NaN without a request."""
        total = self.requests + self.error_count
        return self.error_count / total if total else math.nan

    def goodput_share(self, budget_ns: float) -> float:
        """Return the share of all requests that were answered correctly within a latency budget; NaN without one.

        A failed request was not answered within any budget.
        """
        total = self.requests + self.error_count
        if not total:
            return math.nan
        return self.latency.share_within(budget_ns) * self.requests / total if self.requests else 0.0

    @property
    def late(self) -> int:
        return sum(window.late for window in self.windows)

    @property
    def late_share(self) -> float:
        """Share of the requests that were sent more than 1 ms after they were due (open loop)."""
        return self.late / self.requests if self.requests else 0.0

    @property
    def lag_p99_ns(self) -> float:
        """99th percentile of the delay between due and sent in the worst window: windows store no histogram of it."""
        return max(window.lag_p99_ns for window in self.windows)

    @property
    def client_cpu_per_request_s(self) -> float:
        """CPU time that the load generator spends on one request."""
        return self.client_cpu_s / self.requests if self.requests else 0.0

    @property
    def client_cpu_s(self) -> float:
        return sum(window.client_cpu_s for window in self.windows)

    @property
    def stall_s(self) -> float:
        return sum(window.stall_s for window in self.windows)

    @property
    def client_wait_s(self) -> float:
        return sum(window.client_wait_s for window in self.windows)

    @property
    def client_halted_s(self) -> float:
        return sum(window.client_halted_s for window in self.windows)

    @property
    def client_stops(self) -> int:
        return sum(window.client_stops for window in self.windows)

    @property
    def stall_share(self) -> float:
        """Share of the time during which the load generator could not serve its sockets."""
        return self.stall_s / self.window_s

    @property
    def others_cpu_share(self) -> float:
        """Mean share of the CPU that other processes used, weighted by time; 0 where no window measured it."""
        return _mean_share([(w.others_cpu_share, w.window_s) for w in self.windows])

    @property
    def caller_wait_share(self) -> float:
        """Mean share of the time in which the calling thread waited for a CPU; 0 where no window measured it."""
        return _mean_share([(w.caller_wait_share, w.window_s) for w in self.windows])

    @property
    def server(self) -> ServerTimes | None:
        """The server's own times; None unless every window with a request has them."""
        times = [window.server for window in self.windows if window.server is not None or window.requests]
        return functools.reduce(operator.add, times) if times and None not in times else None

    @property
    def cached(self) -> bool:
        """Whether a noticeable share of the requests was answered from the server's response cache."""
        times = [window.server for window in self.windows if window.server is not None]
        return sum(server.all_cache_hits for server in times) > CACHED_SHARE * sum(server.requests for server in times)

    @property
    def endpoints(self) -> tuple[EndpointFigures, ...]:
        """Figures of each endpoint, over the windows that distinguish endpoints."""
        windows = [window for window in self.windows if window.endpoints]
        window_s = sum(window.window_s for window in windows)
        parts: dict[str, list[tuple[EndpointFigures, float]]] = {}
        for window in windows:
            for endpoint in window.endpoints:
                parts.setdefault(endpoint.address, []).append((endpoint, window.window_s))
        return tuple(
            EndpointFigures(
                address=address,
                requests=sum(endpoint.requests for endpoint, _ in served),
                errors=sum(endpoint.errors for endpoint, _ in served),
                # A window in which an endpoint served nothing may not list it: its time counts all the same.
                throughput=sum(endpoint.throughput * length_s for endpoint, length_s in served) / window_s,
                latency=_merged(endpoint.latency for endpoint, _ in served),
            )
            for address, served in parts.items()
        )

    @property
    def memory(self) -> Memory | None:
        """Highest of the windows' peaks."""
        return peak_memory(window.memory for window in self.windows)

    @property
    def energy_sources(self) -> tuple[str, ...]:
        """Kinds of devices whose energy some window measured."""
        return tuple(dict.fromkeys(energy.source for window in self.windows for energy in window.energy))

    @property
    def energy_methods(self) -> tuple[str, ...]:
        """Methods by which energy was measured."""
        return tuple(dict.fromkeys(energy.method for window in self.windows for energy in window.energy))

    def energy_j(self, source: str) -> float | None:
        """Return the joules per inference of one kind of device, over the windows that measured them.

        None if no window did, or if windows used different methods: those disagree by tens of percent.
        """
        measured = [(window, energy) for window in self.windows for energy in window.energy if energy.source == source]
        inferences = _inferences(window for window, _ in measured)
        if len({energy.method for _, energy in measured}) != 1 or not inferences:
            return None
        return sum(energy.energy_j for _, energy in measured) / inferences

    @property
    def guards(self) -> tuple[str, ...]:
        """Guards of the windows, each once."""
        return tuple(dict.fromkeys(guard for window in self.windows for guard in window.guards))


def undisturbed_windows(windows: Sequence[Window]) -> Sequence[Window]:
    """Return the undisturbed windows, or all of them if each is disturbed.

    The guard watches the machine and what others do on it, never the target's figures, so this choice favours no
    result.
    """
    return [window for window in windows if window.undisturbed] or windows


def windows_by_point(runs: Iterable[Run]) -> dict[LoadPoint, list[Window]]:
    """Group the windows that count by load point, in order of first appearance.

    In each run, disturbed windows are left out where their load point has undisturbed ones.
    """
    windows: dict[LoadPoint, list[Window]] = {}
    for run in runs:
        for point, visited in _grouped(run.windows).items():
            windows.setdefault(point, []).extend(undisturbed_windows(visited))
    return windows


def figures_by_point(runs: Iterable[Run]) -> dict[LoadPoint, PointFigures]:
    """Return the figures of each load point, from the windows that count (``windows_by_point``)."""
    return {point: PointFigures(tuple(windows)) for point, windows in windows_by_point(runs).items()}


def _grouped(windows: Iterable[Window]) -> dict[LoadPoint, list[Window]]:
    """Group windows by load point, in order of first appearance."""
    groups: dict[LoadPoint, list[Window]] = {}
    for window in windows:
        groups.setdefault(window.point, []).append(window)
    return groups


def _mean_share(shares: Sequence[tuple[float | None, float]]) -> float:
    """Return the mean of shares that are known, weighted by time; 0 without one."""
    known = [(share, window_s) for share, window_s in shares if share is not None]
    return sum(share * window_s for share, window_s in known) / sum(s for _, s in known) if known else 0.0


def with_cached_points(windows: Sequence[Window]) -> tuple[Window, ...]:
    """Return the windows of a run, with the points marked whose answers came from the server's response cache."""
    cached = {point for point, members in _grouped(windows).items() if PointFigures(tuple(members)).cached}
    return tuple(
        replace(window, point=replace(window.point, cached=True)) if window.point in cached else window
        for window in windows
    )


def _inferences(windows: Iterable[Window]) -> float:
    return sum(window.throughput * window.window_s for window in windows)


def _merged(histograms: Iterable[Histogram | None]) -> Histogram | None:
    known = [histogram for histogram in histograms if histogram is not None]
    return merge_histograms(known) if known else None


def _by_count(counts: Mapping[CountedT, int]) -> list[tuple[CountedT, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])
