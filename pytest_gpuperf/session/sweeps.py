"""The sweeps of one test while they grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pytest_gpuperf.measure import MeasurePlan
from pytest_gpuperf.measure.turns import CANDIDATE
from pytest_gpuperf.model import Budget, Curve, LoadPoint, PlainMapping, Run, curve_of


@dataclass
class Sweep:
    """One sweep of a test while it grows.

    Attributes:
        planned: complete runs that it should have in the end.
        window_s: how long its windows should be.
        look: the how-manieth look at its runs has been the last, from 0.
        look_share: the part of the test's alpha that this look may spend.
        reference: of a duet: the runs of the other side.
        budgets: Latency budgets that the test required of the curve, or searched for.
        kept: of points that were looked for, those that the next record measures as well.
    """

    name: str
    points: tuple[LoadPoint, ...]
    planned: int
    window_s: float
    runs: list[Run] = field(default_factory=list)
    under_test: PlainMapping = field(default_factory=dict)
    look: int = 0
    look_share: float = 1.0
    duet: bool = False
    reference: list[Run] = field(default_factory=list)
    reference_under_test: PlainMapping = field(default_factory=dict)
    budgets: list[Budget] = field(default_factory=list)
    kept: tuple[LoadPoint, ...] = ()

    @property
    def complete(self) -> bool:
        """All runs were measured to their end."""
        sides = [self.runs, self.reference] if self.duet else [self.runs]
        return all(sum(run.complete for run in side) == self.planned for side in sides)

    @property
    def curve(self) -> Curve:
        """The curve as far as it was measured; budgets required of it are noted here."""
        return replace(curve_of(self.name, self.points, self.runs), on_require=self.budgets.append)

    @property
    def reference_curve(self) -> Curve:
        """Of a duet: the other side's."""
        return curve_of(self.name, self.points, self.reference)

    def keep(self, side: str, run: Run) -> None:
        """A run of a duet is over."""
        (self.runs if side == CANDIDATE else self.reference).append(run)

    def describe(self, side: str, facts: PlainMapping) -> None:
        """What is under test on one side of a duet."""
        if side == CANDIDATE:
            self.under_test = facts
        else:
            self.reference_under_test = facts


def settings_of(sweeps: Sequence[Sweep], plan: MeasurePlan) -> PlainMapping:
    """How a test was measured; of several sweeps, the most runs and visits."""
    windows = [window for sweep in sweeps for run in sweep.runs for window in run.windows]
    return {
        "runs": max((sweep.planned for sweep in sweeps), default=plan.runs),
        "visits": max((window.visit + 1 for window in windows), default=plan.visits),
        "window_s": max((sweep.window_s for sweep in sweeps), default=plan.window_s),
    }
