"""A test and its measurement: the sweeps and duets it asks for, on devices that no other process uses."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TypeVar

import pytest

from pytest_gpuperf.analysis.duet.looks import MOST_BLOCKS
from pytest_gpuperf.analysis.rule import Rule, rule_of
from pytest_gpuperf.device import tracers
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure import MeasurePlan, measure_duet, measure_sweep, smoke_duet, smoke_sweep
from pytest_gpuperf.measure.anchor import StartedAnchor, anchored_plan
from pytest_gpuperf.measure.ask import Steps
from pytest_gpuperf.measure.explore import Axis, explore
from pytest_gpuperf.measure.measuring_loop import Conditions
from pytest_gpuperf.measure.progress import ProgressMeter
from pytest_gpuperf.measure.sweep import measure_points
from pytest_gpuperf.measure.turns import CANDIDATE
from pytest_gpuperf.model import (
    GATED,
    Arrivals,
    Comparison,
    Curve,
    LoadPoint,
    LookShares,
    PlainMapping,
    Record,
    RuleSettings,
    Run,
    StartTimes,
    Window,
    smoke_curve,
)
from pytest_gpuperf.safe_text import printable
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.duet.looks import DuetLooks
from pytest_gpuperf.session.duet.side import DuetSide
from pytest_gpuperf.session.interim_looks import plans_between_looks
from pytest_gpuperf.session.load_points import kept_points_of, on_axis, schedules
from pytest_gpuperf.session.marker import Marker
from pytest_gpuperf.session.measured_devices import MeasuredDevices
from pytest_gpuperf.session.sweeps import Sweep, settings_of
from pytest_gpuperf.store import Baseline
from pytest_gpuperf.store.provenance import utc_now
from pytest_gpuperf.targets import Target

Result = TypeVar("Result")


class MeasuredTest:
    """Measures for one test, and keeps what it measured for the gate.

    Args:
        test: Id of the test in records.
        node_id: pytest's id of the test, from the top of the checkout; ``test`` when empty.

    Attributes:
        enabled: False in a smoke run (pytest without ``--gpuperf``).
        sweeps: Sweeps measured so far.
        baseline: Records that the test is compared with (of a duet: earlier duets); None before the first sweep.
        smoked_points: Number of load points that a smoke run tried.
        unmeasured_reason: Reason why the test measures nothing; empty if it does.
        begun: Names of the sweeps and duets that the test has asked for, in order.
        notes: Results of searches and adaptive sweeps, as lines for the terminal.
    """

    def __init__(self, context: Context, test: str, marker: Marker, gated_tests: int = 1, *, node_id: str = "") -> None:
        self._context, self.test, self._marker, self._gated_tests = context, test, marker, gated_tests
        self._node_id = node_id or test
        self.enabled = context.settings.measure
        # Read before anything is measured: a damaged calibration must not cost the measurement.
        self._prior = context.prior if self.enabled else None
        self._devices = MeasuredDevices(context, test)
        self.sweeps: list[Sweep] = []
        self.baseline: Baseline | None = None
        self.smoked_points = 0
        self._traced_by: tuple[str, ...] = ()
        self.unmeasured_reason = ""
        self.begun: list[str] = []
        self.notes: list[str] = []
        self._of_duets: bool | None = None

    @property
    def devices(self) -> MeasuredDevices:
        """Devices on which the test is measured."""
        return self._devices

    @property
    def plan(self) -> MeasurePlan:
        """The plan of a sweep that states nothing else."""
        return MeasurePlan(runs=self._marker.runs or self._context.settings.runs)

    @property
    def most_blocks(self) -> int:
        """Most blocks of a duet that states nothing else."""
        return max(MOST_BLOCKS, self._context.settings.max_runs)

    @property
    def is_duet(self) -> bool:
        """Whether the sweeps have references of their own, and need no stored baseline."""
        return any(sweep.duet for sweep in self.sweeps)

    @property
    def has_runs(self) -> bool:
        """Whether anything was measured."""
        return any(sweep.runs for sweep in self.sweeps)

    def begin(self, name: str, *, duet: bool = False) -> str:
        """Begin a sweep or a duet, also of a smoke run, before anything is measured for it; return its name.

        Raises:
            OptionError: This test has a sweep of this name, or a sweep where this is a duet, or vice versa; or the name
                can't be shown in one line.
        """
        if printable(name) != name:
            raise OptionError(f"name={name!r}: write a name without line breaks and control characters.")
        if name in self.begun:
            raise OptionError(f"This test has a sweep named {name!r} already; give each its own name=.")
        if self._of_duets not in (None, duet):
            raise OptionError(
                "A sweep is compared with stored records and a duet with its own reference, so one test can't have "
                "both.\nGive the duet a test of its own."
            )
        self._of_duets = duet
        self.begun.append(name)
        return name

    # Measuring

    def sweep(
        self,
        target: Target,
        points: Sequence[LoadPoint],
        arrivals: Mapping[LoadPoint, Arrivals],
        plan: MeasurePlan,
        *,
        name: str,
        axis: Axis | None = None,
        kept_points: Sequence[LoadPoint] = (),
    ) -> Curve:
        """Measure a target at load points, or in a smoke run only try them.

        Args:
            arrivals: Schedules of the points in open loop.
            axis: Axis on which the points were explored; None for points that the test states.
            kept_points: Explored points that the next record measures as well.
        """
        if not self.enabled:
            smoke_sweep(target, points, plan)
            self.smoked_points += len(points)
            return smoke_curve(name, points)
        self._devices.choose(target, begun=self.baseline is not None)
        if self._context.duet_side is not None:
            return self._sweep_as_side(self._context.duet_side, target, points, arrivals, plan, name=name, axis=axis)
        anchor = None
        if self._context.settings.anchor:
            plan = anchored_plan(plan)
            anchor = partial(StartedAnchor, self._devices.anchor_target(), plan)
        sweep = self._begin(Sweep(name, tuple(points), plan.runs, plan.window_s, kept=tuple(kept_points)))
        with self._devices.monitored() as monitor:
            most = plan.runs if self._marker.runs is not None else self._context.settings.max_runs
            for part in plans_between_looks(sweep, plan, most, lambda: self._compare(self.record())):
                measure_sweep(
                    target,
                    points,
                    part,
                    name=name,
                    on_run=sweep.runs.append,
                    on_under_test=partial(sweep.describe, CANDIDATE),
                    on_progress=self._context.console.progress,
                    watch_cpu=self._devices.watch_cpu,
                    arrivals=arrivals,
                    anchor=anchor,
                    monitor=monitor,
                )
        return sweep.curve

    def sweep_explored(
        self,
        target: Target,
        points: Sequence[LoadPoint],
        axis: Axis,
        plan: MeasurePlan,
        *,
        name: str,
        kept_points: Sequence[LoadPoint],
    ) -> Curve:
        """Measure explored points over fresh starts, together with those that the baseline keeps."""
        points = sorted({*points, *self.baseline_points(name, axis)}, key=lambda point: (point.concurrency, point.rate))
        arrivals = schedules(points, axis)
        return self.sweep(target, points, arrivals, plan, name=name, axis=axis, kept_points=kept_points)

    def duet(
        self,
        candidate: Target,
        reference: Target,
        points: Sequence[LoadPoint],
        arrivals: Mapping[LoadPoint, Arrivals],
        plan: MeasurePlan,
        *,
        name: str,
        alternations: int | None,
    ) -> Sweep:
        """Measure two targets in alternation, or in a smoke run only try them.

        Args:
            plan: Has the most blocks; the duet ends as soon as it is decided.
            alternations: Pairs of windows in each block, or None for what the measured spreads suggest.
        """
        sweep = Sweep(name, tuple(points), plan.runs, plan.window_s, duet=True)
        if self._context.duet_side is not None:
            pytest.skip("gpuperf duet can't measure a test that calls gpuperf.duet(); run it with pytest --gpuperf")
        if not self.enabled:
            smoke_duet(candidate, reference, points, plan)
            self.smoked_points += 2 * len(points)
            return sweep
        self._devices.choose(candidate, reference, begun=self.baseline is not None)
        self._begin(sweep)
        with self._devices.monitored() as monitor:
            measure_duet(
                candidate,
                reference,
                points,
                plan,
                name=name,
                on_run=sweep.add_run,
                on_under_test=sweep.describe,
                on_progress=self._context.console.progress,
                watch_cpu=self._devices.watch_cpu,
                decide=self._looks(sweep, plan, alternations).decide,
                arrivals=arrivals,
                monitor=monitor,
            )
        return sweep

    def explore(
        self, target: Target, steps: Steps[Result], axis: Axis, plan: MeasurePlan, *, name: str, min_requests: int
    ) -> Result:
        """Measure the loads that an algorithm asks for, in one start of the target; return the algorithm's result."""
        self._devices.choose(target, begun=self.baseline is not None)
        self._read_baseline(duet=self._context.duet_side is not None)
        with self._devices.monitored() as monitor:
            return explore(
                target,
                steps,
                axis,
                plan,
                name=f"{name}, exploring",
                min_requests=min_requests,
                on_progress=self._context.console.progress,
                watch_cpu=self._devices.watch_cpu,
                monitor=monitor,
            )

    def baseline_points(self, name: str, axis: Axis) -> tuple[LoadPoint, ...]:
        """Return the points that the baseline keeps of a sweep; none in ``gpuperf duet``, which reads no baseline."""
        if self.baseline is None or self._context.duet_side is not None:
            return ()
        return kept_points_of(self.baseline, name, axis)

    # pytest-benchmark

    def expect_window(self) -> None:
        """Read the baseline of a window that ``add_window`` adds later."""
        self._read_baseline(duet=False)

    def add_window(self, window: Window, under_test: PlainMapping, *, complete: bool) -> None:
        """Add a window that pytest-benchmark measured, as a sweep with a single run."""
        name = self.begin(window.sweep)
        sweep = self._begin(Sweep(name, (window.point,), 1, 0.0, under_test=under_test))
        sweep.runs.append(Run(name, 0, StartTimes(), 0.0, True, (window,), complete))

    # Record and rule

    def record(self) -> Record:
        """Return what was measured so far, as a record."""
        complete = all(sweep.complete for sweep in self.sweeps)
        return Record(
            id=uuid.uuid4().hex[:12],
            invocation=self._context.invocation,
            test=self.test,
            node_id=self._node_id,
            created_utc=utc_now(),
            key=self._key,
            status="complete" if complete else "incomplete",
            gate="open",
            runs=tuple(run for sweep in self.sweeps for run in sweep.runs),
            commit=self._context.checkout.commit,
            merge_base=self._context.merge_base.commit,
            under_test={sweep.name: sweep.under_test for sweep in self.sweeps},
            environment={"uncommitted_changes": self._context.checkout.dirty, **self._context.environment(self.test)},
            settings={**settings_of(self.sweeps, self.plan), "gpuperf": version("pytest-gpuperf")},
            rule=self._rule_settings(),
            reference=tuple(run for sweep in self.sweeps for run in sweep.reference),
            reference_under_test={sweep.name: sweep.reference_under_test for sweep in self.sweeps if sweep.duet},
            device_kind=self._devices.kind,
            budgets=tuple(dict.fromkeys(budget for sweep in self.sweeps for budget in sweep.budgets)),
            kept_points={sweep.name: sweep.kept for sweep in self.sweeps if sweep.kept},
        )

    def rule(self, record: Record) -> Rule:
        """Return the rule that decides about a record of this test."""
        assert self._prior is not None, "a smoke run has no rule"
        return rule_of(record.rule or RuleSettings(), self._prior)

    def _rule_settings(self) -> RuleSettings:
        settings, marker = self._context.settings, self._marker
        return RuleSettings(
            alpha=settings.alpha,
            tests=self._gated_tests,
            min_effect=settings.min_effect if marker.min_effect is None else marker.min_effect,
            metrics=GATED if marker.metrics is None else marker.metrics,
            looks={sweep.name: sweep.look for sweep in self.sweeps if sweep.look != LookShares()},
        )

    @property
    def _key(self) -> PlainMapping:
        return self._context.key(self.test, self._marker.version, self._traced_by)

    def _read_baseline(self, *, duet: bool) -> None:
        """Read the baseline before anything is measured: a damaged one should not cost minutes."""
        if self.baseline is None:
            self._traced_by = tracers()
            self.baseline = self._context.baseline(self._key, duet=duet)
            self._context.pools.read(self._key)  # now, so that nothing is read while tests are measured

    # Looks

    def _begin(self, sweep: Sweep) -> Sweep:
        self._read_baseline(duet=sweep.duet)
        self.sweeps.append(sweep)
        return sweep

    def _looks(self, sweep: Sweep, plan: MeasurePlan, alternations: int | None) -> DuetLooks:
        """Return the looks at a duet, which compare it as the gate will."""
        assert self.baseline is not None
        history = self.baseline.records
        return DuetLooks(sweep, plan, alternations, record=self.record, compare=self._compare, history=history)

    def _compare(self, record: Record) -> Comparison:
        assert self.baseline is not None
        return self._context.compare(record, self.baseline, self.rule(record))

    # gpuperf duet

    def _sweep_as_side(
        self,
        side: DuetSide,
        target: Target,
        points: Sequence[LoadPoint],
        arrivals: Mapping[LoadPoint, Arrivals],
        plan: MeasurePlan,
        *,
        name: str,
        axis: Axis | None,
    ) -> Curve:
        """Measure a sweep whose reference is measured by another process, in alternation with it."""
        self._read_baseline(duet=True)
        plan = replace(side.plan(plan.window_s), workers=plan.workers)
        common_points = side.points(self.test, name, points)
        if common_points is None:
            return smoke_curve(name, points)
        if axis is not None:
            # The sides may have explored different axes; a point that is not on this axis is the other side's alone.
            points = on_axis(axis, common_points)
            arrivals = schedules(points, axis)
        sweep = Sweep(name, tuple(points), plan.runs, plan.window_s)
        meter = ProgressMeter.of_plan(name, plan, len(points), self._context.console.progress)
        steps = measure_points(
            target,
            common_points,
            plan,
            Conditions(name, meter, self._devices.watch_cpu, self._context.monitor(self.test)),
            on_run=sweep.runs.append,
            on_under_test=partial(sweep.describe, CANDIDATE),
            arrivals=arrivals,
            measured=points,
        )
        self.sweeps.append(sweep)
        looks = self._looks(sweep, plan, side.alternations)
        try:
            with self._devices.locked():
                measured_by_both = side.drive(steps, sweep, looks)
        finally:
            self._context.console.clear()
        if not measured_by_both:
            self.sweeps.remove(sweep)  # one side alone compares nothing
            return smoke_curve(name, points)
        return sweep.curve
