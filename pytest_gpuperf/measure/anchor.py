"""Windows of the anchor between those of a target: they show how fast the machine was at that moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.measure.policy import Measured, WindowRequest
from pytest_gpuperf.measure.target_under_load import TargetUnderLoad, shared_by_batch_size
from pytest_gpuperf.model import LoadPoint, Window
from pytest_gpuperf.targets import Target
from pytest_gpuperf.targets.anchor import BATCH_SIZE

#: The sweep name of all windows of the anchor.
SWEEP = "anchor"
#: The anchor has the concurrency of the load point beside it, up to this limit; in open loop it has this concurrency.
#: Waiting for the server's single instance grows with what other processes take of the CPU, and should grow equally.
MAX_CONCURRENCY = 4
#: Short: it only measures the machine's speed, and noise that lasts less than this doesn't cancel anyway.
WINDOW_S = 0.3


def anchored_plan(plan: MeasurePlan) -> MeasurePlan:
    """Halve the windows and double the visits: only noise that lasts longer than a pair of windows cancels."""
    return replace(
        plan, visits=2 * plan.visits, window_s=plan.window_s / 2, min_requests=math.ceil(plan.min_requests / 2)
    )


class StartedAnchor:
    """The anchor, started for a run."""

    def __init__(self, target: Target, plan: MeasurePlan) -> None:
        self._deadline_s = plan.deadline_s
        self._first = False
        point = LoadPoint(MAX_CONCURRENCY, BATCH_SIZE)
        self._under_load = TargetUnderLoad.start(target, shared_by_batch_size([point]), [point])
        with ExitStack() as undo:
            undo.callback(self._under_load.close)
            self._under_load.warm_up([point], plan)
            undo.pop_all()

    @property
    def processes(self) -> tuple[int, ...]:
        """The root processes of the anchor."""
        return self._under_load.started.processes

    def measure_pair(self, point: LoadPoint, take: Callable[[], Measured]) -> tuple[Measured, Window]:
        """Take a window of the target, and one of the anchor next to it.

        The two alternate in which comes first, so that a drift of the machine affects both equally.
        The anchor's has the load point and visit of the target's window.
        """
        self._first = not self._first
        before = self._window(point) if self._first else None
        measured = take()
        anchor_window = before or self._window(point)
        return measured, replace(anchor_window, point=measured[0].point, visit=measured[0].visit)

    def _window(self, point: LoadPoint) -> Window:
        concurrency = min(point.concurrency or MAX_CONCURRENCY, MAX_CONCURRENCY)
        spec = WindowSpec(
            concurrency, WINDOW_S, lead_in_s=0.05, min_requests=10, max_window_s=2.0, deadline_s=self._deadline_s
        )
        return self._under_load.measure(WindowRequest(LoadPoint(concurrency, BATCH_SIZE), spec), name=SWEEP)[0]

    def close(self) -> None:
        """Stop the anchor."""
        self._under_load.close()
