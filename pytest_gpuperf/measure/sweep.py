"""Runs of one sweep: start, warm up, visit the load points, stop; and again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from pytest_gpuperf.analysis.guard import findings
from pytest_gpuperf.analysis.window import figures
from pytest_gpuperf.device import others_share, read_cpu
from pytest_gpuperf.errors import LoadError, TargetError
from pytest_gpuperf.load import LoadGenerator, Recording, WindowSpec, open_generator
from pytest_gpuperf.measure.plan import MeasurePlan, Progress
from pytest_gpuperf.measure.warmup import SteadyRule
from pytest_gpuperf.model import LoadPoint, PlainMapping, Run, Window, Workload
from pytest_gpuperf.targets import RunningTarget, Target

#: How long a target that gives no answers is watched for signs of dying, before it is called wrong.
_DYING_S = 2.0


def measure_sweep(
    target: Target,
    points: Sequence[LoadPoint],
    plan: MeasurePlan,
    *,
    name: str,
    record: Callable[[Run], None],
    describe: Callable[[PlainMapping], None],
    progress: Callable[[Progress], None],
    watch_cpu: bool,
) -> None:
    """Measure ``plan.runs`` runs over the load points.

    Args:
        record: given every run as soon as it is over; also a run that was cut short, marked as not complete, before
            the error goes on its way.
        describe: given what is under test, once.
        progress: told where the sweep stands.
        watch_cpu: the CPU is the device under test: see what others take of it, and repeat windows that they disturbed.

    Raises:
        TargetError, LoadError, OptionError: the sweep can't go on.
    """
    total = plan.runs * plan.visits * len(points)
    done = 0
    measuring_s = 0.0
    for run in range(plan.runs):
        left_s = measuring_s / done * (total - done) if done else None
        progress(Progress(name, run, plan.runs, "starting", done / total, left_s))
        windows: list[Window] = []
        startup_s = warmup_s = 0.0
        warm = complete = False
        begin = time.monotonic()
        running: RunningTarget | None = None
        try:
            running = target.start()
            startup_s = time.monotonic() - begin
            if run == 0:
                describe(running.under_test())
            workloads = {size: running.workload(size) for size in {point.batch_size for point in points}}
            with closing(open_generator(next(iter(workloads.values())))) as generator:
                progress(Progress(name, run, plan.runs, "warming up", done / total, left_s))
                warm, warmup_s = _warm_up(generator, running, workloads, points, plan)
                todo = deque(plan.order(points, run))
                repeats = plan.repeats(points)
                while todo:
                    visit, point = todo.popleft()
                    left_s = measuring_s / done * (total - done) if done else None
                    progress(Progress(name, run, plan.runs, "measuring", done / total, left_s, point))
                    workload = workloads[point.batch_size]
                    window = _window(
                        generator,
                        running,
                        workload,
                        name=name,
                        point=point,
                        visit=visit,
                        plan=plan,
                        watched=watch_cpu and running.local,
                    )
                    windows.append(window)
                    if window.calm or not repeats:
                        done += 1
                    else:
                        repeats -= 1
                        todo.append((visit, point))
                    measuring_s += time.monotonic() - begin
                    begin = time.monotonic()
            complete = True
        finally:
            try:
                if running is not None:
                    running.stop()
            finally:
                if windows:
                    record(Run(name, run, startup_s, warmup_s, warm, tuple(windows), complete))
        left_s = measuring_s / done * (total - done) if done else None
        progress(Progress(name, run, plan.runs, "run done", done / total, left_s))


def smoke_sweep(target: Target, points: Sequence[LoadPoint], plan: MeasurePlan) -> None:
    """Start the target once and have it answer one batch of requests at every load point.

    Raises:
        TargetError, LoadError, OptionError: it doesn't start, or doesn't answer.
    """
    running = target.start()
    try:
        workloads = {size: running.workload(size) for size in {point.batch_size for point in points}}
        with closing(open_generator(next(iter(workloads.values())))) as generator:
            for point in points:
                spec = WindowSpec(
                    point.concurrency, 0.0, lead_in_s=0.0, min_requests=point.concurrency, deadline_s=plan.deadline_s
                )
                recording = generator.window(workloads[point.batch_size], spec)
                if recording.lost or not len(recording.done_ns) or recording.error_sample:
                    _give_up(recording, running, point)
    finally:
        running.stop()


def _warm_up(
    generator: LoadGenerator,
    running: RunningTarget,
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
            point.concurrency, rule.slice_s, min_requests=5, max_window_s=plan.max_window_s, deadline_s=plan.deadline_s
        )
        medians: list[float] = []
        start = time.monotonic()
        while not rule.is_steady(medians) and time.monotonic() - start < rule.limit_s:
            recording = generator.window(workload, spec)
            if recording.lost or not len(recording.done_ns):
                _give_up(recording, running, point)
            medians.append(float(np.median(np.subtract(recording.done_ns, recording.sent_ns))))
        warm = warm and rule.is_steady(medians)
    return warm, time.monotonic() - begin


def _window(
    generator: LoadGenerator,
    running: RunningTarget,
    workload: Workload,
    *,
    name: str,
    point: LoadPoint,
    visit: int,
    plan: MeasurePlan,
    watched: bool,
) -> Window:
    spec = WindowSpec(
        concurrency=point.concurrency,
        window_s=plan.window_s,
        lead_in_s=plan.lead_in_s,
        min_requests=max(plan.min_requests, point.concurrency),
        max_window_s=plan.max_window_s,
        deadline_s=plan.deadline_s,
    )
    before, cpu_before = running.server_times(), read_cpu() if watched else None
    recording = generator.window(workload, spec)
    cpu_after = read_cpu() if watched else None
    if recording.lost or not len(recording.done_ns):
        _give_up(recording, running, point)
    after = running.server_times()
    times = figures(
        np.frombuffer(recording.sent_ns, dtype=np.int64),
        np.frombuffer(recording.done_ns, dtype=np.int64),
        recording.start_ns,
        recording.stop_ns,
        point.batch_size,
    )
    window_s = (recording.stop_ns - recording.start_ns) / 1e9
    return Window(
        sweep=name,
        point=point,
        visit=visit,
        window_s=window_s,
        requests=times.requests,
        throughput=times.throughput,
        latency_mean_ns=times.latency_mean_ns,
        latency=times.latency,
        errors=recording.errors,
        client_cpu_s=recording.cpu_s,
        server=after - before if before is not None and after is not None else None,
        others_cpu_share=others_share(cpu_before, cpu_after),
        findings=findings(
            window_s=window_s,
            client_cpu_s=recording.cpu_s,
            lane_count=recording.lane_count,
            requests=times.requests,
            errors=sum(recording.errors.values()),
        ),
    )


def _give_up(recording: Recording, running: RunningTarget, point: LoadPoint) -> None:
    """No correct answers: say whether the target is gone or wrong."""
    problem = recording.lost or recording.error_sample or "no request was answered"
    # A server that was told to end closes its connections first and may take a while over the rest.
    end = time.monotonic() + _DYING_S
    while time.monotonic() < end:
        try:
            running.check()
        except TargetError as error:
            raise type(error)(f"At {point.label}: {error}") from error
        time.sleep(_DYING_S / 20)
    detail = f"\nFirst failure: {recording.error_sample}" if recording.error_sample and recording.lost else ""
    raise LoadError(f"At {point.label} the target is there but gives no correct answers: {problem}.{detail}")
