"""How a sweep is measured: every number with its reason."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.model import Arrivals, LoadPoint, Ramp, reseeded

if TYPE_CHECKING:
    from pytest_gpuperf.load.distributed import RemoteWorkers


@dataclass(frozen=True)
class MeasurePlan:
    """The settings of one sweep.

    Attributes:
        runs: fresh starts of the target. Three is the least from which a spread can be told.
        visits: windows at each load point in each run, spread over the run. The noise of a shared machine comes in
            stretches of seconds: three short windows at different times see more of it than one long one.
        window_s: long enough to hold many requests of most models, short enough to visit often.
        min_requests: three visits of 17 make the 50 requests from which a p90 can be told.
        max_window_s: a model so slow that even this gives too few requests is gated on p50 and throughput alone.
        lead_in_s: load before each window, for queues to reach the new load point's level.
        deadline_s: after this a request counts as failed.
        seed: of the order of the load points.
        workers: processes (here, or elsewhere) that make the load.
        begun: runs that were measured before; ``runs`` counts them.
    """

    runs: int = 3
    visits: int = 3
    window_s: float = 0.7
    min_requests: int = 17
    max_window_s: float = 5.0
    lead_in_s: float = 0.1
    deadline_s: float = 60.0
    seed: int = 0
    workers: int | RemoteWorkers = 1
    begun: int = 0

    def spec(self, point: LoadPoint, arrivals: Arrivals | None = None, number: int = 0) -> WindowSpec:
        """How a window at a load point is timed: a ramp gets the window that it fills.

        Args:
            number: of the window among those of its point, from 0: each has random intervals of its own.
        """
        arrivals = None if arrivals is None else reseeded(arrivals, number)
        window_s = self.window_s
        if isinstance(arrivals, Ramp):
            arrivals, window_s = replace(arrivals, hold_s=self.lead_in_s), arrivals.over_s
        return WindowSpec(
            concurrency=point.concurrency,
            window_s=window_s,
            arrivals=arrivals,
            lead_in_s=self.lead_in_s,
            min_requests=max(self.min_requests, point.concurrency),
            max_window_s=self.max_window_s,
            deadline_s=self.deadline_s,
        )

    def repeats(self, points: Sequence[LoadPoint]) -> int:
        """How many disturbed windows are measured once more: as many as a run has, so that it at most doubles."""
        return self.visits * len(points)

    def order(self, points: Sequence[LoadPoint], run: int) -> Iterator[tuple[int, LoadPoint]]:
        """Visits and points of one run: all points in random order, again and again.

        Each round is a permutation of its own, so that no point always follows the same neighbour and a drift of the
        machine falls on all of them alike.
        """
        generator = random.Random(self.seed * 1_000_003 + run)
        for visit in range(self.visits):
            for point in generator.sample(list(points), len(points)):
                yield visit, point
