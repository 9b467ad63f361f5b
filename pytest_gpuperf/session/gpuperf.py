"""The ``gpuperf`` fixture, with which a test measures targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gpuperf.analysis.interval import requests_needed
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure import MeasurePlan, duet_plan
from pytest_gpuperf.measure.adaptive import AdaptivePlan, adaptive
from pytest_gpuperf.measure.search import SearchPlan, search
from pytest_gpuperf.model import Arrivals, Budget, BudgetMissed, Capacity, Curve, CurvePoint, Duet, Scaling, smoke_curve
from pytest_gpuperf.session.load_points import Loads, axis_of, load_points, option_errors, sizes
from pytest_gpuperf.session.measured_test import MeasuredTest
from pytest_gpuperf.targets import Scalable, Target, as_target

if TYPE_CHECKING:
    from pytest_gpuperf.load.distributed import RemoteWorkers

#: A search decides most loads with two or three windows, which together must be long enough for the budget's quantile.
_WINDOWS_PER_POINT = 2.5


class Gpuperf:
    """Measures targets for one test.

    Attributes:
        enabled: False in a smoke run (pytest without ``--gpuperf``).
    """

    def __init__(self, test: MeasuredTest) -> None:
        self._test = test
        self.enabled = test.enabled

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
            target: Target from one of the fixtures, or a callable that does one inference.
            concurrency: Number of requests kept in flight (closed loop); 1 if there is no rate either.
            batch_size: Number of inferences in each request.
            rate: Requests per second (open loop). They are sent by the clock, and a latency counts from the instant at
                which the request was due.
            arrivals: Distribution of the arrivals, ``poisson`` or ``constant``; or, instead of a rate, one schedule or
                several (``Poisson``, ``Constant``, ``Ramp``, ``Intervals``).
            seed: Seed of Poisson arrivals.
            workers: Number of processes that make the load, or ``RemoteWorkers`` on other machines.
            name: Name of the sweep, if a test has several; the target's name when None.
            window_s: Length of each window in seconds.

        Returns:
            The throughput-latency curve over all runs, whose ``measured`` is False in a smoke run.

        Raises:
            OptionError: An argument can't be used.
            TargetError, LoadError: The target doesn't start, dies, or doesn't answer.
            UnreadableRecord: There is a baseline, but none of its records can be read.
        """
        loads = load_points(concurrency, batch_size, rate, arrivals, seed)
        return self._sweep(target, loads, self._plan(window_s, workers), name)

    def scaling(
        self,
        target: Scalable,
        replicas: int | Sequence[int] | None = None,
        concurrency: int | Sequence[int] | None = None,
        batch_size: int | Sequence[int] = 1,
        *,
        rate: float | Sequence[float] | None = None,
        arrivals: str | Arrivals | Sequence[Arrivals] = "poisson",
        seed: int = 0,
        workers: int | RemoteWorkers = 1,
        name: str | None = None,
        window_s: float | None = None,
    ) -> Scaling:
        """Measure a fleet with a growing number of replicas: one sweep for each number, named ``NAME x4``.

        Args:
            target: Fleet from ``triton_fleet``.
            replicas: Numbers of replicas; 1 to all of them when None.
            concurrency, batch_size, rate, arrivals, seed, workers, name, window_s: See ``sweep``, also for the errors.
        """
        if not callable(getattr(target, "at", None)):
            raise OptionError(f"{target!r} has no replicas to scale: pass a fleet from triton_fleet(...).")
        counts = sorted(sizes("replicas", range(1, target.max_replicas + 1) if replicas is None else replicas))
        parts = [(count, target.at(count)) for count in counts]  # fails for a wrong number before anything is measured
        loads, plan = load_points(concurrency, batch_size, rate, arrivals, seed), self._plan(window_s, workers)
        fleet_name = name or target.name
        curves = [(count, self._sweep(part, loads, plan, f"{fleet_name} x{count}")) for count, part in parts]
        return Scaling(fleet_name, tuple(curves))

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

        The search takes place in one start of the target, and decides about a load by the interval of its latency over
        several windows. Its answer is then measured over fresh starts, together with the answer that the baseline has.

        Args:
            p50_ms, p90_ms, p95_ms, p99_ms: Latency budget, in which all given limits must hold.
            open_loop: Whether to search for a request rate (``arrivals``, ``seed``) instead of a concurrency.
            lowest, highest: Range of the search; up to concurrency 4096 or 100,000 requests/s by default.

        Raises:
            BudgetMissed: The lowest load exceeds the budget already (an ``AssertionError``, so that the test fails).
            OptionError, TargetError, LoadError, UnreadableRecord: See ``sweep``, also for the remaining arguments.
        """
        __tracebackhide__ = True  # pytest shows the line of the test that missed its budget
        explored_target = as_target(target)
        with option_errors():
            budget = Budget.of_ms(p50_ms=p50_ms, p90_ms=p90_ms, p95_ms=p95_ms, p99_ms=p99_ms)
        axis = axis_of(lowest, highest, batch_size, arrivals, seed, open_loop=open_loop)
        plan, sweep_name = self._plan(window_s, workers), self._test.begin(name or explored_target.name)
        if not self.enabled:
            curve = self._test.sweep(explored_target, (axis.point(lowest),), {}, plan, name=sweep_name)
            return Capacity(curve.points[0], True, "nothing was measured")
        steps = search(SearchPlan(budget, axis.loads))
        needed = requests_needed(max(limit.quantile for limit in budget.limits))
        result = self._test.explore(
            explored_target, steps, axis, plan, name=sweep_name, min_requests=math.ceil(needed / _WINDOWS_PER_POINT)
        )
        if result.answer is None:
            raise BudgetMissed(f"{sweep_name} has no load with {budget.label}: {result.reason}")
        answer = axis.point(result.answer)
        certainty = "confirmed" if result.confirmed else "not confirmed"
        self._test.notes.append(
            f"{sweep_name}: highest load with {budget.label} is {answer.label} ({certainty}): {result.reason}"
        )
        curve = self._test.sweep_explored(explored_target, [answer], axis, plan, name=sweep_name, kept_points=[answer])
        if curve.on_require is not None:
            curve.on_require(budget)
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
        """Sweep the loads that matter: doubled up to saturation, with the other points around the knee.

        The points are chosen in one start of the target, and measured over fresh starts. If the baseline has this
        sweep, its points are measured, so that the two can be compared, and the new knee with them.

        Args:
            points: Number of load points.
            open_loop, lowest, highest: See ``search``; for the remaining arguments and the errors, see ``sweep``.
        """
        explored_target = as_target(target)
        axis = axis_of(lowest, highest, batch_size, arrivals, seed, open_loop=open_loop)
        with option_errors():
            adaptive_plan = AdaptivePlan(points=points, loads=axis.loads)
        plan, sweep_name = self._plan(window_s, workers), self._test.begin(name or explored_target.name)
        if not self.enabled:
            return self._test.sweep(explored_target, (axis.point(lowest),), {}, plan, name=sweep_name)
        result = self._test.explore(
            explored_target, adaptive(adaptive_plan), axis, plan, name=sweep_name, min_requests=plan.min_requests
        )
        chosen = [axis.point(load) for load in result.loads]
        knee = "no knee" if result.knee is None else f"knee at {axis.point(result.knee).label}"
        certainty = "saturated" if result.saturated else "not saturated"
        self._test.notes.append(f"{sweep_name}: {knee} ({certainty}): {result.reason}")
        baseline_points = self._test.baseline_points(sweep_name, axis)
        new_points = [axis.point(result.knee)] if baseline_points and result.knee is not None else chosen
        # Records keep the same points, wherever the knee moves.
        return self._test.sweep_explored(
            explored_target, new_points, axis, plan, name=sweep_name, kept_points=baseline_points or chosen
        )

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
        """Measure a target at a single load point; see ``sweep``."""
        loads = load_points(concurrency, batch_size, rate, arrivals, seed)
        return self._sweep(target, loads, self._plan(window_s, workers), name).points[0]

    def duet(
        self,
        candidate: Target | Callable[..., object],
        reference: Target | Callable[..., object],
        concurrency: int | Sequence[int] | None = None,
        batch_size: int | Sequence[int] = 1,
        *,
        rate: float | Sequence[float] | None = None,
        arrivals: str | Arrivals | Sequence[Arrivals] = "poisson",
        seed: int = 0,
        workers: int | RemoteWorkers = 1,
        blocks: int | None = None,
        alternations: int = 24,
        window_s: float = 0.3,
        name: str | None = None,
    ) -> Duet:
        """Measure two targets against each other, and fail where the candidate is slower.

        Both run at the same time and are measured in short windows in alternation, so that the noise of the machine
        affects both equally; no stored baseline is needed. If the device has no memory for both, they run one after
        the other, which the report says.

        Args:
            candidate: Target that is gated.
            reference: Target that the candidate is compared with.
            concurrency, batch_size, rate, arrivals, seed, workers: Load on each target; see ``sweep``.
            blocks: Number of fresh starts of both targets; 5 by default, and up to ``--gpuperf-max-runs`` while the
                comparison is undecided.
            alternations: Pairs of windows at each load point in each block.
            window_s: Length of each window in seconds.
            name: Name of the duet, if a test has several; the candidate's name when None.

        Raises:
            OptionError: An argument can't be used, or this test has a sweep already.
            TargetError, LoadError: A target doesn't start, dies, or doesn't answer; the message names it.
        """
        candidate_target, reference_target = as_target(candidate), as_target(reference)
        points, schedules = load_points(concurrency, batch_size, rate, arrivals, seed)
        (planned,) = sizes("blocks", [5 if blocks is None else blocks])
        (pairs,) = sizes("alternations", [alternations])
        if planned < 2:
            raise OptionError(f"blocks={blocks}: one block shows no spread; write 2 or more, for example 5.")
        plan = replace(duet_plan(planned, pairs, window_s), workers=self._plan(window_s, workers).workers)
        sweep_name = self._test.begin(name or candidate_target.name, duet=True)
        sweep = self._test.duet(
            candidate_target, reference_target, points, schedules, plan, name=sweep_name, sequential=blocks is None
        )
        if not sweep.runs:
            return Duet(smoke_curve(sweep_name, points), smoke_curve(sweep_name, points))
        return Duet(sweep.curve, sweep.reference_curve)

    def _sweep(
        self, target: Target | Callable[..., object], loads: Loads, plan: MeasurePlan, name: str | None
    ) -> Curve:
        measured_target = as_target(target)
        sweep_name = self._test.begin(name or measured_target.name)
        return self._test.sweep(measured_target, *loads, plan, name=sweep_name)

    def _plan(self, window_s: float | None, workers: int | RemoteWorkers) -> MeasurePlan:
        if isinstance(workers, int) and (isinstance(workers, bool) or workers < 1):
            raise OptionError(f"workers={workers!r}: write 1 or more processes.")
        plan = replace(self._test.plan, workers=workers)
        if window_s is None:
            return plan
        if not window_s > 0:
            raise OptionError(f"window_s={window_s}: write a positive number of seconds, for example 1.0.")
        return replace(plan, window_s=window_s, max_window_s=max(plan.max_window_s, window_s))
