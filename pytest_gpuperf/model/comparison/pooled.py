"""Pooled tests: what the baseline of a test tells other tests of the same device model about spreads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PooledRecord:
    """A baseline record, without its figures."""

    id: str
    invocation: str
    device: str


@dataclass(frozen=True)
class PooledSeries:
    """One metric of one sweep, over the records of a baseline.

    Attributes:
        means: Mean over the load points of the log of the metric, larger is worse; by record, None where a record lacks
            it.
        run_variance: Variance of that mean between the runs of a record, pooled over the records.
        run_freedom: Its degrees of freedom.
        point_variance: Variance between records of what a single point differs by from that mean, averaged over the
            points.
    """

    sweep: str
    metric: str
    means: tuple[float | None, ...]
    run_variance: float
    run_freedom: float
    point_variance: float


@dataclass(frozen=True)
class PooledTest:
    """The baseline of one test, newest record first."""

    test: str
    records: tuple[PooledRecord, ...]
    series: tuple[PooledSeries, ...]
