"""Exploring: an algorithm chooses the loads, within one start of the target.

The loads that it finds are then measured like any other load points, over fresh starts: windows that were chosen for
what they showed are not a fair sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from pytest_gpuperf.device import Monitor
from pytest_gpuperf.measure.ask import Steps
from pytest_gpuperf.measure.measuring_loop import Conditions, measure_runs, run_to_end
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.measure.policy import Policy, WindowRequest, with_repeats
from pytest_gpuperf.measure.progress import Progress, ProgressMeter
from pytest_gpuperf.measure.search_range import SearchRange
from pytest_gpuperf.measure.target_under_load import OPEN_IN_FLIGHT
from pytest_gpuperf.model import Arrivals, Constant, LoadPoint, Poisson, Window
from pytest_gpuperf.targets import Target

Result = TypeVar("Result")

#: Windows after which the progress bar is full; searches take 30 to 60.
_USUAL_WINDOWS = 60


@dataclass(frozen=True)
class Axis:
    """Mapping from the loads that an algorithm chooses to load points.

    Attributes:
        loads: The range of the loads.
        batch_size: Batch size of every request.
        poisson: Whether open-loop requests arrive at random; else evenly.
        seed: Seed of the random arrivals.
    """

    loads: SearchRange
    batch_size: int = 1
    poisson: bool = True
    seed: int = 0

    def arrivals(self, load: float) -> Arrivals | None:
        """Return the schedule of a load; None in closed loop."""
        if not self.loads.open_loop:
            return None
        return Poisson(load, self.seed) if self.poisson else Constant(load)

    def point(self, load: float) -> LoadPoint:
        """Return the load point of a load."""
        arrivals = self.arrivals(load)
        if arrivals is not None:
            return LoadPoint.open_loop(arrivals, self.batch_size)
        return LoadPoint(int(load), self.batch_size)

    def in_flight(self, point: LoadPoint) -> int:
        """Return the most requests in flight: a power of two, so that close loads share their memory."""
        return OPEN_IN_FLIGHT if self.loads.open_loop else 1 << (point.concurrency - 1).bit_length()


def explore(
    target: Target,
    steps: Steps[Result],
    axis: Axis,
    plan: MeasurePlan,
    *,
    name: str,
    min_requests: int,
    on_progress: Callable[[Progress], None],
    watch_cpu: bool,
    monitor: Monitor | None = None,
) -> Result:
    """Start the target once, measure what ``steps`` asks for, and return its result.

    Args:
        min_requests: Fewest requests of a window, so that it shows the quantile in question.
        on_progress, watch_cpu, monitor: See ``measure_sweep``.

    Raises:
        TargetError, LoadError, OptionError: The target doesn't start, dies, doesn't answer even the lowest load, or
            there is no shared memory for a load.
    """
    meter = ProgressMeter(name, 1, _USUAL_WINDOWS, on_progress, exact=False)
    (result,) = run_to_end(
        measure_runs(
            target,
            [axis.point(axis.loads.lowest)],
            replace(plan, begun=0, runs=1),
            lambda _run, _decision: explored_windows(
                steps, axis, plan, min_requests=min_requests, on_done=meter.window_done
            ),
            Conditions(name, meter, watch_cpu, monitor, idle_power=False),
            in_flight=axis.in_flight,
        )
    )
    return result


def explored_windows(
    steps: Steps[Result], axis: Axis, plan: MeasurePlan, *, min_requests: int, on_done: Callable[[], None]
) -> Policy[Result]:
    """Measure what an algorithm asks for, and return its result; of disturbed windows it sees only the repeats.

    A load that the target can't bear is an answer, except at the lowest.
    """
    numbers = itertools.count(1)

    def request(load: float, visit: int) -> WindowRequest:
        spec = plan.spec(axis.point(load), axis.arrivals(load), next(numbers))
        spec = replace(spec, min_requests=max(spec.min_requests, min_requests))
        return WindowRequest(axis.point(load), spec, visit, may_fail=load != axis.loads.lowest)

    windows: list[Window] | None = None
    while True:
        try:
            ask = next(steps) if windows is None else steps.send(windows)
        except StopIteration as end:
            result: Result = end.value
            return result
        requests = [request(ask.load, visit) for visit in range(ask.visits)]
        windows = yield from with_repeats(requests, repeats=ask.visits, on_done=on_done)
        undisturbed = [window for window in windows if window.undisturbed]
        windows = undisturbed if len(undisturbed) >= ask.visits else windows
