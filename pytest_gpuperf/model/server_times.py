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
        stages: The times of each step of an ensemble, by model; the fields above are then the sums over all steps.
    """

    requests: int
    executions: int
    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    stages: Mapping[str, ServerTimes] = field(default_factory=dict)

    @property
    def total_ns(self) -> int:
        """Time between the arrival of a request at the server and its answer, summed over the requests."""
        return self.queue_ns + self.compute_input_ns + self.compute_infer_ns + self.compute_output_ns

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
        )
