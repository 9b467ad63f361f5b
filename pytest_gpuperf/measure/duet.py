"""Duets: two targets measured against each other in windows that alternate within fractions of a second.

The noise of a shared machine is in time: it comes and goes within seconds, and what is measured minutes apart differs
by it. A block is a fresh start of both sides; inside it both stay alive, and while one is measured the other idles. So
the noise falls on both sides alike and cancels in their paired differences, and fresh starts replicate what a start
decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

from pytest_gpuperf.device import Monitor
from pytest_gpuperf.errors import GpuperfError, LoadError, OptionError, TargetDied, TargetError
from pytest_gpuperf.measure.plan import MeasurePlan, Progress
from pytest_gpuperf.measure.progress import ProgressMeter
from pytest_gpuperf.measure.sweep import smoke_sweep, warm_up
from pytest_gpuperf.measure.target_under_load import TargetUnderLoad
from pytest_gpuperf.measure.turns import SIDES, MeasureStep, Phase, Turn, Turns
from pytest_gpuperf.measure.window import take_window
from pytest_gpuperf.model import Arrivals, LoadPoint, PlainMapping, Run, Window
from pytest_gpuperf.targets import StartedTarget, Target

_NO_ROOM = re.compile(
    r"out.?of.?memory|(can.?not|could not|can't|failed to|unable to) allocate|memory allocation|bad_?alloc"
    r"|(insufficient|not enough)( \w+)? memory|\bENOMEM\b",
    re.IGNORECASE,
)


def duet_plan(blocks: int = 5, alternations: int = 24, window_s: float = 0.3) -> MeasurePlan:
    """How a duet is measured.

    Args:
        blocks: fresh starts of both sides, the unit of replication. On a noisy machine five found 8% more work.
        alternations: pairs of windows at each load point in each block. More buy little beside more blocks.
        window_s: short, since only noise that lasts longer than a pair of windows cancels.
    """
    return MeasurePlan(
        runs=blocks,
        visits=alternations,
        window_s=window_s,
        # Ten are the fewest from which a window can tell its median.
        min_requests=10,
        max_window_s=max(2.0, window_s),
        # The load generators stay open, so a window only waits for its queues to fill.
        lead_in_s=0.05,
    )


def measure_duet(
    candidate: Target,
    reference: Target,
    points: Sequence[LoadPoint],
    plan: MeasurePlan,
    *,
    name: str,
    on_run: Callable[[str, Run], None],
    on_under_test: Callable[[str, PlainMapping], None],
    on_progress: Callable[[Progress], None],
    watch_cpu: bool,
    arrivals: Mapping[LoadPoint, Arrivals] | None = None,
    monitor: Monitor | None = None,
) -> None:
    """Measure blocks of both sides; ``plan.visits`` pairs of windows at each point.

    Args:
        on_run: given ``candidate`` or ``reference`` and its run of a block as soon as it is over; also a run that was
            cut short, marked as not complete, before the error goes on its way.
        on_under_test: given what is under test on each side, once.
        arrivals, on_progress, watch_cpu, monitor: see ``measure_sweep``; windows are not repeated, there are many.

    Raises:
        TargetError, LoadError, OptionError: the duet can't go on; the message names the side.
    """
    meter = ProgressMeter(name, plan, len(points), on_progress, sides=2)
    with ExitStack() as stack:
        sides = []
        for side, target in zip(SIDES, (candidate, reference), strict=True):
            steps_of_side = play(
                target,
                points,
                plan,
                name=name,
                on_run=lambda run, side=side: on_run(side, run),  # type: ignore[misc]
                on_under_test=lambda facts, side=side: on_under_test(side, facts),  # type: ignore[misc]
                meter=meter,
                watch_cpu=watch_cpu,
                arrivals=arrivals,
                monitor=monitor,
                one_process=True,
            )
            sides.append(stack.enter_context(closing(steps_of_side)))
        turns = Turns()
        steps: list[MeasureStep | None] = [next(side) for side in sides]
        while steps != [None, None]:
            chosen = turns.choose(steps)
            try:
                steps[chosen] = sides[chosen].send(turns.turn(chosen, steps))
            except StopIteration:
                steps[chosen] = None
            except GpuperfError as error:
                raise _named(error, SIDES[chosen]) from error


def smoke_duet(candidate: Target, reference: Target, points: Sequence[LoadPoint], plan: MeasurePlan) -> None:
    """Start each side once and have it answer at every load point.

    Raises:
        TargetError, LoadError, OptionError: one doesn't; the message names it.
    """
    for side, target in zip(SIDES, (candidate, reference), strict=True):
        try:
            smoke_sweep(target, points, plan)
        except GpuperfError as error:
            raise _named(error, side) from error


def play(
    target: Target,
    points: Sequence[LoadPoint],
    plan: MeasurePlan,
    *,
    name: str,
    on_run: Callable[[Run], None],
    on_under_test: Callable[[PlainMapping], None],
    meter: ProgressMeter,
    watch_cpu: bool,
    arrivals: Mapping[LoadPoint, Arrivals] | None = None,
    own: Collection[LoadPoint] | None = None,
    monitor: Monitor | None = None,
    one_process: bool = False,
) -> Generator[MeasureStep, Turn, None]:
    """One side of a duet: yields each step before it takes it, and waits to be sent its turn.

    Args:
        points: of both sides, in the same order for both.
        own: those that this side is measured at; all when None.
        one_process: the other side is driven from here as well.

    Raises:
        TargetError, LoadError, OptionError: it can't go on. Closing it early stops the target and records the run.
    """
    number_of = {point: number for number, point in enumerate(points)}
    own = [point for point in points if own is None or point in own]
    described = False
    for run in range(plan.begun, plan.runs):
        windows: list[Window] = []
        warmup_s = 0.0
        warm = complete = sequential = False
        up: TargetUnderLoad | None = None
        turn = yield MeasureStep(run, Phase.START, parity=run)
        try:
            while True:
                try:
                    meter.say(run, "starting")
                    up = _started(target, own, plan, monitor, alone=not turn.other_up)
                    if not described:
                        on_under_test(up.started.under_test())
                        described = True
                    turn = yield MeasureStep(run, Phase.WARM_UP, parity=run)
                    meter.say(run, "warming up")
                    warm, warmup_s = warm_up(up.generator, up.started, up.workloads, own, plan)
                    break
                except Exception as error:
                    if not (turn.other_up and _no_room(error)):
                        raise
                    if up is not None:
                        up.close()
                        up = None
                turn = yield MeasureStep(run, Phase.AGAIN)
            for number, (visit, point) in enumerate(plan.order(points, run)):
                if point not in own:
                    continue
                turn = yield MeasureStep(run, Phase.WINDOW, number, visit + number_of[point] + run)
                sequential = turn.apart
                meter.say(run, "measuring", point)
                window, _ = take_window(
                    up.generator,
                    up.started,
                    up.workloads[point.batch_size],
                    name=name,
                    point=point,
                    spec=plan.spec(point, (arrivals or {}).get(point), run * plan.visits + visit),
                    visit=visit,
                    watched=watch_cpu and up.started.local,
                    monitor=monitor,
                    earlier=windows,
                )
                windows.append(_of_this_side(window, turn, up.started, one_process=one_process))
                meter.window_done()
            complete = True
            # Alive until the other has been measured as well: an idle neighbour is part of both sides' conditions.
            yield MeasureStep(run, Phase.STOP, parity=run)
        finally:
            try:
                if up is not None:
                    up.close()
            finally:
                if windows:
                    startup_s = up.startup_s if up is not None else 0.0
                    on_run(Run(name, run, startup_s, warmup_s, warm, tuple(windows), complete, sequential=sequential))
        meter.run_done(run)


def _started(
    target: Target, points: Sequence[LoadPoint], plan: MeasurePlan, monitor: Monitor | None, *, alone: bool
) -> TargetUnderLoad:
    """A side, known to the monitor.

    Args:
        alone: nothing else of the duet is running yet.
    """
    if monitor is None:
        return TargetUnderLoad(target, points, plan.workers)
    if alone:
        monitor.idle()
    up = TargetUnderLoad(target, points, plan.workers)
    monitor.beside(up.started.processes)
    return up


def _of_this_side(window: Window, turn: Turn, started: StartedTarget, *, one_process: bool) -> Window:
    """Without the memory that the other side has where that is up, too: compared, both sides would be found alike."""
    memory = window.memory
    if memory is None or turn.apart or not turn.other_up:
        return window
    # Two sides inside of one process can't be told apart at all.
    told = None if one_process and os.getpid() in started.processes else replace(memory, device_bytes=None)
    return replace(window, memory=told)


def _no_room(error: BaseException) -> bool:
    """Whether memory of the device or the machine has run out, which every library words in its own way."""
    return isinstance(error, MemoryError) or _NO_ROOM.search(f"{type(error).__name__}: {error}") is not None


def _named(error: GpuperfError, side: str) -> GpuperfError:
    """The same error, saying which side it is about."""
    if type(error) in (TargetError, TargetDied, LoadError, OptionError):
        return type(error)(f"The {side} side of the duet: {error}")
    return error
