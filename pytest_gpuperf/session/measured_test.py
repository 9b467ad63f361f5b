"""What one test measures: its sweeps and duets while they grow, on a device that is nobody else's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TypeVar

import pytest

from pytest_gpuperf.analysis.rule import Rule, rule_of, rule_settings
from pytest_gpuperf.analysis.sequential import alpha_share, looks, next_look
from pytest_gpuperf.analysis.values import GATED
from pytest_gpuperf.device import Device, DeviceLock, Monitor
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure import MeasurePlan, measure_duet, measure_sweep, smoke_duet, smoke_sweep
from pytest_gpuperf.measure.anchor import StartedAnchor, anchored_plan
from pytest_gpuperf.measure.ask import Steps
from pytest_gpuperf.measure.duet import measure_side
from pytest_gpuperf.measure.explore import Axis, explore
from pytest_gpuperf.measure.measuring_loop import Conditions
from pytest_gpuperf.measure.progress import ProgressMeter
from pytest_gpuperf.measure.turns import CANDIDATE
from pytest_gpuperf.model import Arrivals, Curve, LoadPoint, PlainMapping, Record, smoke_curve
from pytest_gpuperf.publish.comparison import compare_record
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.explored_points import inherited, on_axis, schedules
from pytest_gpuperf.session.marker import Marker
from pytest_gpuperf.session.sweeps import Sweep, settings_of
from pytest_gpuperf.store import Baseline, duet_history, select_baseline
from pytest_gpuperf.store.store import utc_now
from pytest_gpuperf.targets import OnDevices, Target
from pytest_gpuperf.targets.anchor import anchor_target

Result = TypeVar("Result")


class MeasuredTest:
    """Measures for one test, and remembers what it measured for the gate.

    Attributes:
        enabled: False in a smoke run (pytest without ``--gpuperf``).
        sweeps: what was measured so far.
        baseline: what it will be compared with (of a duet: what shows how blocks differ); None before the first sweep.
        smoked: load points that were only tried.
    """

    def __init__(self, context: Context, test: str, marker: Marker, gated_tests: int = 1) -> None:
        self._context, self.test, self.marker, self._gated_tests = context, test, marker, gated_tests
        self.enabled = context.settings.measure
        self.sweeps: list[Sweep] = []
        self.baseline: Baseline | None = None
        self.smoked = 0

    @property
    def plan(self) -> MeasurePlan:
        """How this test is measured, unless a sweep says otherwise."""
        return MeasurePlan(runs=self.marker.runs or self._context.settings.runs)

    @property
    def key(self) -> PlainMapping:
        """What must match for a stored record to be comparable with this one."""
        return self._context.key(self.test, self.marker.version)

    @property
    def duet(self) -> bool:
        """Its sweeps have a reference of their own, so it needs no stored baseline."""
        return any(sweep.duet for sweep in self.sweeps)

    @property
    def has_runs(self) -> bool:
        """Whether anything was measured."""
        return any(sweep.runs for sweep in self.sweeps)

    @property
    def look_share(self) -> float:
        """The part of alpha that a comparison of all sweeps may spend.

        Each sweep stopped at a look of its own. With the smallest of their shares for all, no row is tested with more
        than its own look may spend.
        """
        return min((sweep.look_share for sweep in self.sweeps), default=1.0)

    def free(self, name: str) -> str:
        """The name, if no other sweep of this test has it.

        Raises:
            OptionError: one has.
        """
        if any(sweep.name == name for sweep in self.sweeps):
            raise OptionError(f"This test has a sweep named {name!r} already; give each its own name=.")
        return name

    def sweep(
        self,
        thing: Target,
        points: Sequence[LoadPoint],
        arrivals: Mapping[LoadPoint, Arrivals],
        plan: MeasurePlan,
        *,
        name: str,
        axis: Axis | None = None,
        kept: Sequence[LoadPoint] = (),
    ) -> Curve:
        """Measure these points, or in a smoke run only try them.

        Args:
            axis: of points that were found and not given: what another side finds is measured here as well.
            kept: of those the ones that the next record measures as well.
        """
        if not self.enabled:
            smoke_sweep(thing, points, plan)
            self.smoked += len(points)
            return smoke_curve(name, points)
        self._place(thing)
        if self._context.duet_side is not None:
            return self._in_lockstep(thing, points, arrivals, plan, name=name, axis=axis)
        anchor = None
        if self._context.settings.anchor:
            plan = anchored_plan(plan)
            devices, server = self._context.devices, self._context.settings.triton
            thing_beside = anchor_target(devices.of(self.test)[0].kind, server, devices.in_process(self.test))
            anchor = partial(StartedAnchor, thing_beside, plan)
        sweep = self._begin(Sweep(name, tuple(points), plan.runs, plan.window_s, kept=tuple(kept)))

        with self._device() as monitor:
            for part in self._parts(sweep, plan, sequential=self.marker.runs is None):
                measure_sweep(
                    thing,
                    points,
                    part,
                    name=name,
                    on_run=sweep.runs.append,
                    on_under_test=partial(sweep.describe, CANDIDATE),
                    on_progress=self._context.console.progress,
                    watch_cpu=self._watch_cpu,
                    arrivals=arrivals,
                    anchor=anchor,
                    monitor=monitor,
                )
        return sweep.curve

    def play_duet(
        self,
        candidate: Target,
        reference: Target,
        points: Sequence[LoadPoint],
        arrivals: Mapping[LoadPoint, Arrivals],
        plan: MeasurePlan,
        *,
        name: str,
        sequential: bool,
    ) -> Sweep:
        """Measure two targets against each other, or in a smoke run only try them.

        Args:
            sequential: an undecided duet may have more blocks than planned.
        """
        sweep = Sweep(name, tuple(points), plan.runs, plan.window_s, duet=True)
        if self._context.duet_side is not None:
            pytest.skip("it compares its own two sides, which gpuperf duet can't: run it with pytest --gpuperf")
        if not self.enabled:
            smoke_duet(candidate, reference, points, plan)
            self.smoked += 2 * len(points)
            return sweep
        self._place(candidate, reference)
        self._begin(sweep)
        with self._device() as monitor:
            for part in self._parts(sweep, plan, sequential=sequential):
                measure_duet(
                    candidate,
                    reference,
                    points,
                    part,
                    name=name,
                    on_run=sweep.keep,
                    on_under_test=sweep.describe,
                    on_progress=self._context.console.progress,
                    watch_cpu=self._watch_cpu,
                    arrivals=arrivals,
                    monitor=monitor,
                )
        return sweep

    def explore(
        self, thing: Target, steps: Steps[Result], axis: Axis, plan: MeasurePlan, *, name: str, min_requests: int
    ) -> Result:
        """Measure what an algorithm asks for, in one start."""
        self._place(thing)
        self._find_baseline(duet=self._context.duet_side is not None)
        with self._device() as monitor:
            return explore(
                thing,
                steps,
                axis,
                plan,
                name=f"{name}, exploring",
                min_requests=min_requests,
                on_progress=self._context.console.progress,
                watch_cpu=self._watch_cpu,
                monitor=monitor,
            )

    def found(
        self,
        thing: Target,
        found: Sequence[LoadPoint],
        axis: Axis,
        plan: MeasurePlan,
        *,
        name: str,
        kept: Sequence[LoadPoint],
    ) -> Curve:
        """Measure what was found over fresh starts, beside the points that the baseline has.

        Args:
            kept: what the next record measures as well.
        """
        points = sorted({*found, *self.baseline_points(name, axis)}, key=lambda point: (point.concurrency, point.rate))
        return self.sweep(thing, points, schedules(points, axis), plan, name=name, axis=axis, kept=kept)

    def baseline_points(self, name: str, axis: Axis) -> tuple[LoadPoint, ...]:
        """See ``inherited``; none in a duet with another process: that one is compared with, and no record."""
        if self.baseline is None or self._context.duet_side is not None:
            return ()
        return inherited(self.baseline, name, axis)

    def record(self) -> Record:
        """What was measured so far."""
        complete = all(sweep.complete for sweep in self.sweeps)
        return Record(
            id=uuid.uuid4().hex[:12],
            invocation=self._context.invocation,
            test=self.test,
            created_utc=utc_now(),
            key=self.key,
            status="complete" if complete else "incomplete",
            gate="open",
            runs=tuple(run for sweep in self.sweeps for run in sweep.runs),
            commit=self._context.checkout.commit,
            under_test={sweep.name: sweep.under_test for sweep in self.sweeps},
            environment={"uncommitted_changes": self._context.checkout.dirty, **self._context.environment(self.test)},
            settings={
                **settings_of(self.sweeps, self.plan),
                **self._rule_settings(),
                "gpuperf": version("pytest-gpuperf"),
            },
            reference=tuple(run for sweep in self.sweeps for run in sweep.reference),
            reference_under_test={sweep.name: sweep.reference_under_test for sweep in self.sweeps if sweep.duet},
            device_kind=self._devices[0].kind,
            budgets=tuple(dict.fromkeys(budget for sweep in self.sweeps for budget in sweep.budgets)),
            kept_points={sweep.name: sweep.kept for sweep in self.sweeps if sweep.kept},
        )

    def _rule_settings(self) -> PlainMapping:
        settings, marker = self._context.settings, self.marker
        return rule_settings(
            alpha=settings.alpha,
            tests=self._gated_tests,
            min_effect=settings.min_effect if marker.min_effect is None else marker.min_effect,
            metrics=GATED if marker.metrics is None else marker.metrics,
            look_share=self.look_share,
        )

    def rule(self, record: Record) -> Rule:
        """Return the rule that decides about a record of this test.

        Raises:
            StoreError: The device's calibration can't be read.
        """
        return rule_of(record.settings, self._context.prior)

    def _place(self, *targets: Target) -> None:
        """The devices of this test are those that its targets say they compute on."""
        device_ids = [
            device_id for target in targets if isinstance(target, OnDevices) for device_id in target.device_ids
        ]
        if device_ids:
            self._context.devices.place(self.test, device_ids, begun=self.baseline is not None)

    def _begin(self, sweep: Sweep) -> Sweep:
        if any(other.duet != sweep.duet for other in self.sweeps):
            raise OptionError(
                "A sweep is compared with stored records and a duet with its own reference, so one test can't have "
                "both.\nGive the duet a test of its own."
            )
        self._find_baseline(duet=sweep.duet)
        self.sweeps.append(sweep)
        return sweep

    def _parts(self, sweep: Sweep, plan: MeasurePlan, *, sequential: bool) -> Iterator[MeasurePlan]:
        """The runs up to the first look, and as long as rows are undecided those up to the next one.

        Args:
            sequential: nobody has asked for a fixed number of runs.
        """
        first = plan.runs
        most = max(self._context.settings.max_runs, first) if sequential else first
        done: int | None = 0
        while done is not None:
            begun, sweep.look = done, 0 if not done else sweep.look + 1
            upto = looks(most, first)[sweep.look]
            sweep.planned, sweep.look_share = upto, alpha_share(sweep.look, most, first)
            yield replace(plan, begun=begun, runs=upto)
            done = upto if self._next_look(sweep, most, first) is not None else None

    def _next_look(self, sweep: Sweep, most: int, first: int) -> int | None:
        """At how many runs to look again; None where nothing can be decided by more, or all is."""
        assert self.baseline is not None
        if sweep.planned >= most:
            return None
        record = self.record()
        comparison = compare_record(record, self.baseline, replace(self.rule(record), look_share=sweep.look_share))
        # The other sweeps had their own looks.
        own = replace(comparison, rows=tuple(row for row in comparison.rows if row.sweep == sweep.name))
        return next_look(sweep.planned, most, own, first)

    def _in_lockstep(
        self,
        thing: Target,
        points: Sequence[LoadPoint],
        arrivals: Mapping[LoadPoint, Arrivals],
        plan: MeasurePlan,
        *,
        name: str,
        axis: Axis | None,
    ) -> Curve:
        """One side of a duet whose other side is another process."""
        lockstep = self._context.duet_side
        assert lockstep is not None
        self._find_baseline(duet=True)
        plan = replace(lockstep.plan(plan.window_s), workers=plan.workers)
        every = lockstep.points(self.test, name, points)
        if every is None:
            return smoke_curve(name, points)
        if axis is not None:
            # Where the sides look along different axes, what this one can't make is the other's alone.
            points = on_axis(axis, every)
            arrivals = schedules(points, axis)
        sweep = Sweep(name, tuple(points), plan.runs, plan.window_s)

        meter = ProgressMeter.of_plan(name, plan, len(points), self._context.console.progress)
        steps = measure_side(
            thing,
            every,
            plan,
            Conditions(name, meter, self._watch_cpu, self._context.monitor(self.test)),
            on_run=sweep.runs.append,
            on_under_test=partial(sweep.describe, CANDIDATE),
            arrivals=arrivals,
            measured=points,
        )
        self.sweeps.append(sweep)
        try:
            with self._locks():
                together = lockstep.drive(steps)
        finally:
            self._context.console.clear()
        if not together:
            # Alone it says nothing.
            self.sweeps.remove(sweep)
            return smoke_curve(name, points)
        return sweep.curve

    def _find_baseline(self, *, duet: bool) -> None:
        # Before measuring: a damaged baseline should not cost minutes to find.
        if self.baseline is None:
            store, choice = self._context.store, self._context.settings.baseline
            self.baseline = duet_history(store, self.key) if duet else select_baseline(store, self.key, choice)

    @property
    def _watch_cpu(self) -> bool:
        return self._devices[0].kind == "cpu"

    @property
    def _devices(self) -> tuple[Device, ...]:
        return self._context.devices.of(self.test)

    @contextmanager
    def _device(self) -> Iterator[Monitor]:
        """What watches the devices, which are nobody else's meanwhile."""
        with ExitStack() as stack:
            stack.callback(self._context.console.clear)
            stack.enter_context(self._locks())
            yield self._context.monitor(self.test)

    @contextmanager
    def _locks(self) -> Iterator[None]:
        """Nobody else has the devices. Of a duet with another process, head takes what the command doesn't have."""
        lockstep, own = self._context.duet_side, {device.lock for device in self._devices}
        if lockstep is not None:
            own = own - {self._context.devices.first.lock} if lockstep.is_head else set()
        with ExitStack() as stack:
            # In one order for all, so that no two wait for each other.
            for lock in sorted(own):
                stack.enter_context(DeviceLock(lock, waiting=self._context.console.waiting))
            yield
