from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.model import Histogram, merge_histograms
from pytest_gpuperf.model.histogram import GAMMA
from tests.unit.factories import histogram, histograms

# 1 ns to 100 s, as often in one decade as in any other.
LATENCIES = st.floats(0, 11).map(lambda exponent: 10**exponent)
SAMPLES = st.lists(LATENCIES, min_size=1, max_size=200)


def test_precision_is_half_a_percent() -> None:
    assert GAMMA <= 1.005


@given(SAMPLES, st.floats(0, 1))
def test_quantile_is_within_half_a_percent_of_the_order_statistics_around_it(sample: list[float], q: float) -> None:
    order = sorted(sample)
    hazen = min(max(q * len(order) + 0.5, 1), len(order))
    below, above = order[math.floor(hazen) - 1], order[math.ceil(hazen) - 1]
    slack = 1.005 * (1 + 1e-9)
    assert below / slack <= histogram(sample).quantile_ns(q) <= above * slack


@given(SAMPLES, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_increase(sample: list[float], p: float, q: float) -> None:
    whole = histogram(sample)
    low, high = sorted((p, q))
    assert whole.quantile_ns(low) <= whole.quantile_ns(high)


@given(st.lists(st.lists(LATENCIES, max_size=50), max_size=4))
def test_merging_is_the_histogram_of_the_union(samples: list[list[float]]) -> None:
    union = [latency for sample in samples for latency in sample]
    assert merge_histograms(map(histogram, samples)) == histogram(union)


@given(histograms(), histograms())
def test_merging_keeps_the_total_and_has_no_order(one: Histogram, other: Histogram) -> None:
    assert merge_histograms([one, other]) == merge_histograms([other, one])
    assert merge_histograms([one, other]).total == one.total + other.total


def test_median_of_a_symmetric_sample_has_no_bias_to_either_end() -> None:
    assert histogram([1e6, 2e6, 4e6]).quantile_ns(0.5) == pytest.approx(2e6, rel=0.005)


def test_the_ends_stay_inside_the_sample() -> None:
    whole = histogram([1e6, 2e6, 4e6])
    assert whole.quantile_ns(0) == pytest.approx(1e6, rel=0.005)
    assert whole.quantile_ns(1) == pytest.approx(4e6, rel=0.005)


def test_latencies_below_a_nanosecond_count_as_one() -> None:
    assert histogram([0, 0.5, 1]).quantile_ns(0.5) == pytest.approx(1, rel=0.005)


@pytest.mark.parametrize(
    ("requests", "q", "enough"),
    [(10, 0.5, True), (9, 0.5, False), (50, 0.9, True), (49, 0.9, False), (500, 0.99, True), (499, 0.99, False)],
)
def test_a_quantile_needs_latencies_beyond_it(requests: int, q: float, enough: bool) -> None:
    assert Histogram((7,), (requests,)).supports(q) is enough


@pytest.mark.parametrize(
    ("buckets", "counts", "problem"),
    [
        ((1, 2), (1,), "one count for each bucket"),
        ((2, 1), (1, 1), "must increase"),
        ((1, 1), (1, 1), "must increase"),
        ((1,), (0,), "positive"),
        ((1,), (-3,), "positive"),
    ],
)
def test_impossible_histograms_are_refused(buckets: tuple[int, ...], counts: tuple[int, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Histogram(buckets, counts)


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_quantiles_outside_zero_to_one_are_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        histogram([1e6]).quantile_ns(q)


def test_an_empty_histogram_has_no_quantiles() -> None:
    assert Histogram().total == 0
    assert not Histogram().supports(0.5)
    with pytest.raises(ValueError, match="empty"):
        Histogram().quantile_ns(0.5)
