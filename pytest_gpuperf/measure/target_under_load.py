"""A started target with its load generator: everything that is needed to take windows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pytest_gpuperf.clock import time
from pytest_gpuperf.device import Monitor
from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import LoadGenerator, Recording, WindowSpec, open_generator
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.measure.policy import Measured, WindowRequest
from pytest_gpuperf.measure.steady import SteadyRule
from pytest_gpuperf.measure.window import check_target, give_up, take_window
from pytest_gpuperf.model import Histogram, LoadPoint, StartTimes, Window, Workload
from pytest_gpuperf.targets import Sequential, StartedTarget, Target, TimedStart

if TYPE_CHECKING:
    from pytest_gpuperf.load.distributed import RemoteWorkers

#: Regions of shared memory for an open loop, which has no concurrency of its own: enough for 5,000/s at 50 ms.
OPEN_IN_FLIGHT = 256

#: Class and name of each target that this process has started: its next start has warm caches.
_STARTED: set[tuple[str, str]] = set()

#: The most requests that a load point's workload has in flight.
InFlight = Callable[[LoadPoint], int]


class TargetUnderLoad:
    """A started target, its workloads, and a load generator that stays open.

    Attributes:
        start_times: How long its start took.
    """

    def __init__(
        self,
        started: StartedTarget,
        in_flight: InFlight,
        points: Sequence[LoadPoint],
        *,
        start_times: StartTimes | None = None,
        workers: int | RemoteWorkers = 1,
        generator: LoadGenerator | None = None,
    ) -> None:
        """Prepare the workloads; open a load generator for the first of them, unless ``generator`` is one already."""
        self.started, self.start_times = started, start_times or StartTimes()
        self._in_flight, self._workers = in_flight, workers
        # Points that have the same requests in flight share a workload, and its memory.
        self._workload = cache(started.workload)
        workloads = [self.workload(point) for point in points]
        self._generator = generator or open_generator(workloads[0], workers)

    @classmethod
    def start(
        cls, target: Target, in_flight: InFlight, points: Sequence[LoadPoint], workers: int | RemoteWorkers = 1
    ) -> TargetUnderLoad:
        """Start a target, prepare the workloads of these load points, and open the load generator.

        Raises:
            TargetError, OptionError, LoadError: It doesn't start, or can't serve a load point.
        """
        identity = type(target).__name__, target.name
        cold = identity not in _STARTED
        _STARTED.add(identity)
        begin = time.monotonic()
        started = target.start()
        try:
            start_times = _start_times(started, time.monotonic() - begin, cold)
            return cls(started, in_flight, points, start_times=start_times, workers=workers)
        except BaseException:
            started.stop()
            raise

    def workload(self, point: LoadPoint) -> Workload:
        """Return the workload of a load point.

        Raises:
            OptionError, TargetError: The target can't take that batch size, or has no memory for the requests.
        """
        sequences = self.started.sequences_at_once if isinstance(self.started, Sequential) else 0
        # As many sequences as requests in flight: others would wait in the middle.
        in_flight = point.concurrency or sequences if sequences else self._in_flight(point)
        return self._workload(point.batch_size, in_flight)

    def apply(self, point: LoadPoint, spec: WindowSpec, *, errors: bool = True) -> Recording:
        """Apply a load, without measuring the target.

        Args:
            errors: Whether some of the requests may fail.

        Raises:
            TargetDied, LoadError: The target gives no correct answers, or the load generator failed.
        """
        recording = self._generator.window(self.workload(point), spec)
        if recording.lost or not recording.answered or (recording.error_sample and not errors):
            give_up(recording, self.started, point)
        if recording.error_sample.startswith("timeout:"):
            check_target(self.started, point)  # before another window waits as long
        return recording

    def warm_up(self, points: Sequence[LoadPoint], plan: MeasurePlan) -> tuple[bool, float]:
        """Warm up at the heaviest point of every batch size.

        Returns:
            Whether all became steady, and the seconds that it took.
        """
        rule = SteadyRule()
        begin = time.monotonic()
        warm = True
        for batch_size in dict.fromkeys(point.batch_size for point in points):
            heaviest = max((p for p in points if p.batch_size == batch_size), key=lambda p: p.concurrency)
            spec = WindowSpec(
                heaviest.concurrency or 1,
                rule.slice_s,
                min_requests=5,
                max_window_s=plan.max_window_s,
                deadline_s=plan.deadline_s,
            )
            medians: list[float] = []
            start = time.monotonic()
            while not rule.is_steady(medians) and time.monotonic() - start < rule.limit_s:
                medians.append(_median_ns(self.apply(heaviest, spec)))
            warm = warm and rule.is_steady(medians)
        return warm, time.monotonic() - begin

    def measure(
        self, request: WindowRequest, name: str, watch_cpu: bool = False, monitor: Monitor | None = None
    ) -> Measured:
        """Take a window; see ``take_window``."""
        workload, point = self.workload(request.point), request.point
        if request.warm_up is not None:
            self._generator.window(workload, request.warm_up)
        try:
            watch_cpu = watch_cpu and self.started.local
            return take_window(
                self._generator, self.started, workload, request, name=name, watch_cpu=watch_cpu, monitor=monitor
            )
        except LoadError as error:
            if not request.may_fail:
                raise
            self._generator.close()
            self._generator = open_generator(workload, self._workers)
            time.sleep(request.spec.lead_in_s)
            errors, window_s = {str(error).splitlines()[0]: 1}, request.spec.window_s
            return Window(name, point, request.visit, window_s, 0, 0.0, 0.0, Histogram(), errors=errors), None

    def close(self) -> None:
        """Close the load generator and stop the target."""
        try:
            self._generator.close()
        finally:
            self.started.stop()


def _start_times(started: StartedTarget, elapsed_s: float, cold: bool) -> StartTimes:
    """Return the times of a start; without a startup time if nothing was started."""
    parts = started.start_times if isinstance(started, TimedStart) else StartTimes()
    if parts is None:
        return StartTimes(cold=cold)
    return replace(parts, startup_s=elapsed_s - (parts.engine_build_s or 0.0), cold=cold)


def shared_by_batch_size(points: Sequence[LoadPoint]) -> InFlight:
    """Give all points of a batch size one workload, which is good for the highest concurrency among them."""
    most: dict[int, int] = {}
    for point in points:
        most[point.batch_size] = max(most.get(point.batch_size, 1), point.concurrency or OPEN_IN_FLIGHT)
    return lambda point: most[point.batch_size]


def _median_ns(recording: Recording) -> float:
    return float(np.median(np.concatenate([np.subtract(lane.done_ns, lane.due_ns) for lane in recording.lanes])))
