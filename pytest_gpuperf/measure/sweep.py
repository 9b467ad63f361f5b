"""Sweeps, and the sides of duets: runs over load points that are given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from pytest_gpuperf.device import Monitor
from pytest_gpuperf.measure.anchor import StartedAnchor
from pytest_gpuperf.measure.measuring_loop import Conditions, Measurement, measure_runs, run_to_end
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.measure.policy import Policy, planned_windows
from pytest_gpuperf.measure.progress import Progress, ProgressMeter
from pytest_gpuperf.measure.turns import BlockDecision
from pytest_gpuperf.model import Arrivals, LoadPoint, PlainMapping, Run, Window
from pytest_gpuperf.targets import Target


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
    """Measure runs over the load points, and repeat disturbed windows.

    Args:
        on_run, on_under_test, anchor: See ``measure_runs``.
        on_progress: Called whenever the sweep gets further.
        watch_cpu, monitor: See ``Conditions``.
        arrivals: The schedules of open-loop points.

    Raises:
        TargetError, LoadError, OptionError: The sweep failed.
    """
    run_to_end(
        measure_points(
            target,
            points,
            plan,
            Conditions(name, ProgressMeter.of_plan(name, plan, len(points), on_progress), watch_cpu, monitor),
            on_run=on_run,
            on_under_test=on_under_test,
            arrivals=arrivals,
            repeats=plan.repeats(points),
            anchor=anchor,
        )
    )


def measure_points(
    target: Target,
    points: Sequence[LoadPoint],
    plan: MeasurePlan,
    conditions: Conditions,
    *,
    on_run: Callable[[Run], None],
    on_under_test: Callable[[PlainMapping], None],
    arrivals: Mapping[LoadPoint, Arrivals] | None = None,
    measured: Collection[LoadPoint] | None = None,
    repeats: int = 0,
    anchor: Callable[[], StartedAnchor] | None = None,
) -> Measurement[object]:
    """Measure a sweep, or a side of a duet whose other side is measured here or by another process.

    Args:
        points: The load points; of a duet those of both sides, in the same order for both.
        measured: The points that this side of a duet is measured at; all by default.
        repeats: How many disturbed windows of a run are repeated; none of a duet, where each has its partner.

    Raises:
        TargetError, LoadError, OptionError: The measurement failed. Closing it stops the target and keeps the run.
    """

    def policy(run: int, decision: BlockDecision | None) -> Policy[list[Window]]:
        done, of_run = conditions.meter.window_done, plan
        if decision is not None:
            of_run = replace(plan, visits=decision.alternations)
            conditions.meter.expect(run, decision.expected_blocks, decision.alternations * len(points_here))
        return planned_windows(points, of_run, run, repeats=repeats, on_done=done, arrivals=arrivals, measured=measured)

    points_here = [point for point in points if measured is None or point in measured]
    return measure_runs(
        target, points_here, plan, policy, conditions, on_run=on_run, on_under_test=on_under_test, anchor=anchor
    )
