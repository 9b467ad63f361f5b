"""Runs of one sweep: start, warm up, visit the load points, stop; and again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pytest_gpuperf.analysis.guard import worth_repeating
from pytest_gpuperf.device import Monitor
from pytest_gpuperf.load import LoadGenerator, Recording, WindowSpec, open_generator
from pytest_gpuperf.measure.plan import MeasurePlan, Progress
from pytest_gpuperf.measure.progress import ProgressMeter
from pytest_gpuperf.measure.steady import SteadyRule
from pytest_gpuperf.measure.window import give_up, take_window
from pytest_gpuperf.model import Arrivals, LoadPoint, PlainMapping, Run, Window, Workload
from pytest_gpuperf.targets import StartedTarget, Target

if TYPE_CHECKING:
    from pytest_gpuperf.measure.anchor import StartedAnchor

#: Regions of shared memory for an open loop, which has no concurrency of its own: enough for 5,000/s at 50 ms.
OPEN_IN_FLIGHT = 256


def measure_sweep(
    target: Target,
    points: Sequence[LoadPoint],
    plan: MeasurePlan,
    *,
    name: str,
    on_run: Callable[[Run], None],
    on_under_test: Callable[[PlainMapping], None],
    on_progress: Callable[[Progress], None],
    watch_cpu: bool,
    arrivals: Mapping[LoadPoint, Arrivals] | None = None,
    anchor: Callable[[], StartedAnchor] | None = None,
    monitor: Monitor | None = None,
) -> None:
    """Measure runs over the load points, from number ``plan.begun`` up to ``plan.runs``.

    Args:
        arrivals: the schedules of open-loop points.
        on_run: given every run as soon as it is over; also a run that was cut short, marked as not complete, before
            the error goes on its way.
        on_under_test: given what is under test, once.
        on_progress: told where the sweep stands.
        watch_cpu: the CPU is the device under test: see what others take of it, and repeat windows that they disturbed.
        anchor: starts the anchor, of which a window is taken next to each of the target's.
        monitor: tells energy, memory and the state of the devices; windows that its readings speak against are
            repeated as well.

    Raises:
        TargetError, LoadError, OptionError: the sweep can't go on.
    """
    meter = ProgressMeter(name, plan, len(points), on_progress)
    for run in range(plan.begun, plan.runs):
        meter.say(run, "starting")
        windows: list[Window] = []
        anchors: list[Window] = []
        startup_s = warmup_s = 0.0
        warm = complete = False
        if monitor is not None:
            monitor.idle()
        begin = time.monotonic()
        started: StartedTarget | None = None
        anchored: StartedAnchor | None = None
        try:
            started = target.start()
            startup_s = time.monotonic() - begin
            if run == plan.begun:
                on_under_test(started.under_test())
            workloads = workloads_of(started, points)
            with closing(open_generator(next(iter(workloads.values())), plan.workers)) as generator:
                meter.say(run, "warming up")
                warm, warmup_s = warm_up(generator, started, workloads, points, plan)
                anchored = anchor() if anchor is not None else None
                if monitor is not None and anchored is not None:
                    monitor.beside(anchored.processes)
                todo = deque(plan.order(points, run))
                repeats = plan.repeats(points)
                while todo:
                    visit, point = todo.popleft()
                    meter.say(run, "measuring", point)
                    take = partial(
                        take_window,
                        generator,
                        started,
                        workloads[point.batch_size],
                        name=name,
                        point=point,
                        spec=plan.spec(point, (arrivals or {}).get(point), run * plan.visits + visit),
                        visit=visit,
                        watched=watch_cpu and started.local,
                        monitor=monitor,
                        earlier=windows,
                    )
                    window, near = anchored.beside(point, take) if anchored is not None else (take()[0], None)
                    again = repeats > 0 and worth_repeating(window, [one for one in windows if one.point == point])
                    windows.append(window)
                    anchors += [near] if near is not None else []
                    if again:
                        repeats -= 1
                        todo.append((visit, point))
                    else:
                        meter.window_done()
            complete = True
        finally:
            try:
                _stop(started, anchored)
            finally:
                if windows:
                    on_run(Run(name, run, startup_s, warmup_s, warm, tuple(windows), complete, tuple(anchors)))
        meter.run_done(run)


def _stop(*started: StartedTarget | StartedAnchor | None) -> None:
    """All of them, also when one doesn't want to."""
    with ExitStack() as stack:
        for one in started:
            if one is not None:
                stack.callback(one.stop)


def smoke_sweep(target: Target, points: Sequence[LoadPoint], plan: MeasurePlan) -> None:
    """Start the target once and have it answer one batch of requests at every load point.

    Raises:
        TargetError, LoadError, OptionError: it doesn't start, or doesn't answer.
    """
    started = target.start()
    try:
        workloads = workloads_of(started, points)
        with closing(open_generator(next(iter(workloads.values())))) as generator:
            for point in points:
                count = point.concurrency or 1
                spec = WindowSpec(count, 0.0, lead_in_s=0.0, min_requests=count, deadline_s=plan.deadline_s)
                recording = generator.window(workloads[point.batch_size], spec)
                if recording.lost or not recording.answered or recording.error_sample:
                    give_up(recording, started, point)
    finally:
        started.stop()


def warm_up(
    generator: LoadGenerator,
    started: StartedTarget,
    workloads: dict[int, Workload],
    points: Sequence[LoadPoint],
    plan: MeasurePlan,
) -> tuple[bool, float]:
    """Warm up at the heaviest point of every batch size; whether all became steady, and how long it took."""
    rule = SteadyRule()
    begin = time.monotonic()
    warm = True
    for batch_size, workload in workloads.items():
        point = max((p for p in points if p.batch_size == batch_size), key=lambda p: p.concurrency)
        spec = WindowSpec(
            point.concurrency or 1,
            rule.slice_s,
            min_requests=5,
            max_window_s=plan.max_window_s,
            deadline_s=plan.deadline_s,
        )
        medians: list[float] = []
        start = time.monotonic()
        while not rule.is_steady(medians) and time.monotonic() - start < rule.limit_s:
            recording = generator.window(workload, spec)
            if recording.lost or not recording.answered:
                give_up(recording, started, point)
            medians.append(_median_ns(recording))
        warm = warm and rule.is_steady(medians)
    return warm, time.monotonic() - begin


def workloads_of(started: StartedTarget, points: Sequence[LoadPoint]) -> dict[int, Workload]:
    """The workload of every batch size among the points, good for their highest concurrency."""
    in_flight: dict[int, int] = {}
    for point in points:
        needed = point.concurrency or OPEN_IN_FLIGHT
        in_flight[point.batch_size] = max(in_flight.get(point.batch_size, 1), needed)
    return {batch_size: started.workload(batch_size, needed) for batch_size, needed in in_flight.items()}


def _median_ns(recording: Recording) -> float:
    return float(np.median(np.concatenate([np.subtract(done, due) for due, done in recording.pairs()])))
