"""The levels of ``gpuperf sweep``: windows at each load until they agree."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from pytest_gpuperf.analysis.guard import cache_findings, client_findings
from pytest_gpuperf.cli.sweep.report import SweepReport
from pytest_gpuperf.cli.sweep.settings import SweepSettings, window_arrivals
from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.measure.measuring_loop import Conditions, measure_windows
from pytest_gpuperf.measure.policy import Policy, WindowRequest
from pytest_gpuperf.measure.progress import ProgressMeter
from pytest_gpuperf.measure.stability import StabilityRule
from pytest_gpuperf.measure.target_under_load import OPEN_IN_FLIGHT, InFlight, TargetUnderLoad
from pytest_gpuperf.model import Finding, LoadPoint, PointFigures, Window
from pytest_gpuperf.model.level import MeasuredLevel

#: Longest extension of a window that still lacks requests, in multiples of its length.
_MAX_EXTENSION = 20


def measure_levels(settings: SweepSettings, under_load: TargetUnderLoad, report: SweepReport) -> None:
    """Measure level after level, as the settings say and their latencies allow."""
    silent = ProgressMeter(settings.model, runs=1, windows=0, on_progress=lambda _: None)
    measure_windows(under_load, level_windows(settings, report), Conditions(settings.model, silent))


def level_windows(settings: SweepSettings, report: SweepReport) -> Policy[None]:
    """Ask for the windows of level after level; see ``measure.policy``."""
    loads = settings.loads()
    level: MeasuredLevel | None = None
    while True:
        try:
            load = next(loads) if level is None else loads.send(level.within)
        except StopIteration as end:
            if settings.binary_search:
                report.search_ended(end.value)
            return
        report.start(load)
        level = yield from _Level(settings, report).measure(load)


class _Level:
    """Windows at one level, until they agree."""

    def __init__(self, settings: SweepSettings, report: SweepReport) -> None:
        self._settings, self._report = settings, report
        self._rule = rule_of(settings)
        self._windows: list[Window] = []
        self._recordings: deque[Recording] = deque(maxlen=self._rule.recent)
        self._workers = 1

    def measure(self, load: float) -> Policy[MeasuredLevel]:
        """Ask for the level's windows and report the level, also if it is cut short."""
        cut_short = True
        try:
            yield from self._until_done(load)
            cut_short = False
        finally:
            if self._windows:
                level = self._rule.level(self._windows, interrupted=cut_short)
                level = replace(level, findings=self._findings(level.figures))
                self._report.add(load, level, list(self._recordings))
        return level

    def _until_done(self, load: float) -> Policy[None]:
        settings, spec = self._settings, spec_of(self._settings, load)
        arrivals = spec.arrivals
        warm_up = fixed_requests(spec, settings.warmup_count) if settings.warmup_count else None
        while not self._rule.is_done(self._windows):
            number = len(self._windows)
            if arrivals is not None:
                spec = replace(spec, arrivals=window_arrivals(arrivals, number, spec.window_s + spec.lead_in_s))
            request = WindowRequest(settings.point(load), spec, number, warm_up=None if number else warm_up)
            window, recording = yield request
            assert recording is not None
            self._windows.append(window)
            if settings.profile_export is not None:
                self._recordings.append(recording)
            self._report.window(number + 1, window)
            self._workers = recording.workers

    def _findings(self, figures: PointFigures) -> tuple[Finding, ...]:
        """Return what disturbed the level, judged over all its windows together."""
        errors = figures.error_count
        sent = (figures.requests + errors) * figures.point.batch_size
        return cache_findings(figures.server) + client_findings(
            window_s=figures.window_s,
            client_cpu_s=figures.client_cpu_s,
            workers=self._workers,
            requests=figures.requests,
            errors=errors,
            stall_s=figures.stall_s,
            wait_s=figures.client_wait_s,
            halted_s=figures.client_halted_s,
            stops=figures.client_stops,
            late=figures.late,
            due_rate=sent / figures.window_s if figures.point.rate else 0.0,
            done_rate=figures.throughput,
        )


def rule_of(settings: SweepSettings) -> StabilityRule:
    """Return the rule that ends a level."""
    threshold_ns = settings.threshold_ms * 1e6
    if settings.request_count:
        return StabilityRule(recent=1, max_windows=1, percentile=settings.percentile, threshold_ns=threshold_ns)
    return StabilityRule(
        settings.tolerance, max_windows=settings.trials, percentile=settings.percentile, threshold_ns=threshold_ns
    )


def spec_of(settings: SweepSettings, load: float) -> WindowSpec:
    """Return the timing of a level's windows."""
    arrivals = settings.arrivals(load)
    spec = WindowSpec(
        concurrency=int(load) if arrivals is None else 0,
        window_s=settings.window_s,
        arrivals=arrivals,
        lead_in_s=settings.lead_in_s,
        min_requests=max(settings.window_requests, 1),
        max_window_s=max(_MAX_EXTENSION * settings.window_s, 60.0),
        deadline_s=settings.deadline_s,
    )
    return fixed_requests(spec, settings.request_count) if settings.request_count else spec


def fixed_requests(spec: WindowSpec, requests: int) -> WindowSpec:
    """Return a specification for a fixed number of requests instead of a window."""
    # Without a time limit: requests to a slow server end by their deadline.
    return replace(
        spec, window_s=0.0, lead_in_s=0.0, min_requests=max(requests, spec.concurrency), max_window_s=float("inf")
    )


def in_flight_of(settings: SweepSettings) -> InFlight:
    """Return how many requests a level has in flight: as many as the highest one, where that is known."""

    def in_flight(point: LoadPoint) -> int:
        return settings.most_in_flight or (OPEN_IN_FLIGHT if settings.open_loop else point.concurrency)

    return in_flight
