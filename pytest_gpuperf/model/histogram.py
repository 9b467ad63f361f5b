"""A mergeable latency histogram with logarithmic buckets.

Bucket ``i`` holds the latencies in ``[GAMMA**i, GAMMA**(i+1))`` ns. With ``GAMMA`` = 1.005 a quantile read from it is
within 0.5% of the exact one, which is below every effect the gate tests for (1% by default), and the counts of 100 us
to 10 s fit into 2,300 buckets, of which a window fills a few dozen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from operator import ge

GAMMA = 1.005

#: Latencies that must lie beyond a quantile before it is gated: with five, the relative spread of the order statistic
#: is about 1/sqrt(5) of the tail's scale; with one or two, a single hiccup *is* the quantile.
BEYOND_QUANTILE = 5

#: Quantiles of latencies that are reported and compared, by name.
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}

_LOG_GAMMA = math.log(GAMMA)


def bucket_of(latency_ns: float) -> int:
    """Return the bucket that holds a latency; latencies below 1 ns share bucket 0."""
    return math.floor(math.log(max(latency_ns, 1.0)) / _LOG_GAMMA)


@dataclass(frozen=True)
class Histogram:
    """Sparse counts over logarithmic buckets.

    Attributes:
        buckets: Bucket numbers, strictly increasing.
        counts: Number of latencies in each bucket; positive, and as many as buckets.
    """

    buckets: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.buckets) != len(self.counts):
            raise ValueError("a histogram needs one count for each bucket")
        # The gate reads thousands of histograms: no loop in Python.
        if any(map(ge, self.buckets, self.buckets[1:])):
            raise ValueError("histogram buckets must increase")
        if self.counts and min(self.counts) <= 0:
            raise ValueError("histogram counts must be positive")

    @property
    def total(self) -> int:
        """Number of latencies."""
        return sum(self.counts)

    def supports(self, q: float) -> bool:
        """Return whether there are enough latencies for their ``q`` quantile."""
        return self.total * (1 - q) >= BEYOND_QUANTILE - 1e-9

    def quantile_ns(self, q: float) -> float:
        """Return the ``q`` quantile in ns, interpolated inside its bucket.

        Raises:
            ValueError: The histogram is empty, or ``q`` is outside [0, 1].
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile must be between 0 and 1, not {q}")
        total = self.total
        if not total:
            raise ValueError("an empty histogram has no quantiles")
        # The middle of the rank range, as in Hazen's rule: no bias towards either end of a short window.
        rank = min(max(q * total, 0.5), total - 0.5)
        below = 0
        for bucket, count in zip(self.buckets, self.counts, strict=True):
            if below + count >= rank:
                return math.exp((bucket + (rank - below) / count) * _LOG_GAMMA)
            below += count
        raise AssertionError("unreachable: the rank is at most the total")

    def share_within(self, limit_ns: float) -> float:
        """Return the share of the latencies up to a limit, interpolated inside its bucket; NaN without latencies."""
        total = self.total
        if not total:
            return math.nan
        edge = math.log(max(limit_ns, 1.0)) / _LOG_GAMMA
        within = 0.0
        for bucket, count in zip(self.buckets, self.counts, strict=True):
            within += count * min(max(edge - bucket, 0.0), 1.0)
        return within / total


def quantile_or_zero_ns(histogram: Histogram | None, q: float) -> float:
    """Return a quantile in ns; 0 without latencies."""
    return histogram.quantile_ns(q) if histogram is not None and histogram.total else 0.0


def merge_histograms(histograms: Iterable[Histogram]) -> Histogram:
    """Return the histogram of all latencies of several histograms."""
    counts: dict[int, int] = {}
    for histogram in histograms:
        for bucket, count in zip(histogram.buckets, histogram.counts, strict=True):
            counts[bucket] = counts.get(bucket, 0) + count
    order = sorted(counts)
    return Histogram(tuple(order), tuple(counts[bucket] for bucket in order))
