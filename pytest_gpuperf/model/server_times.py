"""Where a server says that the time went."""

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

    def __add__(self, other: ServerTimes) -> ServerTimes:
        return self._combine(other, operator.add)

    def __sub__(self, earlier: ServerTimes) -> ServerTimes:
        return self._combine(earlier, operator.sub)

    def _combine(self, other: ServerTimes, combine: Callable[[int, int], int]) -> ServerTimes:
        zero = ServerTimes(0, 0, 0, 0, 0, 0)
        models = dict.fromkeys([*self.stages, *other.stages])
        return ServerTimes(
            combine(self.requests, other.requests),
            combine(self.executions, other.executions),
            combine(self.queue_ns, other.queue_ns),
            combine(self.compute_input_ns, other.compute_input_ns),
            combine(self.compute_infer_ns, other.compute_infer_ns),
            combine(self.compute_output_ns, other.compute_output_ns),
            {model: self.stages.get(model, zero)._combine(other.stages.get(model, zero), combine) for model in models},
        )
