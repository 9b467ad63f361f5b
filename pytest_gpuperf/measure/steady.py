"""The rule for a warm target, over the medians of short warm-up windows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SteadyRule:
    """Warm-up ends when the last three medians lie within 10% of each other, or time is up.

    A cold target (lazy allocation, first-touch of weights, clocks ramping up) gets faster by far more than 10% from
    window to window, and a target on a noisy machine rarely stays that calm for three windows by accident.

    Attributes:
        slice_s: Length of a warm-up window.
        slices: Number of medians that must agree.
        tolerance: Largest ratio between them, minus one.
        limit_s: Longest warm-up. The run is then marked and kept: a machine whose noise never settles can still be
            compared with itself.
    """

    slice_s: float = 0.2
    slices: int = 3
    tolerance: float = 0.10
    limit_s: float = 4.0

    def is_steady(self, medians_ns: Sequence[float]) -> bool:
        """Return whether warm-up windows with these medians end in a steady stretch."""
        last = medians_ns[-self.slices :]
        return len(last) == self.slices and max(last) <= (1 + self.tolerance) * min(last)
