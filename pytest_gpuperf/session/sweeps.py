"""The sweeps of a test while they are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytest_gpuperf.measure import MeasurePlan
from pytest_gpuperf.measure.turns import CANDIDATE
from pytest_gpuperf.model import Budget, Curve, LoadPoint, LookShares, PlainMapping, Run, curve_of


@dataclass
class Sweep:
    """A sweep of a test while it is measured.

    Attributes:
        planned: Number of complete runs that the sweep has in the end.
        window_s: Planned length of its windows; 0 without a plan.
        look: What the current interim look may spend.
        duet: Whether it has a reference.
        reference: Runs of a duet's reference.
        budgets: Latency budgets that the test required of the curve, or searched for.
        kept: Explored points that the next record measures as well.
    """

    name: str
    points: tuple[LoadPoint, ...]
    planned: int
    window_s: float
    runs: list[Run] = field(default_factory=list)
    under_test: PlainMapping = field(default_factory=dict)
    look: LookShares = field(default_factory=LookShares)
    duet: bool = False
    reference: list[Run] = field(default_factory=list)
    reference_under_test: PlainMapping = field(default_factory=dict)
    budgets: list[Budget] = field(default_factory=list)
    kept: tuple[LoadPoint, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all planned runs were measured to their end."""
        sides = [self.runs, self.reference] if self.duet else [self.runs]
        return all(sum(run.complete for run in side) == self.planned for side in sides)

    @property
    def curve(self) -> Curve:
        """The curve measured so far, which adds the budgets that are required of it to ``budgets``."""
        return replace(curve_of(self.name, self.points, self.runs), on_require=self.budgets.append)

    @property
    def reference_curve(self) -> Curve:
        """The curve of a duet's reference."""
        return curve_of(self.name, self.points, self.reference)

    def add_run(self, side: str, run: Run) -> None:
        """Add a finished run of one side of a duet."""
        (self.runs if side == CANDIDATE else self.reference).append(run)

    def describe(self, side: str, facts: PlainMapping) -> None:
        """Keep what is under test on one side of a duet."""
        if side == CANDIDATE:
            self.under_test = facts
        else:
            self.reference_under_test = facts


def settings_of(sweeps: Sequence[Sweep], plan: MeasurePlan) -> PlainMapping:
    """Return how a test was measured: the largest number of runs and visits, and the longest window, of its sweeps."""
    windows = [window for sweep in sweeps for run in sweep.runs for window in run.windows]
    return {
        "runs": max((sweep.planned for sweep in sweeps), default=plan.runs),
        "visits": max((window.visit + 1 for window in windows), default=plan.visits),
        "window_s": max((sweep.window_s for sweep in sweeps), default=plan.window_s),
    }
