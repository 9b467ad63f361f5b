"""Progress of a measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pytest_gpuperf.clock import time
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.model import LoadPoint

Stage = Literal["starting", "warming up", "measuring", "run done"]


@dataclass(frozen=True)
class Progress:
    """Progress of a sweep.

    Attributes:
        share: The share of the sweep's windows that are done, 0 to 1.
        runs: Number of runs.
        left_s: The estimated time left; None where there is no estimate.
        may_end_early: Whether ``runs`` is the most, and the sweep ends as soon as it is decided.
    """

    sweep: str
    run: int
    runs: int
    stage: Stage
    share: float
    left_s: float | None = None
    point: LoadPoint | None = None
    may_end_early: bool = False


class ProgressMeter:
    """Reports how far a sweep, a duet or a search is, for all sides that this process measures."""

    def __init__(
        self,
        name: str,
        runs: int,
        windows: int,
        on_progress: Callable[[Progress], None],
        *,
        sides: int = 1,
        exact: bool = True,
    ) -> None:
        """Count up to ``windows``; if that is a guess (``exact`` False), show neither the time left nor the end."""
        self._name, self._runs, self._total, self._on_progress = name, runs, windows, on_progress
        self._sides, self._exact = sides, exact
        self._begun: set[int] = set()
        self._done, self._runs_done, self._begin = 0, 0, time.monotonic()

    @classmethod
    def of_plan(
        cls, name: str, plan: MeasurePlan, points: int, on_progress: Callable[[Progress], None], *, sides: int = 1
    ) -> ProgressMeter:
        """Return the meter of a sweep over so many load points, or of a duet."""
        windows = (plan.runs - plan.begun) * plan.visits * points * sides
        return cls(name, plan.runs, windows, on_progress, sides=sides)

    def say(self, run: int, stage: Stage, point: LoadPoint | None = None) -> None:
        """Report that a stage begins."""
        share, left_s = self._done / self._total if self._total else 1.0, None
        if not self._exact:
            share = 1.0 if stage == "run done" else min(share, 0.99)
        elif self._done:
            left_s = (time.monotonic() - self._begin) / self._done * (self._total - self._done)
        self._on_progress(Progress(self._name, run, self._runs, stage, share, left_s, point, bool(self._begun)))

    def expect(self, run: int, runs: int, windows: int) -> None:
        """Expect so many runs in all, when a run with so many windows of a side begins."""
        if run not in self._begun:
            self._begun.add(run)
            self._total = self._done + max(runs - run, 1) * windows * self._sides

    def window_done(self) -> None:
        self._done += 1

    def run_done(self, run: int) -> None:
        """Count the run of a side, and report it when all sides have theirs."""
        self._runs_done += 1
        if self._runs_done % self._sides == 0:
            self.say(run, "run done")
