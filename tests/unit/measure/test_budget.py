from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_gpuperf.measure.budget import JudgedLoad, judge
from pytest_gpuperf.model import Budget, LatencyLimit, LoadPoint, Poisson, Window
from pytest_gpuperf.model.finding import THROTTLED
from tests.unit.factories import SINGLE, guarded, window

#: The factory's windows of median 1 have a p90 of 1.14.
BUDGET = Budget.of_ms(p90_ms=2)


def judged(medians_ms: Sequence[float], budget: Budget = BUDGET) -> JudgedLoad:
    return judge(1, [window(SINGLE, p50_ms=median) for median in medians_ms], budget)


def offered(throughput: float, due: int, *, count: int = 4, rate: float = 100.0) -> list[Window]:
    """Fast windows of 1 s in open loop."""
    point = LoadPoint.open_loop(Poisson(rate))
    return [window(point, window_s=1.0, throughput=throughput, requests=due) for _ in range(count)]


@pytest.mark.parametrize(
    ("medians_ms", "verdict"),
    [
        ([1.0, 1.0], "within"),
        ([4.0, 4.0], "over"),
        ([1.75, 1.75], "undecided"),
        ([1.0], "undecided"),
        ([9.0], "undecided"),
        ([], "undecided"),
        ([1.0, 9.0], "undecided"),
        ([1.0, 100.0], "undecided"),
        ([1.0, 1.0, 9.0, 1.0, 1.0], "within"),
        ([4.0, 4.0, 1.0, 4.0, 4.0], "over"),
    ],
)
def test_the_whole_interval_decides(medians_ms: Sequence[float], verdict: str) -> None:
    assert judged(medians_ms).verdict == verdict


def test_one_calm_window_does_not_stand_for_all() -> None:
    """On a machine that is hardly ever calm the others have to do."""
    calm, disturbed = window(SINGLE, p50_ms=1.0), guarded(window(SINGLE, p50_ms=1.0), THROTTLED)
    assert not disturbed.undisturbed
    assert judge(1, [disturbed, calm, disturbed], BUDGET).verdict == "within"
    slow = replace(disturbed, latency=window(SINGLE, p50_ms=9.0).latency)
    assert judge(1, [slow, calm, calm, slow], BUDGET).verdict == "within"


def test_more_windows_decide() -> None:
    assert judged([1.65, 1.7, 1.6] * 6).verdict == "within"
    assert judged([1.85, 1.9, 1.8] * 6).verdict == "over"


def test_the_interval_and_its_reason_are_told() -> None:
    judgment = judged([1.0, 1.1, 1.0])
    assert judgment.low_ns < judgment.centre_ns < judgment.high_ns < 2e6
    assert judgment.limit.label == "p90 <= 2 ms"
    assert judgment.why.startswith("p90 ")
    assert not judgment.overload


def test_every_limit_has_to_hold() -> None:
    both = Budget.of_ms(p50_ms=3, p90_ms=2)
    assert judged([1.0] * 3, both).verdict == "within"
    judgment = judged([2.0] * 3, both)
    assert (judgment.verdict, judgment.limit) == ("over", LatencyLimit(0.9, 2e6))
    assert both.label == "p50 <= 3 ms, p90 <= 2 ms"
    assert judged([2.5] * 3, Budget.of_ms(p50_ms=2, p90_ms=50)).limit.name == "p50"


def test_too_few_requests_for_the_quantile_are_no_proof() -> None:
    few = [window(SINGLE, requests=17)] * 3
    assert judge(1, few, Budget.of_ms(p90_ms=2)).verdict == "within"
    judgment = judge(1, few, Budget.of_ms(p99_ms=2))
    assert judgment.verdict == "undecided"
    assert "51 requests are too few" in judgment.why
    assert judge(1, few, Budget.of_ms(p99_ms=0.5)).verdict == "over"


def test_disturbed_windows_are_left_out() -> None:
    disturbed = replace(window(SINGLE, p50_ms=9.0), others_cpu_share=0.5)
    assert judge(1, [window()] * 2 + [disturbed] * 5, BUDGET).verdict == "within"


def test_errors_above_the_budget_are_over_it() -> None:
    judgment = judge(1, [window(SINGLE, errors={"reset": 10})] * 2, BUDGET)
    assert (judgment.verdict, judgment.overload, judgment.why) == ("over", True, "20 of 140 requests failed")


def test_only_errors_are_over_it() -> None:
    judgment = judge(1, [window(SINGLE, requests=0, errors={"reset": 60})] * 2, BUDGET)
    assert (judgment.verdict, judgment.overload) == ("over", True)
    assert math.isnan(judgment.centre_ns)


def test_a_single_reset_connection_is_measured_again_and_then_forgiven() -> None:
    reset = window(SINGLE, requests=17, errors={"reset": 1})
    assert judge(1, [reset, window(SINGLE, requests=17)], BUDGET).verdict == "undecided"
    assert judge(1, [reset] + [window(SINGLE, requests=60)] * 3, BUDGET).verdict == "within"
    burst = window(SINGLE, requests=10, errors={"reset": 50})
    assert judge(1, [burst, window()], BUDGET).verdict == "undecided"


def test_a_late_latency_stays_over_whatever_the_errors_say() -> None:
    windows = [
        window(SINGLE, p50_ms=9.0, requests=17),
        window(SINGLE, p50_ms=9.0, requests=17, errors={"reset": 1}),
    ]
    assert judge(1, windows, BUDGET).verdict == "over"


@pytest.mark.parametrize(
    ("throughput", "due", "verdict", "overload"),
    [
        (100.0, 100, "within", False),
        (97.0, 100, "within", False),
        (60.0, 100, "over", True),
        (94.0, 100, "undecided", True),
        # Random arrivals: fewer came, and all of them were answered; more came, and the rate was answered.
        (90.0, 91, "within", False),
        (100.0, 115, "within", False),
        # The client is what can't keep up.
        (60.0, 60, "over", True),
    ],
)
def test_a_rate_has_to_be_sustained(throughput: float, due: int, verdict: str, overload: bool) -> None:
    judgment = judge(100, offered(throughput, due), BUDGET)
    assert (judgment.verdict, judgment.overload) == (verdict, overload)


def test_a_client_that_offers_too_little_is_named() -> None:
    assert "load generator" in judge(100, offered(60.0, 60), BUDGET).why


@pytest.mark.parametrize("limit", [(0.0, 1.0), (1.0, 1.0), (0.9, 0.0), (0.9, -1.0), (0.9, math.nan)])
def test_nonsense_is_refused(limit: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="a limit needs a quantile"):
        LatencyLimit(*limit)


def test_a_budget_needs_a_limit() -> None:
    with pytest.raises(ValueError, match="p90_ms=50"):
        Budget.of_ms()
