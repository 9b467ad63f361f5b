"""When a target is warm: a pure rule over the medians of short warm-up windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SteadyRule:
    """Warm when the last three medians lie within 10% of each other, or time is up.

    A cold target (lazy allocation, first-touch of weights, clocks ramping up) gets faster by far more than 10% from one
    slice to the next, and a warm one on a noisy machine rarely stays that calm for three slices by accident.

    Attributes:
        slice_s: length of one warm-up window.
        slices: how many medians must agree.
        tolerance: largest ratio between them, minus one.
        limit_s: warm-up ends after this in any case. The run is then marked, not thrown away: a machine whose noise
            never settles can still be compared with itself.
    """

    slice_s: float = 0.2
    slices: int = 3
    tolerance: float = 0.10
    limit_s: float = 4.0

    def is_steady(self, medians_ns: Sequence[float]) -> bool:
        """Whether warm-up windows with these medians end in a steady stretch."""
        last = medians_ns[-self.slices :]
        return len(last) == self.slices and max(last) <= (1 + self.tolerance) * min(last)
