"""How far a measurement is, for people who wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_gpuperf.measure.plan import MeasurePlan, Progress
from pytest_gpuperf.model import LoadPoint


class ProgressMeter:
    """How far a sweep or a duet is, for all sides that one process measures."""

    def __init__(
        self, name: str, plan: MeasurePlan, points: int, on_progress: Callable[[Progress], None], *, sides: int = 1
    ) -> None:
        self._name, self._plan, self._on_progress, self._sides = name, plan, on_progress, sides
        self._total = (plan.runs - plan.begun) * plan.visits * points * sides
        self._done, self._runs_done, self._begin = 0, 0, time.monotonic()

    def say(self, run: int, stage: str, point: LoadPoint | None = None) -> None:
        """A stage begins."""
        left_s = (time.monotonic() - self._begin) / self._done * (self._total - self._done) if self._done else None
        share = self._done / self._total if self._total else 1.0
        self._on_progress(Progress(self._name, run, self._plan.runs, stage, share, left_s, point))

    def window_done(self) -> None:
        """One window more."""
        self._done += 1

    def run_done(self, run: int) -> None:
        """A side is through with a run."""
        self._runs_done += 1
        if self._runs_done % self._sides == 0:
            self.say(run, "run done")
