"""perf_client's stability rule: windows are taken until the last few agree. Pure.

It differs from perf_client twice. A level that does not become stable is kept and marked, and the sweep continues. And
such a level is compared with the latency threshold by the interval of all its windows instead of counting as a failure:
a noisy machine must not send a binary search to the wrong half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.analysis.guard import is_unanswered
from pytest_gpuperf.analysis.interval import mean_interval, quantile_interval
from pytest_gpuperf.model import PointFigures, Window
from pytest_gpuperf.model.level import INTERRUPTED, OVER, STABLE, UNSTABLE, MeasuredLevel


@dataclass(frozen=True)
class StabilityRule:
    """When a level is done, and what its figures are.

    Attributes:
        tolerance: Largest of the recent windows over the smallest, minus one, for throughput and for latency.
        recent: Number of windows that have to agree; the level's figures are theirs.
        max_windows: Number of windows after which a level is unstable.
        percentile: Percentile of the latency that has to be stable and is compared with the threshold, between 0 and
            100; the mean when None.
        threshold_ns: Latency above which a level is no longer of interest; 0 for none.
    """

    tolerance: float = 0.10
    recent: int = 3
    max_windows: int = 10
    percentile: float | None = None
    threshold_ns: float = 0.0

    @property
    def latency_name(self) -> str:
        return "avg latency" if self.percentile is None else f"p{self.percentile:g} latency"

    def latency_ns(self, window: Window | PointFigures) -> float:
        """Return the latency that the rule is about; NaN for a window without a correct answer."""
        if not window.latency.counts:
            return math.nan
        return window.latency_mean_ns if self.percentile is None else window.latency.quantile_ns(self.percentile / 100)

    def spread(self, windows: Sequence[Window]) -> tuple[float, float]:
        """Return how far the recent windows differ in throughput and in latency: largest over smallest, minus one."""
        last = windows[-self.recent :]
        return _spread([window.throughput for window in last]), _spread([self.latency_ns(window) for window in last])

    def is_stable(self, windows: Sequence[Window]) -> bool:
        """Return whether there are enough windows and the recent ones agree."""
        return len(windows) >= self.recent and max(self.spread(windows)) <= self.tolerance

    def is_over(self, windows: Sequence[Window]) -> bool:
        """Return whether there are enough windows and all recent ones are above the threshold."""
        last = [self.latency_ns(window) for window in windows[-self.recent :]]
        return bool(self.threshold_ns) and len(last) == self.recent and min(last) > self.threshold_ns

    def is_done(self, windows: Sequence[Window]) -> bool:
        """Return whether no further window is needed."""
        if self.is_stable(windows) or self.is_over(windows) or len(windows) >= self.max_windows:
            return True
        return bool(windows) and is_unanswered(windows[-1])

    def level(self, windows: Sequence[Window], *, interrupted: bool = False) -> MeasuredLevel:
        """Return the level that one or more windows make.

        Args:
            interrupted: Whether the level was cut short before the rule was satisfied.
        """
        figures = PointFigures(tuple(windows[-self.recent :]))
        if self.is_stable(windows):
            keeps = not self.threshold_ns or self.latency_ns(figures) <= self.threshold_ns
            return MeasuredLevel(figures, len(windows), STABLE, keeps)
        if self.is_over(windows):
            return MeasuredLevel(figures, len(windows), OVER, False)
        within = self.keeps_threshold(windows)
        if interrupted:
            return MeasuredLevel(
                figures, len(windows), INTERRUPTED, within, f"cut short after {_windows(len(windows))}"
            )
        return MeasuredLevel(figures, len(windows), UNSTABLE, within, self._complaint(windows))

    def keeps_threshold(self, windows: Sequence[Window]) -> bool | None:
        """Return whether windows that don't agree keep the threshold; None when it lies inside their interval."""
        latencies = [self.latency_ns(window) for window in windows]
        answered = [window for window, latency in zip(windows, latencies, strict=True) if not math.isnan(latency)]
        if not self.threshold_ns:
            return True
        if not answered:
            return None
        if self.percentile is None:
            interval = mean_interval([math.log(self.latency_ns(window)) for window in answered])
        else:
            interval = quantile_interval(answered, self.percentile / 100)
        if interval.low > self.threshold_ns:
            return False
        return True if interval.high <= self.threshold_ns else None

    def _complaint(self, windows: Sequence[Window]) -> str:
        last = windows[-self.recent :]
        if is_unanswered(last[-1]):
            return "too many requests got no answer until their deadline; further windows would wait as long"
        if len(last) < self.recent:
            return f"{_windows(len(last))} are too few to show stability; {self.recent} are needed"
        if any(not window.latency.counts for window in last):
            return f"the last {self.recent} of {_windows(len(windows))} do not all have an answer"
        throughput, latency = self.spread(windows)
        return (
            f"the last {self.recent} of {_windows(len(windows))} differ by {throughput:.0%} in throughput and "
            f"{latency:.0%} in {self.latency_name}; {self.tolerance:.0%} is allowed"
        )


def _spread(values: Sequence[float]) -> float:
    low = min(values)
    # A comparison with NaN is always False.
    if not low > 0 or any(math.isnan(value) for value in values):
        return math.inf
    return max(values) / low - 1


def _windows(count: int) -> str:
    return f"{count} window{'' if count == 1 else 's'}"
