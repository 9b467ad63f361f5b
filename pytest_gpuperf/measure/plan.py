"""The settings of a sweep, each with its reason."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.model import Arrivals, LoadPoint, Ramp, reseed

if TYPE_CHECKING:
    from pytest_gpuperf.load.distributed import RemoteWorkers


@dataclass(frozen=True)
class MeasurePlan:
    """The settings of one sweep.

    Attributes:
        runs: Fresh starts of the target. Three is the fewest that show a spread.
        visits: Windows at each load point in each run, spread over the run. The noise of a shared machine comes in
            stretches of seconds: three short windows at different times catch more of it than a long window.
        window_s: Length of a window: holds many requests of most models, and is short enough to visit often.
        min_requests: Fewest requests of a window. Three visits of 17 make the 50 requests that a p90 needs.
        max_window_s: Longest window. A model so slow that even this holds too few requests is gated on p50 and
            throughput alone.
        lead_in_s: Time under load before each window, for queues to reach the level of the new load point.
        deadline_s: Time after which a request counts as failed.
        seed: Seed of the order of the load points.
        workers: Processes that make the load, on this machine or on others.
        begun: Runs that were measured before; ``runs`` counts them, too.
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
        """Return how a window at a load point is timed. The window of a ramp is as long as the ramp.

        Args:
            number: Zero-based index of the window among those of its point; it seeds the random intervals.
        """
        arrivals = None if arrivals is None else reseed(arrivals, number)
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
        """Return how many disturbed windows are repeated: as many as a run has, so that its length at most doubles."""
        return self.visits * len(points)

    def order(self, points: Sequence[LoadPoint], run: int) -> Iterator[tuple[int, LoadPoint]]:
        """Yield the visits and load points of a run: all points in random order, ``visits`` times.

        Each round has a new order, so that no point always follows the same neighbour, and a drift of the machine falls
        on all of them equally.
        """
        generator = random.Random(self.seed * 1_000_003 + run)
        for visit in range(self.visits):
            for point in generator.sample(list(points), len(points)):
                yield visit, point
