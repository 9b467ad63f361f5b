from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pytest_gpuperf.analysis.interval import (
    WINDOW_SPREAD,
    Interval,
    Spread,
    mean_interval,
    pooled_spread,
    quantile_interval,
    ratio_interval,
    requests_needed,
)
from pytest_gpuperf.model import Window, undisturbed_windows
from tests.unit.factories import SINGLE, histogram, window

QUIET = Spread(1e-8, 8.0)


def of(*latencies_ms: float) -> Window:
    """A window of these latencies."""
    return replace(window(SINGLE, requests=len(latencies_ms)), latency=histogram(ms * 1e6 for ms in latencies_ms))


def widths(interval: Interval) -> tuple[float, float]:
    return math.log(interval.centre / interval.low), math.log(interval.high / interval.centre)


@pytest.mark.parametrize("count", [2, 3, 6, 16])
@pytest.mark.parametrize("noise", [0.05, 0.1])
def test_the_mean_interval_has_its_stated_coverage(count: int, noise: float) -> None:
    rng = np.random.default_rng(count)
    result = [mean_interval(rng.normal(0, noise, count).tolist()) for _ in range(1000)]
    misses = np.mean([not one.low <= 1 <= one.high for one in result])
    # A prior that is too wide for a quiet machine makes it more careful, never less.
    assert misses <= 0.125
    if noise == math.sqrt(WINDOW_SPREAD.variance):
        assert misses >= 0.04


def test_more_values_narrow_the_interval() -> None:
    lengths = [sum(widths(mean_interval([0.0, 0.1] * half))) for half in (1, 2, 4, 8)]
    assert lengths == sorted(lengths, reverse=True)


def test_a_hiccup_among_five_values_moves_nothing() -> None:
    calm = mean_interval([0.0, 0.05, -0.05, 0.02, 0.1])
    assert mean_interval([0.0, 0.05, -0.05, 0.02, 5.0]) == calm


def test_two_values_that_agree_prove_little() -> None:
    equal = mean_interval([0.0, 0.0])
    assert equal.high > 1.05
    assert mean_interval([0.0, 0.0], QUIET).high < 1.001


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="one value or more"):
        mean_interval([])
    assert ratio_interval([]).high == math.inf
    assert quantile_interval([of()], 0.5).high == math.inf


def test_a_spread_learns_from_other_points() -> None:
    rng = np.random.default_rng(0)
    learned = pooled_spread(rng.normal(point, 0.03, 4).tolist() for point in range(12))
    assert math.sqrt(learned.variance) == pytest.approx(0.03, rel=0.3)
    assert learned.weight == 8
    assert pooled_spread([]) == WINDOW_SPREAD
    assert pooled_spread([[1.0]]) == WINDOW_SPREAD


def test_an_overloaded_point_does_not_speak_for_the_others() -> None:
    calm = [[0.0, 0.05, -0.05]] * 6
    assert pooled_spread([*calm, [0.0, 4.0]]).variance < 0.3**2 / 4


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99])
def test_too_few_requests_leave_the_upper_end_open(q: float) -> None:
    needed = requests_needed(q)
    latencies = np.random.default_rng(0).lognormal(0, 0.1, needed)
    assert quantile_interval([of(*latencies[:-1])], q, QUIET).high == math.inf
    assert quantile_interval([of(*latencies)], q, QUIET).high < 2e6


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_agreeing_windows_are_no_narrower_than_their_requests_allow(q: float) -> None:
    rng = np.random.default_rng(1)
    exact = math.exp(0.3 * {0.5: 0.0, 0.9: 1.2816}[q]) * 1e6
    misses = 0
    for _ in range(300):
        result = quantile_interval([of(*rng.lognormal(0, 0.3, 50)) for _ in range(2)], q, QUIET)
        # Half a bucket is the histogram's own precision.
        misses += not result.low * 0.997 <= exact <= result.high * 1.003
    assert misses <= 0.15 * 300


def test_a_slow_window_is_not_taken_for_a_long_tail() -> None:
    windows = [of(*np.linspace(1, 1.1, 100))] * 7 + [of(*np.linspace(10, 11, 100))]
    # 12% of all requests are slow, so the p90 of all of them together would be.
    assert quantile_interval(windows, 0.9).high < 1.3e6


def test_windows_too_short_for_the_quantile_are_taken_together() -> None:
    rng = np.random.default_rng(2)
    exact = math.exp(0.5 * 2.3263) * 1e6
    centres = [quantile_interval([of(*rng.lognormal(0, 0.5, 25)) for _ in range(40)], 0.99).centre for _ in range(20)]
    # The largest of 25 is, typically, no more than their 97th percentile.
    assert np.mean(np.log(centres)) == pytest.approx(math.log(exact), abs=0.07)


def test_disturbed_windows_are_left_out_where_there_are_calm_ones() -> None:
    calm, disturbed = window(), replace(window(), others_cpu_share=0.5)
    assert undisturbed_windows([calm, disturbed]) == [calm]
    assert undisturbed_windows([disturbed, disturbed]) == [disturbed, disturbed]
