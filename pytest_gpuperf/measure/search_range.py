"""The range of loads that an algorithm may choose from."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SearchRange:
    """Concurrencies (closed loop, whole numbers) or request rates (open loop, real numbers).

    Loads are ``float`` throughout; a concurrency has no fraction.

    Attributes:
        lowest, highest: The ends of the range, both included.
    """

    lowest: float = 1
    highest: float = 4096
    open_loop: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest < math.inf:
            raise ValueError(f"a range of loads needs 0 < lowest <= highest, got {self.lowest} to {self.highest}")
        if not self.open_loop and not (float(self.lowest).is_integer() and float(self.highest).is_integer()):
            raise ValueError(f"concurrencies are whole numbers, got {self.lowest} to {self.highest}")

    def doubled(self, load: float) -> float:
        """Return twice the load, but at most the highest."""
        return float(min(2 * load, self.highest))

    def between(self, left: float, right: float, apart: float) -> float | None:
        """Return the load in the middle, on the log scale; None if the two differ by a share of ``apart`` or less.

        It depends on the two loads alone: records that split the same gap measure the same load, and can be compared.
        """
        # Slightly more than ``apart``, or rounding would add a step.
        if right / left <= (1 + apart) * (1 + 1e-9):
            return None
        middle = math.sqrt(left * right)
        if self.open_loop:
            return middle
        concurrency = float(round(middle))
        return concurrency if left < concurrency < right else None


CONCURRENCIES = SearchRange()
