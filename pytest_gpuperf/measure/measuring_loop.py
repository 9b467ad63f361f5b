"""The measuring loop: start a target, warm it up, take the windows that a policy asks for, stop it; and again.

``measure_runs`` measures sweeps, both sides of duets, and searches. ``gpuperf sweep`` starts its target only once, and
uses ``measure_windows``. They differ in nothing but the policy; see ``policy``.

A measurement is a generator: it yields each step before it takes it and waits for its turn, since the other side of a
duet may come first. ``run_to_end`` takes the steps of a measurement that has no other side.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from pytest_gpuperf.device import Monitor, others_share, read_cpu
from pytest_gpuperf.measure.anchor import StartedAnchor
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.measure.policy import Measured, Policy
from pytest_gpuperf.measure.progress import ProgressMeter
from pytest_gpuperf.measure.target_under_load import InFlight, TargetUnderLoad, shared_by_batch_size
from pytest_gpuperf.measure.turns import BlockDecision, MeasureStep, Phase, Turn
from pytest_gpuperf.model import LoadPoint, PlainMapping, Run, StartTimes, Window, with_cached_points
from pytest_gpuperf.targets import StartedTarget, Target

Result = TypeVar("Result")
#: Yields each step before it takes it, is sent its turn, and returns its result.
Measurement = Generator[MeasureStep, Turn, Result]

_OUT_OF_MEMORY = re.compile(
    r"out.?of.?memory|(can.?not|could not|can't|failed to|unable to) allocate|memory allocation|bad_?alloc"
    r"|(insufficient|not enough)( \w+)? memory|\bENOMEM\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Conditions:
    """Common settings of all windows of a sweep, or of a side of a duet.

    Attributes:
        name: The name of the sweep.
        watch_cpu: Whether the CPU is the device under test: windows then record the share that other processes use.
        monitor: Reads energy, memory and the state of the devices in every window.
        idle_power: Whether it reads the power of the idle devices before each start.
    """

    name: str
    meter: ProgressMeter
    watch_cpu: bool = False
    monitor: Monitor | None = None
    idle_power: bool = True


def run_to_end(measurement: Measurement[Result]) -> Result:
    """Take all steps of a measurement that has no other side."""
    try:
        next(measurement)
        while True:
            measurement.send(Turn())
    except StopIteration as end:
        result: Result = end.value
        return result


def measure_runs(
    target: Target,
    points: Sequence[LoadPoint],
    plan: MeasurePlan,
    policy_of: Callable[[int, BlockDecision | None], Policy[Result]],
    conditions: Conditions,
    *,
    on_run: Callable[[Run], None] | None = None,
    on_under_test: Callable[[PlainMapping], None] | None = None,
    in_flight: InFlight | None = None,
    anchor: Callable[[], StartedAnchor] | None = None,
) -> Measurement[list[Result]]:
    """Measure the runs from ``plan.begun`` up to ``plan.runs``, and return the results of their policies.

    Args:
        points: The load points that the target is warmed up at.
        policy_of: Makes the policy of a run; in a duet, of a block that was decided about.
        on_run: Called with every run as soon as it is over. A run that an error or an interrupt cuts short is passed on
            first, marked as not complete.
        on_under_test: Called in the first run, with what is under test.
        in_flight: The requests in flight of each load point; see ``shared_by_batch_size``.
        anchor: Starts the anchor, of which a window is taken next to each of the target's.

    Raises:
        TargetError, LoadError, OptionError: The measurement failed. Closing it also stops the target.
    """
    results: list[Result] = []
    start = partial(TargetUnderLoad.start, target, in_flight or shared_by_batch_size(points), points, plan.workers)
    for number in range(plan.begun, plan.runs):
        turn = yield MeasureStep(number, Phase.START, parity=number)
        if turn.decision is not None and turn.decision.ended:
            break
        run = _RunInProgress(number, conditions)
        try:
            yield from run.start(turn, start, points, plan, on_under_test if number == plan.begun else None)
            run.start_anchor(anchor)
            results.append((yield from run.measure(policy_of(number, turn.decision))))
            # The target lives until the other side has been measured: an idle neighbour is a condition of both sides.
            yield MeasureStep(number, Phase.STOP, parity=number)
        finally:
            try:
                run.close()
            finally:
                if run.windows and on_run is not None:
                    on_run(run.record())
        conditions.meter.run_done(number)
    return results


def measure_windows(under_load: TargetUnderLoad, policy: Policy[Result], conditions: Conditions) -> Result:
    """Take the windows that a policy asks for of a target that is started already, and return the policy's result.

    Raises:
        TargetError, LoadError: The measurement failed; the policy is closed first.
    """
    return run_to_end(_RunInProgress(0, conditions, under_load).measure(policy))


class _RunInProgress:
    """A fresh start of the target, and the windows that were taken since."""

    def __init__(self, number: int, conditions: Conditions, under_load: TargetUnderLoad | None = None) -> None:
        self._number, self._conditions, self._under_load = number, conditions, under_load
        self._anchor: StartedAnchor | None = None
        self._start_times, self._warmup_s = StartTimes(), 0.0
        self._warm = self._complete = self._sequential = False
        self.windows: list[Window] = []
        self._anchor_windows: list[Window] = []

    def start(
        self,
        turn: Turn,
        start: Callable[[], TargetUnderLoad],
        points: Sequence[LoadPoint],
        plan: MeasurePlan,
        on_under_test: Callable[[PlainMapping], None] | None,
    ) -> Measurement[None]:
        """Start the target and warm it up; if both sides of a duet don't fit, try again after the other has stopped."""
        while True:
            try:
                self._conditions.meter.say(self._number, "starting")
                monitor = self._conditions.monitor
                if monitor is not None and self._conditions.idle_power and not turn.both_started:
                    monitor.idle()
                cpu_before = read_cpu() if self._conditions.watch_cpu else None
                self._under_load = under_load = start()
                others = others_share(cpu_before, read_cpu()) if cpu_before is not None else None
                self._start_times = replace(under_load.start_times, others_cpu_share=others)
                if on_under_test is not None:
                    on_under_test(under_load.started.under_test())
                if monitor is not None:
                    monitor.add_known_processes(under_load.started.processes)
                turn = yield MeasureStep(self._number, Phase.WARM_UP, parity=self._number)
                self._conditions.meter.say(self._number, "warming up")
                self._warm, self._warmup_s = under_load.warm_up(points, plan)
            except Exception as error:
                if not (turn.both_started and _is_out_of_memory(error)):
                    raise
                self.close()
            else:
                return
            turn = yield MeasureStep(self._number, Phase.AGAIN)

    def start_anchor(self, anchor: Callable[[], StartedAnchor] | None) -> None:
        if anchor is not None:
            self._anchor = anchor()
            if self._conditions.monitor is not None:
                self._conditions.monitor.add_known_processes(self._anchor.processes)

    def measure(self, policy: Policy[Result]) -> Measurement[Result]:
        """Take the windows that the policy asks for, and return its result."""
        under_load, conditions, anchor = self._under_load, self._conditions, self._anchor
        assert under_load is not None
        with closing(policy):
            measured: Measured | None = None
            while True:
                try:
                    request = next(policy) if measured is None else policy.send(measured)
                except StopIteration as end:
                    self._complete = True
                    result: Result = end.value
                    return result
                turn = yield MeasureStep(self._number, Phase.WINDOW, request.number, request.parity)
                self._sequential = turn.sequential
                conditions.meter.say(self._number, "measuring", request.point)
                take = partial(under_load.measure, request, conditions.name, conditions.watch_cpu, conditions.monitor)
                if anchor is None:
                    window, recording = take()
                else:
                    (window, recording), anchor_window = anchor.measure_pair(request.point, take)
                    self._anchor_windows.append(anchor_window)
                measured = without_common_memory(window, turn, under_load.started), recording
                self.windows.append(measured[0])

    def record(self) -> Run:
        """Return the run, as far as it was measured."""
        return Run(
            self._conditions.name,
            self._number,
            self._start_times,
            self._warmup_s,
            self._warm,
            with_cached_points(self.windows),
            self._complete,
            tuple(self._anchor_windows),
            self._sequential,
        )

    def close(self) -> None:
        """Stop the anchor and the target."""
        with ExitStack() as stack:
            for started in (self._under_load, self._anchor):
                if started is not None:
                    stack.callback(started.close)
        self._under_load = None


def without_common_memory(window: Window, turn: Turn, started: StartedTarget) -> Window:
    """Drop the memory that both sides of a duet share in a window: compared, the sides would look the same.

    That is the memory of a whole device, and of this process when both sides are in it.
    """
    memory = window.memory
    if memory is None or turn.sequential or not turn.both_started:
        return window
    in_this_process = turn.same_process and os.getpid() in started.processes
    return replace(window, memory=None if in_this_process else replace(memory, device_bytes=None))


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory of the device or the machine has run out; every library words it differently."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}") is not None
