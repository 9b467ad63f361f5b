"""The ``gpuperf`` fixture: what one test measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from pytest_gpuperf.analysis.interval import requests_needed
from pytest_gpuperf.device import DeviceLock
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure import MeasurePlan, measure_sweep, smoke_sweep
from pytest_gpuperf.measure.adaptive import AdaptivePlan, adaptive
from pytest_gpuperf.measure.ask import Steps
from pytest_gpuperf.measure.budget import Budget
from pytest_gpuperf.measure.explore import Axis, explore
from pytest_gpuperf.measure.search import SearchPlan, search
from pytest_gpuperf.model import (
    Arrivals,
    BudgetMissed,
    Capacity,
    Curve,
    CurvePoint,
    LoadPoint,
    PlainMapping,
    Run,
    curve_of,
    unmeasured,
)
from pytest_gpuperf.session.marker import Marker
from pytest_gpuperf.session.points import explored, load_points
from pytest_gpuperf.store import Baseline, select_baseline
from pytest_gpuperf.targets import Target, as_target

if TYPE_CHECKING:
    from pytest_gpuperf.load.distributed import RemoteWorkers
    from pytest_gpuperf.session.state import State

Result = TypeVar("Result")

#: A search decides most loads with two or three windows, which together have to speak of the budget's quantile.
_WINDOWS_PER_POINT = 2.5


@dataclass
class Sweep:
    """One sweep of a test while it grows.

    Attributes:
        planned: complete runs that it should have in the end.
    """

    name: str
    points: tuple[LoadPoint, ...]
    planned: int
    runs: list[Run] = field(default_factory=list)
    under_test: PlainMapping = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """All runs were measured to their end."""
        return sum(run.complete for run in self.runs) == self.planned

    @property
    def curve(self) -> Curve:
        return curve_of(self.name, self.points, self.runs)


class Gpuperf:
    """Measures targets for one test, and remembers what it measured for the gate.

    Attributes:
        enabled: False in a smoke run (pytest without ``--gpuperf``).
        sweeps: what was measured so far.
        baseline: what it will be compared with; None before the first sweep.
    """

    def __init__(self, state: State, test: str, marker: Marker) -> None:
        self._state, self._test, self.marker = state, test, marker
        self.enabled = state.settings.measure
        self.sweeps: list[Sweep] = []
        self.baseline: Baseline | None = None
        self.smoked = 0

    @property
    def plan(self) -> MeasurePlan:
        """How this test is measured."""
        return MeasurePlan(runs=self.marker.runs or self._state.settings.runs)

    @property
    def key(self) -> PlainMapping:
        """What must match for a stored session to be comparable with this one."""
        return self._state.key(self._test, self.marker.version)

    def sweep(
        self,
        target: Target | Callable[..., object],
        concurrency: int | Sequence[int] | None = None,
        batch_size: int | Sequence[int] = 1,
        *,
        rate: float | Sequence[float] | None = None,
        arrivals: str | Arrivals | Sequence[Arrivals] = "poisson",
        seed: int = 0,
        workers: int | RemoteWorkers = 1,
        name: str | None = None,
        window_s: float | None = None,
    ) -> Curve:
        """Measure a target at every combination of load and batch size.

        Args:
            target: what a target fixture made, or a callable that does one inference.
            concurrency: requests kept in flight (closed loop); 1 when there is no rate either.
            batch_size: inferences in each request.
            rate: requests per second (open loop): they are sent by the clock, and latencies count from the instant at
                which a request was due.
            arrivals: how they are spread: ``poisson`` or ``constant``; or, instead of a rate, a schedule (``Poisson``,
                ``Constant``, ``Ramp``, ``Intervals``) or several.
            seed: of Poisson arrivals.
            workers: processes that make the load, or ``RemoteWorkers`` on other machines.
            name: tells the sweeps of one test apart; the target's name when None.
            window_s: length of each window instead of the default.

        Returns:
            The throughput-latency curve over all runs. In a smoke run its ``measured`` is False.

        Raises:
            OptionError: an argument can't be used.
            TargetError, LoadError: the target doesn't start, dies, or doesn't answer.
            UnreadableSession: there is a baseline, and not one session of it can be read.
        """
        thing = as_target(target)
        points, schedules = load_points(concurrency, batch_size, rate, arrivals, seed)
        plan = self._plan(window_s, workers)
        return self._sweep(thing, points, schedules, plan, self._free(name or thing.name))

    def search(
        self,
        target: Target | Callable[..., object],
        *,
        p50_ms: float | None = None,
        p90_ms: float | None = None,
        p95_ms: float | None = None,
        p99_ms: float | None = None,
        batch_size: int = 1,
        open_loop: bool = False,
        lowest: float = 1,
        highest: float | None = None,
        arrivals: str = "poisson",
        seed: int = 0,
        workers: int | RemoteWorkers = 1,
        name: str | None = None,
        window_s: float | None = None,
    ) -> Capacity:
        """Find the highest load within a latency budget, and measure it.

        Every load is judged by the interval of its latency over several windows, in one start of the target; the answer
        is then measured over fresh starts like any other load point, beside the answer that the baseline has.

        Args:
            p50_ms, p90_ms, p95_ms, p99_ms: the budget; all that are given have to hold.
            open_loop: look for the highest rate of requests (``arrivals``, ``seed``) instead of a concurrency.
            lowest, highest: where the answer may lie; by default up to concurrency 4096 or 100,000 requests/s.

        Raises:
            BudgetMissed: even the lowest load is over the budget (an ``AssertionError``, so the test fails).
            OptionError, TargetError, LoadError, UnreadableSession: as for ``sweep``.
        """
        thing = as_target(target)
        budget, axis = explored(
            lambda: Budget.of_ms(p50_ms=p50_ms, p90_ms=p90_ms, p95_ms=p95_ms, p99_ms=p99_ms),
            open_loop=open_loop,
            lowest=lowest,
            highest=highest,
            batch_size=batch_size,
            arrivals=arrivals,
            seed=seed,
        )
        plan, sweep_name = self._plan(window_s, workers), self._free(name or thing.name)
        if not self.enabled:
            curve = self._sweep(thing, (axis.point(lowest),), {}, plan, sweep_name)
            return Capacity(curve.points[0], True, "nothing was measured")
        steps = search(SearchPlan(budget, axis.loads))
        needed = requests_needed(max(limit.quantile for limit in budget.limits))
        result = self._explore(
            thing, steps, axis, plan, name=sweep_name, min_requests=math.ceil(needed / _WINDOWS_PER_POINT)
        )
        if result.answer is None:
            raise BudgetMissed(f"{sweep_name} has no load with {budget.label}: {result.reason}")
        answer = axis.point(result.answer)
        curve = self._measure_found(thing, [answer], axis, plan, sweep_name)
        return Capacity(curve.of(answer), result.confirmed, result.reason)

    def adaptive_sweep(
        self,
        target: Target | Callable[..., object],
        points: int = 8,
        *,
        batch_size: int = 1,
        open_loop: bool = False,
        lowest: float = 1,
        highest: float | None = None,
        arrivals: str = "poisson",
        seed: int = 0,
        workers: int | RemoteWorkers = 1,
        name: str | None = None,
        window_s: float | None = None,
    ) -> Curve:
        """Sweep the loads that matter: doubling up to saturation, the rest of the points around the knee.

        The points are chosen in one start of the target, and measured over fresh starts. Where the baseline has this
        sweep, its points are measured, so that the two can be compared, and the knee of today beside them.

        Args:
            points: how many.
            open_loop, lowest, highest: see ``search``.

        Raises:
            OptionError, TargetError, LoadError, UnreadableSession: as for ``sweep``.
        """
        thing = as_target(target)
        adaptive_plan, axis = explored(
            lambda: AdaptivePlan(points=points),
            open_loop=open_loop,
            lowest=lowest,
            highest=highest,
            batch_size=batch_size,
            arrivals=arrivals,
            seed=seed,
        )
        plan, sweep_name = self._plan(window_s, workers), self._free(name or thing.name)
        if not self.enabled:
            return self._sweep(thing, (axis.point(lowest),), {}, plan, sweep_name)
        steps = adaptive(replace(adaptive_plan, loads=axis.loads))
        result = self._explore(thing, steps, axis, plan, name=sweep_name, min_requests=plan.min_requests)
        chosen = [result.knee] if self._baseline_points(sweep_name) and result.knee is not None else result.loads
        return self._measure_found(thing, [axis.point(load) for load in chosen], axis, plan, sweep_name)

    def _plan(self, window_s: float | None, workers: int | RemoteWorkers) -> MeasurePlan:
        if isinstance(workers, int) and (isinstance(workers, bool) or workers < 1):
            raise OptionError(f"workers={workers!r}: the load needs one process or more.")
        plan = replace(self.plan, workers=workers)
        if window_s is None:
            return plan
        if not window_s > 0:
            raise OptionError(f"window_s={window_s}: a window has a positive length in seconds, for example 1.0.")
        return replace(plan, window_s=window_s, max_window_s=max(plan.max_window_s, window_s))

    def _free(self, name: str) -> str:
        """The name, if no other sweep of this test has it."""
        if any(sweep.name == name for sweep in self.sweeps):
            raise OptionError(f"This test has a sweep named {name!r} already; give each its own name=.")
        return name

    def _sweep(
        self,
        thing: Target,
        points: Sequence[LoadPoint],
        schedules: Mapping[LoadPoint, Arrivals],
        plan: MeasurePlan,
        name: str,
    ) -> Curve:
        """Measure these points, or in a smoke run only try them."""
        if not self.enabled:
            smoke_sweep(thing, points, plan)
            self.smoked += len(points)
            return unmeasured(name, points)
        self._find_baseline()
        sweep = Sweep(name, tuple(points), plan.runs)
        self.sweeps.append(sweep)

        def describe(facts: PlainMapping) -> None:
            sweep.under_test = facts

        with self._device():
            measure_sweep(
                thing,
                points,
                plan,
                name=name,
                record=sweep.runs.append,
                describe=describe,
                progress=self._state.console.progress,
                watch_cpu=self._watch_cpu,
                arrivals=schedules,
            )
        return sweep.curve

    def _explore(
        self, thing: Target, steps: Steps[Result], axis: Axis, plan: MeasurePlan, *, name: str, min_requests: int
    ) -> Result:
        self._find_baseline()
        with self._device():
            return explore(
                thing,
                steps,
                axis,
                plan,
                name=f"{name}, exploring",
                min_requests=min_requests,
                progress=self._state.console.progress,
                watch_cpu=self._watch_cpu,
            )

    def _measure_found(
        self, thing: Target, found: Sequence[LoadPoint], axis: Axis, plan: MeasurePlan, name: str
    ) -> Curve:
        """Measure what was found over fresh starts, beside the points that the baseline has."""
        points = sorted({*found, *self._baseline_points(name)}, key=lambda point: (point.concurrency, point.rate))
        loads = {point: float(point.concurrency or point.rate) for point in points}
        schedules = {point: axis.arrivals(load) for point, load in loads.items()}
        return self._sweep(thing, points, {p: one for p, one in schedules.items() if one is not None}, plan, name)

    def _baseline_points(self, name: str) -> tuple[LoadPoint, ...]:
        """The points of this sweep in the newest session of the baseline."""
        sessions = self.baseline.sessions if self.baseline is not None else ()
        runs = [run for run in sessions[0].runs if run.sweep == name] if sessions else []
        return tuple(dict.fromkeys(window.point for run in runs for window in run.windows))

    def _find_baseline(self) -> None:
        # Before measuring: a damaged baseline should not cost minutes to find.
        if self.baseline is None:
            self.baseline = select_baseline(self._state.store, self.key)

    @property
    def _watch_cpu(self) -> bool:
        return self._state.device.kind == "cpu"

    @contextmanager
    def _device(self) -> Iterator[None]:
        """The device, for nobody else."""
        console = self._state.console
        try:
            with DeviceLock(self._state.device.id, waiting=console.waiting):
                yield
        finally:
            console.clear()

    def measure(
        self,
        target: Target | Callable[..., object],
        concurrency: int | None = None,
        batch_size: int = 1,
        *,
        rate: float | None = None,
        arrivals: str | Arrivals = "poisson",
        seed: int = 0,
        workers: int | RemoteWorkers = 1,
        name: str | None = None,
        window_s: float | None = None,
    ) -> CurvePoint:
        """Measure a target at one load point; see ``sweep``."""
        curve = self.sweep(
            target,
            concurrency,
            batch_size,
            rate=rate,
            arrivals=arrivals,
            seed=seed,
            workers=workers,
            name=name,
            window_s=window_s,
        )
        return curve.points[0]
