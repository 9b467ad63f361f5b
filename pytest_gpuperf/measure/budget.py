"""The rule for a latency budget: is a load point within it? A pure function of the point's windows.

A point is judged by the interval of its quantile, never by a single value, and needs two windows or more. It is
*within* the budget when all of the interval is, *over* when none of it is, and else *undecided*: to be measured again.
Failed requests and a rate that is not sustained put a point over the budget, too, by the same kind of rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import special

from pytest_gpuperf.analysis.guard import ERROR_BUDGET
from pytest_gpuperf.analysis.interval import (
    CONFIDENCE,
    WINDOW_SPREAD,
    Spread,
    quantile_interval,
    quantile_logs,
    ratio_interval,
)
from pytest_gpuperf.model import Budget, LatencyLimit, Window, undisturbed_windows

BudgetVerdict = Literal["within", "over", "undecided"]

#: Fewest windows that decide anything: a single window may be a hiccup.
LEAST_WINDOWS = 2
#: Share of an offered rate that has to be answered; below 1, since a window's edges cut through requests.
SUSTAINED = 0.95


@dataclass(frozen=True)
class JudgedLoad:
    """The verdict on a load.

    Attributes:
        load: A concurrency, or a rate in requests per second.
        limit: The limit that the latencies below belong to: the tightest, or the limit that is exceeded the most.
        low_ns, high_ns: Interval of that quantile; 0 and infinity where it is open.
        centre_ns: Estimate of that quantile; NaN when no request succeeded.
        verdict: ``within``, ``over`` or ``undecided``.
        windows: Number of windows that the verdict rests on.
        why: Readable reason of the verdict.
        overload: Whether failed requests or a rate that was not sustained decided it: more load can't help.
    """

    load: float
    limit: LatencyLimit
    low_ns: float
    high_ns: float
    centre_ns: float
    verdict: BudgetVerdict
    windows: int
    why: str
    overload: bool = False


def judge(load: float, windows: Sequence[Window], budget: Budget, spread: Spread = WINDOW_SPREAD) -> JudgedLoad:
    """Judge a load point.

    Args:
        windows: The windows of the load point.
        spread: Spread of the log of a window's quantile, learned from other points.
    """
    calm = undisturbed_windows(windows)
    windows = calm if len(calm) >= LEAST_WINDOWS else windows
    judged = max((_latency(load, windows, limit, spread) for limit in budget.limits), key=_severity)
    for overload in (_failed(windows), _unsustained(windows)):
        decided = judged.overload and judged.verdict == "over"
        if overload is not None and not decided and (overload[0] == "over" or judged.verdict == "within"):
            judged = replace(judged, verdict=overload[0], why=overload[1], overload=True)
    if len(windows) < LEAST_WINDOWS:
        judged = replace(judged, verdict="undecided", why=f"{len(windows)} windows are too few to decide")
    return judged


def _severity(judged: JudgedLoad) -> tuple[int, float]:
    share = judged.centre_ns / judged.limit.limit_ns
    return ("within", "undecided", "over").index(judged.verdict), -math.inf if math.isnan(share) else share


def _latency(load: float, windows: Sequence[Window], limit: LatencyLimit, spread: Spread) -> JudgedLoad:
    interval = quantile_interval(windows, limit.quantile, spread)
    over = sum(log > math.log(limit.limit_ns) for log in quantile_logs(windows, limit.quantile))
    # Most of the windows have to agree with the interval: with two windows, the shrunk variance makes even a tenfold
    # hiccup in one of them look significant.
    verdict: BudgetVerdict = "undecided"
    if interval.low > limit.limit_ns and 2 * over > len(windows):
        verdict = "over"
    elif interval.high <= limit.limit_ns and 2 * over < len(windows):
        verdict = "within"
    requests = sum(window.latency.total for window in windows)
    if math.isnan(interval.centre):
        why = "no request succeeded"
    else:
        low, high = _ms(interval.low), _ms(interval.high)
        why = f"{limit.name} {low} to {high} ms" if interval.high < math.inf else f"{limit.name} over {low} ms"
        if interval.high == math.inf and verdict != "over":
            why += f" ({requests} requests are too few for an upper end)"
    return JudgedLoad(load, limit, interval.low, interval.high, interval.centre, verdict, len(windows), why)


def _ms(latency_ns: float) -> str:
    return f"{latency_ns / 1e6:.3g}"


def _failed(windows: Sequence[Window]) -> tuple[BudgetVerdict, str] | None:
    """Judge failed requests by the error budget.

    The point is over only when two windows have failures: a single connection reset must not end the search.
    """
    errors = sum(window.error_count for window in windows)
    sent = errors + sum(window.requests for window in windows)
    if not errors or errors <= ERROR_BUDGET * sent:
        return None
    # The lower end of Clopper and Pearson's interval.
    sure = float(special.betaincinv(errors, sent - errors + 1, (1 - CONFIDENCE) / 2)) > ERROR_BUDGET
    affected = sum(window.error_count > 0 for window in windows)
    return "over" if sure and affected >= LEAST_WINDOWS else "undecided", f"{errors} of {sent} requests failed"


def _unsustained(windows: Sequence[Window]) -> tuple[BudgetVerdict, str] | None:
    """Judge whether an open-loop rate was offered and answered.

    A window is compared with the requests that were due in it, if those are fewer than the rate: random arrivals vary.
    """
    shares, offered, due = [], 0.0, 0.0
    for window in windows:
        if not window.point.rate:
            return None
        arrived = window.requests + window.error_count
        nominal = window.point.rate * window.window_s
        offered += arrived
        due += nominal
        if expected := min(arrived, nominal) * window.point.batch_size:
            shares.append(window.throughput * window.window_s / expected)
    # By more than two standard deviations of a Poisson process.
    if offered < SUSTAINED * due - 2 * math.sqrt(due):
        why = f"only {offered:.0f} of {due:.0f} requests were sent: the load generator could not offer the rate"
        return "over", why
    answered = ratio_interval(shares)
    if not answered.centre < SUSTAINED:
        return None
    why = f"only {answered.centre:.0%} of the offered rate was answered"
    return "over" if answered.high < SUSTAINED else "undecided", why
