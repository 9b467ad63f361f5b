"""Sweeps: runs over load points that are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pytest_gpuperf.device import Monitor
from pytest_gpuperf.measure.anchor import StartedAnchor
from pytest_gpuperf.measure.measuring_loop import Conditions, alone, measure_runs
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.measure.policy import Policy, planned_windows
from pytest_gpuperf.measure.progress import Progress, ProgressMeter
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
        TargetError, LoadError, OptionError: The sweep can't go on.
    """
    meter = ProgressMeter.of_plan(name, plan, len(points), on_progress)

    def policy(run: int) -> Policy[list[Window]]:
        repeats = plan.repeats(points)
        return planned_windows(points, plan, run, repeats=repeats, on_done=meter.window_done, arrivals=arrivals)

    conditions = Conditions(name, meter, watch_cpu, monitor)
    alone(
        measure_runs(
            target, points, plan, policy, conditions, on_run=on_run, on_under_test=on_under_test, anchor=anchor
        )
    )
