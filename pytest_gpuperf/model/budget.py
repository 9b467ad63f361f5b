"""Latency budgets: what a test requires of a latency, whatever the baseline says."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LatencyLimit:
    """An upper limit of one latency quantile, which is between 0 and 1, both excluded."""

    quantile: float
    limit_ns: float

    def __post_init__(self) -> None:
        if not (0 < self.quantile < 1 and 0 < self.limit_ns < math.inf):
            raise ValueError(f"a limit needs a quantile between 0 and 1 and a positive number of ns: {self}")

    @property
    def name(self) -> str:
        """Name of the quantile, for example ``p90``."""
        return f"p{self.quantile * 100:g}"

    @property
    def limit_ms(self) -> float:
        return self.limit_ns / 1e6

    @property
    def label(self) -> str:
        """Readable text, for example ``p90 <= 50 ms``."""
        return f"{self.name} <= {self.limit_ms:g} ms"


@dataclass(frozen=True)
class Budget:
    """Limits that must hold at once; at least one."""

    limits: tuple[LatencyLimit, ...]

    def __post_init__(self) -> None:
        if not self.limits:
            raise ValueError("a latency budget needs a limit, for example p90_ms=50")

    @classmethod
    def of_ms(
        cls,
        *,
        p50_ms: float | None = None,
        p90_ms: float | None = None,
        p95_ms: float | None = None,
        p99_ms: float | None = None,
    ) -> Budget:
        """Return the budget of some limits in milliseconds.

        Raises:
            ValueError: No limit is given, or a limit is not positive.
        """
        given = ((0.5, p50_ms), (0.9, p90_ms), (0.95, p95_ms), (0.99, p99_ms))
        return cls(tuple(LatencyLimit(quantile, limit * 1e6) for quantile, limit in given if limit is not None))

    @property
    def label(self) -> str:
        """Readable text, for example ``p50 <= 20 ms, p99 <= 50 ms``."""
        return ", ".join(limit.label for limit in self.limits)
