"""The ``gpuperf`` fixture: what one test measures."""

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
from pytest_gpuperf.session.load_points import explored, load_points, sizes
from pytest_gpuperf.session.measured_test import MeasuredTest
from pytest_gpuperf.targets import Scalable, Target, as_target

if TYPE_CHECKING:
    from pytest_gpuperf.load.distributed import RemoteWorkers

#: A search decides most loads with two or three windows, which together have to speak of the budget's quantile.
_WINDOWS_PER_POINT = 2.5


class Gpuperf:
    """Measures targets for one test.

    Attributes:
        enabled: False in a smoke run (pytest without ``--gpuperf``).
    """

    def __init__(self, measuring: MeasuredTest) -> None:
        self._measuring = measuring
        self.enabled = measuring.enabled

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
            UnreadableRecord: there is a baseline, and not one record of it can be read.
        """
        thing = as_target(target)
        points, schedules = load_points(concurrency, batch_size, rate, arrivals, seed)
        plan = self._plan(window_s, workers)
        return self._measuring.sweep(thing, points, schedules, plan, name=self._measuring.free(name or thing.name))

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
        """Measure a fleet with more and more of its replicas: a sweep for each number, named ``NAME x4``.

        Args:
            target: what ``triton_fleet`` made.
            replicas: how many at a time; 1 to all of them when None.
            concurrency, batch_size, rate, arrivals, seed, workers, name, window_s: see ``sweep``.

        Raises:
            OptionError, TargetError, LoadError, UnreadableRecord: as for ``sweep``.
        """
        if not callable(getattr(target, "at", None)):
            raise OptionError(f"{target!r} has no replicas to scale: give what triton_fleet(...) made.")
        counts = sorted(sizes("replicas", range(1, target.max_replicas + 1) if replicas is None else replicas))
        parts = [(count, target.at(count)) for count in counts]  # a wrong number is found before anything is measured
        whole = name or target.name
        return Scaling(
            whole,
            tuple(
                (
                    count,
                    self.sweep(
                        part,
                        concurrency,
                        batch_size,
                        rate=rate,
                        arrivals=arrivals,
                        seed=seed,
                        workers=workers,
                        name=f"{whole} x{count}",
                        window_s=window_s,
                    ),
                )
                for count, part in parts
            ),
        )

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
            OptionError, TargetError, LoadError, UnreadableRecord: as for ``sweep``.
        """
        __tracebackhide__ = True  # of a missed budget pytest shows the line of the test, and not ours
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
        plan, sweep_name = self._plan(window_s, workers), self._measuring.free(name or thing.name)
        if not self.enabled:
            curve = self._measuring.sweep(thing, (axis.point(lowest),), {}, plan, name=sweep_name)
            return Capacity(curve.points[0], True, "nothing was measured")
        steps = search(SearchPlan(budget, axis.loads))
        needed = requests_needed(max(limit.quantile for limit in budget.limits))
        result = self._measuring.explore(
            thing, steps, axis, plan, name=sweep_name, min_requests=math.ceil(needed / _WINDOWS_PER_POINT)
        )
        if result.answer is None:
            raise BudgetMissed(f"{sweep_name} has no load with {budget.label}: {result.reason}")
        answer = axis.point(result.answer)
        curve = self._measuring.found(thing, [answer], axis, plan, name=sweep_name, kept=[answer])
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
        """Sweep the loads that matter: doubling up to saturation, the rest of the points around the knee.

        The points are chosen in one start of the target, and measured over fresh starts. Where the baseline has this
        sweep, its points are measured, so that the two can be compared, and the knee of today beside them.

        Args:
            points: how many.
            open_loop, lowest, highest: see ``search``.

        Raises:
            OptionError, TargetError, LoadError, UnreadableRecord: as for ``sweep``.
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
        plan, sweep_name = self._plan(window_s, workers), self._measuring.free(name or thing.name)
        if not self.enabled:
            return self._measuring.sweep(thing, (axis.point(lowest),), {}, plan, name=sweep_name)
        steps = adaptive(replace(adaptive_plan, loads=axis.loads))
        result = self._measuring.explore(thing, steps, axis, plan, name=sweep_name, min_requests=plan.min_requests)
        before, chosen = self._measuring.baseline_points(sweep_name, axis), [axis.point(load) for load in result.loads]
        found = [axis.point(result.knee)] if before and result.knee is not None else chosen
        # The same points record after record, whatever becomes of the knee.
        return self._measuring.found(thing, found, axis, plan, name=sweep_name, kept=before or chosen)

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

        Both are alive at the same time and measured in short windows in alternation, so that the noise of the machine
        falls on both alike; no stored baseline is needed. Where the device has no room for both, they are measured one
        after the other, which the report says.

        Args:
            candidate: what is gated.
            reference: what it is compared with.
            concurrency, batch_size, rate, arrivals, seed, workers: the load on each, see ``sweep``.
            blocks: fresh starts of both sides; by default 5, and more up to ``--gpuperf-max-runs`` while the comparison
                is undecided.
            alternations: pairs of windows at each load point in each block.
            window_s: length of each.
            name: tells the duets of one test apart; the candidate's name when None.

        Raises:
            OptionError: an argument can't be used, or this test has a sweep already.
            TargetError, LoadError: a side doesn't start, dies, or doesn't answer; the message names it.
        """
        thing, other = as_target(candidate), as_target(reference)
        points, schedules = load_points(concurrency, batch_size, rate, arrivals, seed)
        (planned,) = sizes("blocks", [5 if blocks is None else blocks])
        (pairs,) = sizes("alternations", [alternations])
        if planned < 2:
            raise OptionError(f"blocks={blocks}: one block shows no spread; write 2 or more, for example 5.")
        checked = self._plan(window_s, workers)
        plan = replace(duet_plan(planned, pairs, window_s), workers=checked.workers)
        sweep_name = self._measuring.free(name or thing.name)
        sweep = self._measuring.play_duet(
            thing, other, points, schedules, plan, name=sweep_name, sequential=blocks is None
        )
        if not sweep.runs:
            return Duet(smoke_curve(sweep_name, points), smoke_curve(sweep_name, points))
        return Duet(sweep.curve, sweep.reference_curve)

    def _plan(self, window_s: float | None, workers: int | RemoteWorkers) -> MeasurePlan:
        if isinstance(workers, int) and (isinstance(workers, bool) or workers < 1):
            raise OptionError(f"workers={workers!r}: the load needs one process or more.")
        plan = replace(self._measuring.plan, workers=workers)
        if window_s is None:
            return plan
        if not window_s > 0:
            raise OptionError(f"window_s={window_s}: a window has a positive length in seconds, for example 1.0.")
        return replace(plan, window_s=window_s, max_window_s=max(plan.max_window_s, window_s))
