"""Intervals: where a latency quantile or a throughput of one load point lies, from its windows.

Each window gives one value, the log of its statistic: requests inside a window move together, windows much less so. The
interval is Student's t over those values, with three amendments for few and noisy windows:

* the mean is trimmed by a fifth at each end and the variance winsorised (Tukey and McLaughlin 1963; Yuen, "The
  two-sample trimmed t for unequal population variances", 1974), so that from five windows on a single hiccup, however
  long, moves nothing;
* the variance is shrunk to that of other points (Smyth 2004, as in ``compare``): two windows that happen to agree are
  no proof of a steady machine;
* it is never narrower than the order statistics of the requests allow: with too few requests for a quantile, one end
  is open, however well the windows agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from scipy import special

from pytest_gpuperf.model import Histogram, Window, merge_histograms

#: Confidence of two-sided intervals: each end is wrong in at most one case of twenty.
CONFIDENCE = 0.90
#: Share of the values left out at each end: Yuen's choice. Nothing is left out of fewer than five.
TRIM = 0.2
#: Largest variance that says something about the machine: windows that differ more show an overloaded target.
_LOUD_VARIANCE = 0.3**2
#: Most weight of the other points: beyond it, a point's few windows would no longer count against theirs.
_MOST_WEIGHT = 8.0


@dataclass(frozen=True)
class Interval:
    """Interval of a positive quantity. 0 and infinity are open ends; NaN means no estimate."""

    low: float
    centre: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Assumed spread of the windows of a load point, before they are measured.

    ``variance`` is that of the log of a window's statistic, ``weight`` its degrees of freedom.
    """

    variance: float
    weight: float


#: Spread that is assumed at first: windows of 0.7 s on a machine in ordinary use differ by about a tenth.
WINDOW_SPREAD = Spread(0.10**2, 4.0)

UNKNOWN = Interval(0.0, math.nan, math.inf)


def mean_interval(logs: Sequence[float], spread: Spread = WINDOW_SPREAD, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of the typical value, from the logs of one value or more.

    Raises:
        ValueError: There is no value.
    """
    centre, variance, freedom = _trimmed(logs)
    weight = spread.weight + freedom
    pooled = (spread.weight * spread.variance + freedom * variance) / weight
    reach = float(special.stdtrit(weight, (1 + confidence) / 2)) * math.sqrt(pooled / len(logs))
    return Interval(math.exp(centre - reach), math.exp(centre), math.exp(centre + reach))


def quantile_interval(
    windows: Sequence[Window], q: float, spread: Spread = WINDOW_SPREAD, confidence: float = CONFIDENCE
) -> Interval:
    """Return the interval of a latency quantile, in ns, from the windows of one load point.

    Args:
        windows: Any number of windows; those without a correct request are left out.
        q: Between 0 and 1, both excluded.
        spread: Spread of windows that other load points show.
    """
    histograms = list(_groups([window.latency for window in windows], q))
    if not histograms:
        return UNKNOWN
    among = mean_interval([math.log(histogram.quantile_ns(q)) for histogram in histograms], spread, confidence)
    # The ends of the quantile of so many requests are quantiles, too. They are read from each window, so that a slow
    # window isn't mistaken for a long tail.
    total = sum(histogram.total for histogram in histograms)
    tail = (1 - confidence) / 2
    below = math.floor(special.bdtrik(tail, total, q)) / total
    above = (math.ceil(special.bdtrik(1 - tail, total, q)) + 1) / total
    low = _typical([histogram.quantile_ns(below) for histogram in histograms]) if below > 0 else 0.0
    high = _typical([histogram.quantile_ns(above) for histogram in histograms]) if above <= 1 else math.inf
    return Interval(min(low, among.low), among.centre, max(high, among.high))


def ratio_interval(ratios: Sequence[float], spread: Spread = WINDOW_SPREAD, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a quantity of which each window gives one value, 0 or more, such as a throughput."""
    if not ratios:
        return UNKNOWN
    return mean_interval([math.log(max(ratio, 1e-9)) for ratio in ratios], spread, confidence)


def requests_needed(q: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest requests with which the interval of a ``q`` quantile has an upper end.

    All of ``n`` requests lie below the true quantile with probability ``q**n``.
    """
    return math.ceil(math.log((1 - confidence) / 2) / math.log(q))


def quantile_logs(windows: Iterable[Window], q: float) -> list[float]:
    """Return the log of each window's quantile in ns; windows without a correct request are left out."""
    return [math.log(window.latency.quantile_ns(q)) for window in windows if window.latency.counts]


def pooled_spread(points: Iterable[Sequence[float]], prior: Spread = WINDOW_SPREAD) -> Spread:
    """Return the spread that the values of several load points (logs, by window) show.

    The prior loses one degree of freedom for each that is observed: on a machine five times as steady as assumed, it
    would otherwise dominate the sum of squares for hundreds of windows.
    """
    weight, total = 0.0, 0.0
    for logs in points:
        if len(logs) > 1:
            _, variance, freedom = _trimmed(logs)
            weight += freedom
            total += freedom * min(variance, _LOUD_VARIANCE)
    assumed = max(prior.weight - weight, 0.0)
    return Spread((total + assumed * prior.variance) / (weight + assumed), min(weight + assumed, _MOST_WEIGHT))


def _trimmed(logs: Sequence[float]) -> tuple[float, float, int]:
    """Return the trimmed mean, n times its variance, and the degrees of freedom."""
    values = sorted(logs)
    count = len(values)
    if not count:
        raise ValueError("an interval needs one value or more")
    cut = int(TRIM * count)
    kept = values[cut : count - cut]
    mean = sum(kept) / len(kept)
    if len(kept) == 1:
        return mean, 0.0, 0
    winsorised = cut * kept[:1] + kept + cut * kept[-1:]
    centre = sum(winsorised) / count
    squares = sum((value - centre) ** 2 for value in winsorised)
    return mean, count * squares / (len(kept) * (len(kept) - 1)), len(kept) - 1


def _typical(values: Sequence[float]) -> float:
    return math.exp(_trimmed([math.log(value) for value in values])[0])


def _groups(histograms: Sequence[Histogram], q: float) -> Iterator[Histogram]:
    """Merge consecutive windows until they support the quantile: that of a few requests is biased."""
    groups: list[Histogram] = []
    pending: list[Histogram] = []
    for histogram in histograms:
        if not histogram.counts:
            continue
        pending.append(histogram)
        group = merge_histograms(pending) if len(pending) > 1 else histogram
        if group.supports(q):
            groups.append(group)
            pending = []
    if pending:
        # The remainder joins the last complete group.
        groups[-1:] = [merge_histograms([*groups[-1:], *pending])]
    return iter(groups)
