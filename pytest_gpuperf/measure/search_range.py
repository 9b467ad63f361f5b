"""Between which loads an algorithm may choose, and what lies between two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SearchRange:
    """Concurrencies (closed loop, whole numbers) or request rates (open loop, real numbers).

    Loads are ``float`` throughout; a concurrency is one without a fraction.

    Attributes:
        lowest, highest: both included.
    """

    lowest: float = 1
    highest: float = 4096
    open_loop: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest < math.inf:
            raise ValueError(f"loads go from a positive one to a higher one, not {self.lowest} to {self.highest}")
        if not self.open_loop and not (float(self.lowest).is_integer() and float(self.highest).is_integer()):
            raise ValueError(f"concurrencies are whole numbers, not {self.lowest} to {self.highest}")

    def doubled(self, load: float) -> float:
        """Twice the load, or the highest."""
        return float(min(2 * load, self.highest))

    def between(self, left: float, right: float, apart: float) -> float | None:
        """A load in the middle, on the log scale; None when the two are no more than a share of ``apart`` apart.

        It depends on nothing but the two: records that split the same gap measure the same load, and can be compared.
        """
        # A hair more, or rounding would ask for one step more.
        if right / left <= (1 + apart) * (1 + 1e-9):
            return None
        middle = math.sqrt(left * right)
        if self.open_loop:
            return middle
        whole = float(round(middle))
        return whole if left < whole < right else None


CONCURRENCIES = SearchRange()
#: From a request a second to more than one client machine can send.
RATES = SearchRange(1.0, 1e6, open_loop=True)
