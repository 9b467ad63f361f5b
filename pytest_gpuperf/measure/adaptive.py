"""A sweep that chooses its own load points: a given number of them, around the knee of the throughput-latency curve.

First a ladder: 1, 2, 4, ... until throughput no longer grows, the latency explodes, or requests fail. Each of the
remaining points is then placed where the curve bends most.

The knee is where *power*, throughput divided by mean latency, is largest: Kleinrock, "Power and deterministic rules of
thumb for probabilistic problems in computer communications" (ICC 1979). Below it more load buys throughput, above it
mostly waiting. Unlike rules that look at the curve's shape between its ends (Kneedle), it doesn't move with how far
beyond saturation the ladder happens to go.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.analysis.guard import ERROR_BUDGET
from pytest_gpuperf.analysis.interval import UNKNOWN, Interval, Spread, pooled_spread, quantile_interval, ratio_interval
from pytest_gpuperf.measure.ask import Ask, Steps
from pytest_gpuperf.measure.search_range import CONCURRENCIES, SearchRange
from pytest_gpuperf.model import Window, undisturbed_windows

#: Fewest points that make a ladder.
LEAST_POINTS = 4


@dataclass(frozen=True)
class AdaptivePlan:
    """The number of load points, and where they may lie.

    Attributes:
        points: Number of load points, the ladder included.
        loads: Range of the loads.
        visits: Windows at each point.
        extra_visits: Additional windows at the top of the ladder, to decide whether throughput still grows.
        growth: Share by which throughput has to grow with twice the load for the ladder to continue. Far from
            the end it doubles; below a tenth, the load mostly adds waiting.
        explosion: Multiple of the lowest load's latency at which the ladder ends.
        quantile: Quantile of the latency.
        apart: Smallest difference between two loads, as a share.
    """

    points: int = 12
    loads: SearchRange = CONCURRENCIES
    visits: int = 3
    extra_visits: int = 5
    growth: float = 0.10
    explosion: float = 20.0
    quantile: float = 0.90
    apart: float = 0.05

    def __post_init__(self) -> None:
        if self.points < LEAST_POINTS:
            raise ValueError(f"an adaptive sweep needs {LEAST_POINTS} points or more, got {self.points}")
        if self.loads.lowest == self.loads.highest:
            raise ValueError(
                f"an adaptive sweep needs a range of loads; lowest and highest are both {self.loads.lowest:g}"
            )
        if self.visits < 1 or self.extra_visits < 0:
            raise ValueError(f"visits must be 1 or more, and extra_visits 0 or more: {self}")


@dataclass(frozen=True)
class MeasuredLoad:
    """The figures of a load.

    Attributes:
        throughput: Inferences per second; infinitely wide when no request succeeded.
        latency_ns: The plan's quantile.
        power: Throughput over mean latency, in inferences per second squared; 0 when no request succeeded.
        broken: Whether more requests failed than the error budget allows.
    """

    load: float
    throughput: Interval
    latency_ns: Interval
    power: float
    broken: bool


@dataclass(frozen=True)
class AdaptiveResult:
    """The points of an adaptive sweep.

    Attributes:
        points: The measured loads, in increasing order.
        knee: The load of the highest power among those that are not broken; None when all are.
        saturated: Whether throughput stopped growing on the ladder; else more points or a higher limit are needed.
        windows: Number of windows measured.
        reason: Why the ladder ended where it did, as a sentence.
    """

    points: tuple[MeasuredLoad, ...]
    knee: float | None
    saturated: bool
    windows: int
    reason: str

    @property
    def loads(self) -> tuple[float, ...]:
        """The loads, in increasing order."""
        return tuple(point.load for point in self.points)


def adaptive(plan: AdaptivePlan) -> Steps[AdaptiveResult]:
    """Ask for windows (see ``ask.Steps``) until all points are placed."""
    return _Adaptive(plan).run()


class _Adaptive:
    def __init__(self, plan: AdaptivePlan) -> None:
        self._plan = plan
        self._windows: dict[float, list[Window]] = {}

    def run(self) -> Steps[AdaptiveResult]:
        saturated, reason = yield from self._ladder()
        while len(self._windows) < self._plan.points:
            load = self._next_load()
            if load is None:
                reason += f"; there are only {len(self._windows)} distinct points in the range"
                break
            yield from self._measure(load, self._plan.visits)
        points = self._measured_loads()
        sound = [point for point in points if not point.broken and point.power]
        knee = max(sound, key=lambda point: point.power).load if sound else None
        return AdaptiveResult(tuple(points), knee, saturated, sum(map(len, self._windows.values())), reason)

    def _ladder(self) -> Steps[tuple[bool, str]]:
        plan = self._plan
        load = float(plan.loads.lowest)
        yield from self._measure(load, plan.visits)
        if self._measured(load).broken:
            return False, f"requests fail at the lowest load, {load:g}"
        while len(self._windows) < plan.points:
            below = load
            if below == plan.loads.highest:
                return False, f"throughput still grows at the highest load allowed, {below:g}"
            load = plan.loads.doubled(below)
            yield from self._measure(load, plan.visits)
            spare = plan.extra_visits
            while spare and self._grows(below, load) is None:
                # Alternately, so that a drift of the machine falls on both.
                for contender in (below, load) if spare % 2 else (load, below):
                    yield from self._measure(contender, 1)
                spare -= 1
            first, here = self._measured(float(plan.loads.lowest)), self._measured(load)
            if here.broken:
                return True, f"requests fail at {load:g}"
            if here.latency_ns.low > plan.explosion * first.latency_ns.high:
                return True, f"at {load:g}, the latency is more than {plan.explosion:g} times that at {first.load:g}"
            if self._grows(below, load) is not True and here.throughput.centre < (1 + plan.growth) * (
                self._measured(below).throughput.centre
            ):
                return True, f"throughput no longer grows between {below:g} and {load:g}"
        return False, f"throughput still grows at {load:g}, and all {plan.points} points are used: allow more"

    def _grows(self, below: float, load: float) -> bool | None:
        """Return whether throughput grows between two loads; None while the windows don't decide it."""
        before, after = self._measured(below), self._measured(load)
        if after.broken:
            return False
        # The interval of the growth follows from those of its two ends, which are independent.
        growth = math.log(after.throughput.centre / before.throughput.centre)
        reach = math.hypot(_reach(before.throughput), _reach(after.throughput))
        threshold = math.log1p(self._plan.growth)
        if growth - reach > threshold:
            return True
        return False if growth + reach <= threshold else None

    def _next_load(self) -> float | None:
        """Return the load in the middle of the gap where the curve bends most; None when no gap can be split."""
        points = [point for point in self._measured_loads() if point.power]
        steps = [_step(left, right) for left, right in itertools.pairwise(points)]
        best, best_score = None, 0.0
        for index, (left, right) in enumerate(itertools.pairwise(points)):
            middle = self._plan.loads.between(left.load, right.load, (1 + self._plan.apart) ** 2 - 1)
            if middle is None:
                continue
            # Length times turn bounds how far the curve is from the straight line between two points. A curve without
            # turns is sampled evenly.
            turns = sum(_turn(*steps[at : at + 2]) for at in (index - 1, index) if 0 <= at < len(steps) - 1)
            score = math.hypot(*steps[index]) * (turns + 0.2)
            if score > best_score:
                best, best_score = middle, score
        return best

    def _measure(self, load: float, visits: int) -> Steps[None]:
        windows = yield Ask(load, visits)
        self._windows.setdefault(load, []).extend(windows)

    def _measured_loads(self) -> list[MeasuredLoad]:
        return [self._measured(load) for load in sorted(self._windows)]

    def _measured(self, load: float) -> MeasuredLoad:
        windows = undisturbed_windows(self._windows[load])
        errors = sum(window.error_count for window in windows)
        requests = sum(window.requests for window in windows)
        good = [window for window in windows if window.latency.counts and window.throughput > 0]
        spread = self._spread(load)
        throughput = ratio_interval([window.throughput for window in good], spread) if good else UNKNOWN
        mean_ns = ratio_interval([window.latency_mean_ns for window in good]).centre
        return MeasuredLoad(
            load=load,
            throughput=throughput,
            latency_ns=quantile_interval(good, self._plan.quantile, spread),
            power=throughput.centre / (mean_ns / 1e9) if good else 0.0,
            broken=not good or errors > ERROR_BUDGET * (requests + errors),
        )

    def _spread(self, load: float) -> Spread:
        """Return how far windows differ at the other loads."""
        logs: list[Sequence[float]] = [
            [math.log(window.throughput) for window in windows if window.throughput > 0]
            for measured_load, windows in self._windows.items()
            if measured_load != load
        ]
        return pooled_spread(logs)


def _reach(interval: Interval) -> float:
    """Return half the length of an interval on the log scale."""
    return math.log(interval.high / interval.low) / 2


def _step(left: MeasuredLoad, right: MeasuredLoad) -> tuple[float, float]:
    """Return the growth of log throughput and log latency between two points."""
    return (
        math.log(right.throughput.centre / left.throughput.centre),
        math.log(right.latency_ns.centre / left.latency_ns.centre),
    )


def _turn(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Return the angle between two steps, 0 to pi."""
    cross = before[0] * after[1] - before[1] * after[0]
    return abs(math.atan2(cross, before[0] * after[0] + before[1] * after[1]))
