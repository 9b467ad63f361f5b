"""Whether a load point keeps within a latency budget: a pure rule over its windows.

A point is judged by the interval of its quantile, never by one value, and takes two windows at least. It is *within*
when the whole interval is, *over* when none of it is, and else *undecided*: to be measured again. Failed requests and a
rate that is not sustained put a point over the budget as well, by the same kind of rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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

#: Windows below which nothing is decided: with one, a hiccup can't be told from the truth.
LEAST_WINDOWS = 2
#: Share of an offered rate that has to be answered. Not 1: a window's edges cut through requests.
SUSTAINED = 0.95


@dataclass(frozen=True)
class JudgedLoad:
    """What was found at one load.

    Attributes:
        load: a concurrency, or a rate in requests per second.
        limit: the limit that the latencies here belong to: the one that comes closest, or is exceeded the most.
        low_ns, high_ns: interval of that quantile; 0 and infinity where it is open.
        centre_ns: its estimate; NaN when no request succeeded.
        verdict: ``within``, ``over`` or ``undecided``.
        windows: how many it rests on.
        why: what decided it, or keeps it open; for people.
        overload: it is over, or open, for failed requests or a rate not sustained: more load can't help.
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
    """Judge one load point.

    Args:
        windows: all of one load point.
        spread: of the log of a window's quantile, as other points show it.
    """
    calm = undisturbed_windows(windows)
    windows = calm if len(calm) >= LEAST_WINDOWS else windows
    latency = max((_latency(load, windows, limit, spread) for limit in budget.limits), key=_severity)
    others = [finding for finding in (_failed(windows), _unsustained(windows)) if finding is not None]
    verdict, why, overload = latency.verdict, latency.why, False
    for other_verdict, other_why in others:
        if other_verdict == "over" or verdict == "within":
            verdict, why, overload = other_verdict, other_why, True
            if verdict == "over":
                break
    if len(windows) < LEAST_WINDOWS:
        verdict, why = "undecided", f"{len(windows)} windows are too few to tell"
    return JudgedLoad(
        load,
        latency.limit,
        latency.low_ns,
        latency.high_ns,
        latency.centre_ns,
        verdict,
        len(windows),
        why,
        overload,
    )


def _severity(judged: JudgedLoad) -> tuple[int, float]:
    share = judged.centre_ns / judged.limit.limit_ns
    return ("within", "undecided", "over").index(judged.verdict), -math.inf if math.isnan(share) else share


def _latency(load: float, windows: Sequence[Window], limit: LatencyLimit, spread: Spread) -> JudgedLoad:
    found = quantile_interval(windows, limit.quantile, spread)
    over = sum(log > math.log(limit.limit_ns) for log in quantile_logs(windows, limit.quantile))
    # Beside the interval, most of the windows have to say so. Of two windows, the shrunk variance makes even a tenfold
    # hiccup in one of them look significant.
    verdict: BudgetVerdict = "undecided"
    if found.low > limit.limit_ns and 2 * over > len(windows):
        verdict = "over"
    elif found.high <= limit.limit_ns and 2 * over < len(windows):
        verdict = "within"
    requests = sum(window.latency.total for window in windows)
    if math.isnan(found.centre):
        why = "no request succeeded"
    else:
        ends = f"{_ms(found.low)} to {_ms(found.high)} ms" if found.high < math.inf else f"over {_ms(found.low)} ms"
        why = f"{limit.name} {ends}"
        if found.high == math.inf and verdict != "over":
            why += f" ({requests} requests are too few for more)"
    return JudgedLoad(load, limit, found.low, found.high, found.centre, verdict, len(windows), why)


def _ms(latency_ns: float) -> str:
    return f"{latency_ns / 1e6:.3g}"


def _failed(windows: Sequence[Window]) -> tuple[BudgetVerdict, str] | None:
    """Failed requests above the error budget. Over for sure only when two windows show them: a connection that was
    reset once must not end the search."""
    errors = sum(window.error_count for window in windows)
    sent = errors + sum(window.requests for window in windows)
    if not errors or errors <= ERROR_BUDGET * sent:
        return None
    # Clopper and Pearson's lower end.
    sure = float(special.betaincinv(errors, sent - errors + 1, (1 - CONFIDENCE) / 2)) > ERROR_BUDGET
    showing = sum(window.error_count > 0 for window in windows)
    return "over" if sure and showing >= LEAST_WINDOWS else "undecided", f"{errors} of {sent} requests failed"


def _unsustained(windows: Sequence[Window]) -> tuple[BudgetVerdict, str] | None:
    """Open loop: the server answers less than was offered, or the load generator offers less than it should.

    A window is held against what really fell due in it, if that is less than the rate: with random arrivals it varies.
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
    # Two standard deviations of a Poisson process.
    if offered < SUSTAINED * due - 2 * math.sqrt(due):
        return "over", f"only {offered:.0f} of {due:.0f} requests fell due: the load generator could not offer the rate"
    found = ratio_interval(shares)
    if not found.centre < SUSTAINED:
        return None
    sustained = f"only {found.centre:.0%} of the offered rate was answered"
    return "over" if found.high < SUSTAINED else "undecided", sustained
