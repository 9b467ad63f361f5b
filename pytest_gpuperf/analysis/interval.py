"""What the windows of one load point, taken together, say of a latency quantile or a throughput: an interval.

Every window gives one value, the log of its statistic: requests inside a window move together, windows do so much less.
The interval is Student's t over those values, with three amendments for the few and noisy windows there are:

* the mean is trimmed by a fifth at each end and the variance winsorised (Tukey and McLaughlin 1963; Yuen, "The
  two-sample trimmed t for unequal population variances", 1974), so that from five windows on a single hiccup, however
  long, moves nothing;
* the variance is shrunk to what is known of other points (Smyth 2004, as in ``compare``): two windows that happen to
  agree are no proof of a quiet machine;
* it is never narrower than the order statistics of the requests allow: with too few requests for a quantile, one end
  is open, however well the windows agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from scipy import special

from pytest_gpuperf.model import Histogram, Window, merged

#: Of two-sided intervals: one end is wrong in at most one of twenty.
CONFIDENCE = 0.90
#: Share of the values left out at each end: Yuen's choice. Nothing is left out of fewer than five.
TRIM = 0.2
#: A point whose windows differ by more says something about itself (it is overloaded), and not about the machine.
_LOUD_VARIANCE = 0.3**2
#: Beyond this weight, a point's own few windows would no longer be heard against all the other points'.
_MOST_WEIGHT = 8.0


@dataclass(frozen=True)
class Interval:
    """Where a positive quantity lies.

    Attributes:
        low, high: its ends; 0 and infinity where they are open.
        centre: the estimate; NaN where there is none.
    """

    low: float
    centre: float
    high: float


@dataclass(frozen=True)
class Spread:
    """What is known, before a point is measured, of how its windows will differ.

    Attributes:
        variance: of the log of a window's statistic.
        weight: how many degrees of freedom that knowledge is worth.
    """

    variance: float
    weight: float


#: While nothing is known: windows of 0.7 s on a machine in ordinary use differ by about a tenth.
WINDOW_SPREAD = Spread(0.10**2, 4.0)

UNKNOWN = Interval(0.0, math.nan, math.inf)


def mean_interval(logs: Sequence[float], spread: Spread = WINDOW_SPREAD, confidence: float = CONFIDENCE) -> Interval:
    """The interval of the typical value, from the logs of one value or more.

    Raises:
        ValueError: there is no value.
    """
    centre, variance, freedom = _trimmed(logs)
    weight = spread.weight + freedom
    pooled = (spread.weight * spread.variance + freedom * variance) / weight
    reach = float(special.stdtrit(weight, (1 + confidence) / 2)) * math.sqrt(pooled / len(logs))
    return Interval(math.exp(centre - reach), math.exp(centre), math.exp(centre + reach))


def quantile_interval(
    windows: Sequence[Window], q: float, spread: Spread = WINDOW_SPREAD, confidence: float = CONFIDENCE
) -> Interval:
    """The interval of a latency quantile, in ns, from the windows of one load point.

    Args:
        windows: any number; those without a correct request are left out.
        q: between 0 and 1, both excluded.
        spread: what other points show of how windows differ.
    """
    histograms = list(_groups([window.latency for window in windows], q))
    if not histograms:
        return UNKNOWN
    among = mean_interval([math.log(one.quantile_ns(q)) for one in histograms], spread, confidence)
    # Where the quantile of as many requests may lie, as a quantile in turn; read from every window, so that a window
    # that is slow as a whole isn't mistaken for a long tail.
    total = sum(one.total for one in histograms)
    tail = (1 - confidence) / 2
    below = math.floor(special.bdtrik(tail, total, q)) / total
    above = (math.ceil(special.bdtrik(1 - tail, total, q)) + 1) / total
    low = _typical([one.quantile_ns(below) for one in histograms]) if below > 0 else 0.0
    high = _typical([one.quantile_ns(above) for one in histograms]) if above <= 1 else math.inf
    return Interval(min(low, among.low), among.centre, max(high, among.high))


def ratio_interval(ratios: Sequence[float], spread: Spread = WINDOW_SPREAD, confidence: float = CONFIDENCE) -> Interval:
    """The interval of something that each window gives one figure of, 0 or more, as a throughput."""
    if not ratios:
        return UNKNOWN
    return mean_interval([math.log(max(ratio, 1e-9)) for ratio in ratios], spread, confidence)


def requests_needed(q: float, confidence: float = CONFIDENCE) -> int:
    """Requests at a load point below which its ``q`` quantile has no upper end, whatever they show.

    All of ``n`` requests lie below the true quantile with probability ``q**n``.
    """
    return math.ceil(math.log((1 - confidence) / 2) / math.log(q))


def quantile_logs(windows: Iterable[Window], q: float) -> list[float]:
    """The log of every window's quantile in ns; windows without a correct request are left out."""
    return [math.log(window.latency.quantile_ns(q)) for window in windows if window.latency.counts]


def pooled(points: Iterable[Sequence[float]], prior: Spread = WINDOW_SPREAD) -> Spread:
    """What the values of several points (logs, by window) show of the spread.

    The prior steps back by one degree of freedom for each that was observed: on a machine five times as quiet as it
    says, it would otherwise go on dominating the sum of squares for hundreds of windows.
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
    """Trimmed mean, variance of one value such that the mean's is an n-th of it, and degrees of freedom."""
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
    """Windows in a row taken together until they support the quantile: that of a few requests is biased."""
    filled = [one for one in histograms if one.counts]
    ready: list[Histogram] = []
    gathered: list[Histogram] = []
    for one in filled:
        gathered.append(one)
        whole = merged(gathered) if len(gathered) > 1 else one
        if whole.supports(q):
            ready.append(whole)
            gathered = []
    if gathered:
        # What is left over joins the last whole group.
        ready[-1:] = [merged([*ready[-1:], *gathered])]
    return iter(ready)
