"""Times that a server reports for queueing and computing."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServerTimes:
    """The server's own times, summed over the requests that it finished between two readings.

    Source: the cumulative fields of Triton's statistics extension.

    Attributes:
        cache_hits: Requests that were answered from the response cache; nothing was computed for them.
        cache_hit_ns: Time of these answers.
        stages: The times of each step of an ensemble, by model; the fields above are then the sums over all steps.
    """

    requests: int
    executions: int
    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    stages: Mapping[str, ServerTimes] = field(default_factory=dict)
    cache_hits: int = 0
    cache_hit_ns: int = 0

    @property
    def computed(self) -> int:
        """Requests for which something was computed: the compute times are theirs, the queue time is that of all."""
        return max(self.requests - self.cache_hits, 0)

    @property
    def all_cache_hits(self) -> int:
        """Answers from the response cache, those of an ensemble's steps included."""
        return self.cache_hits + sum(stage.all_cache_hits for stage in self.stages.values())

    @property
    def total_ns(self) -> int:
        """Time between the arrival of a request at the server and its answer, summed over the requests."""
        return (
            self.queue_ns + self.compute_input_ns + self.compute_infer_ns + self.compute_output_ns + self.cache_hit_ns
        )

    def __add__(self, later: ServerTimes) -> ServerTimes:
        return self._combine(later, operator.add)

    def __sub__(self, earlier: ServerTimes) -> ServerTimes:
        return self._combine(earlier, operator.sub)

    def _combine(self, times: ServerTimes, combine: Callable[[int, int], int]) -> ServerTimes:
        zero = ServerTimes(0, 0, 0, 0, 0, 0)
        models = dict.fromkeys([*self.stages, *times.stages])
        return ServerTimes(
            combine(self.requests, times.requests),
            combine(self.executions, times.executions),
            combine(self.queue_ns, times.queue_ns),
            combine(self.compute_input_ns, times.compute_input_ns),
            combine(self.compute_infer_ns, times.compute_infer_ns),
            combine(self.compute_output_ns, times.compute_output_ns),
            {model: self.stages.get(model, zero)._combine(times.stages.get(model, zero), combine) for model in models},
            combine(self.cache_hits, times.cache_hits),
            combine(self.cache_hit_ns, times.cache_hit_ns),
        )
