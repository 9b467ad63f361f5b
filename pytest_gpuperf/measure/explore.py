"""Letting an algorithm choose the loads: one start of the target, and whatever windows the algorithm asks for.

What it finds is then measured like any other load point, over fresh starts: windows that were chosen by what they
showed are no fair sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeVar

from pytest_gpuperf.analysis.guard import worth_repeating
from pytest_gpuperf.device import Monitor
from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import open_generator
from pytest_gpuperf.measure.ask import Ask, Steps, drive
from pytest_gpuperf.measure.plan import MeasurePlan, Progress
from pytest_gpuperf.measure.search_range import SearchRange
from pytest_gpuperf.measure.sweep import OPEN_IN_FLIGHT, warm_up
from pytest_gpuperf.measure.window import take_window
from pytest_gpuperf.model import Arrivals, Constant, Histogram, LoadPoint, Poisson, Window
from pytest_gpuperf.targets import Target

Result = TypeVar("Result")

#: Windows after which the bar is full; searches take 30 to 60.
_USUAL_WINDOWS = 60


@dataclass(frozen=True)
class Axis:
    """What loads mean.

    Attributes:
        loads: where they lie.
        batch_size: of every request.
        poisson: how requests of an open loop are spread; else evenly.
        seed: of Poisson arrivals.
    """

    loads: SearchRange
    batch_size: int = 1
    poisson: bool = True
    seed: int = 0

    def arrivals(self, load: float) -> Arrivals | None:
        """The schedule of a load; None in closed loop."""
        if not self.loads.open_loop:
            return None
        return Poisson(load, self.seed) if self.poisson else Constant(load)

    def point(self, load: float) -> LoadPoint:
        """The load as a load point."""
        arrivals = self.arrivals(load)
        return (
            LoadPoint(int(load), self.batch_size)
            if arrivals is None
            else LoadPoint.open_loop(arrivals, self.batch_size)
        )

    def in_flight(self, load: float) -> int:
        """The most requests that will be unanswered at once; a power of two, so that close loads share their memory."""
        return OPEN_IN_FLIGHT if self.loads.open_loop else 1 << (int(load) - 1).bit_length()


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
    """Start the target once and measure what ``steps`` asks for.

    Args:
        min_requests: in every window, so that it can speak of the quantile in question.

    Raises:
        TargetError, LoadError, OptionError: the target doesn't start, dies, doesn't answer even the lowest load, or
            there is no shared memory for a load.
    """
    on_progress(Progress(name, 0, 1, "starting", 0.0))
    started = target.start()
    try:
        lowest = axis.point(axis.loads.lowest)
        # Of each load's own, since the highest may need far more memory than the search ever goes up to.
        workload_for = cache(partial(started.workload, axis.batch_size))
        workload = workload_for(axis.in_flight(axis.loads.lowest))
        generator = open_generator(workload, plan.workers)
        taken = 0
        try:
            on_progress(Progress(name, 0, 1, "warming up", 0.0))
            warm_up(generator, started, {axis.batch_size: workload}, [lowest], plan)

            def measure(ask: Ask) -> list[Window]:
                nonlocal taken, generator
                point, arrivals = axis.point(ask.load), axis.arrivals(ask.load)
                workload = workload_for(axis.in_flight(ask.load))
                windows: list[Window] = []
                todo = further = ask.visits
                while todo:
                    visit = len(windows)
                    on_progress(Progress(name, 0, 1, "measuring", min(taken / _USUAL_WINDOWS, 0.99), None, point))
                    taken += 1
                    spec = plan.spec(point, arrivals, taken)
                    spec = replace(spec, min_requests=max(spec.min_requests, min_requests))
                    try:
                        window, _ = take_window(
                            generator,
                            started,
                            workload,
                            name=name,
                            point=point,
                            spec=spec,
                            visit=visit,
                            watched=watch_cpu and started.local,
                            monitor=monitor,
                            earlier=windows,
                        )
                    except LoadError as error:
                        if ask.load == axis.loads.lowest:
                            raise
                        # The target lives, and can't bear this load: that is an answer.
                        window = _unanswered(name, point, visit, spec.window_s, str(error))
                        generator.close()
                        generator = open_generator(workload, plan.workers)
                        time.sleep(plan.lead_in_s)
                    todo -= 1
                    if further and worth_repeating(window, windows):
                        todo, further = todo + 1, further - 1
                    windows.append(window)
                calm = [one for one in windows if one.undisturbed]
                return calm if len(calm) >= ask.visits else windows

            return drive(steps, measure)
        finally:
            generator.close()
    finally:
        started.stop()
        on_progress(Progress(name, 0, 1, "run done", 1.0))


def _unanswered(name: str, point: LoadPoint, visit: int, window_s: float, why: str) -> Window:
    return Window(name, point, visit, window_s, 0, 0.0, 0.0, Histogram(), errors={why.splitlines()[0]: 1})
