from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.measure.stability import StabilityRule
from pytest_gpuperf.model import Window
from pytest_gpuperf.model.level import INTERRUPTED, OVER, STABLE, UNSTABLE
from tests.unit.factories import window

MS = 1e6
ANY_LEVELS = st.lists(st.floats(0.1, 100), min_size=1, max_size=12)


def windows(*p50_ms: float, throughputs: Sequence[float] | None = None) -> list[Window]:
    rates = throughputs or [1000 / level for level in p50_ms]
    return [window(p50_ms=level, throughput=rate) for level, rate in zip(p50_ms, rates, strict=True)]


def taken(rule: StabilityRule, measured: list[Window]) -> int:
    """How many of the windows the rule asks for."""
    return next(count for count in range(1, len(measured) + 1) if rule.is_done(measured[:count]))


def test_three_windows_that_agree_are_enough() -> None:
    assert taken(StabilityRule(), windows(1.0, 1.05, 0.97, 1.0)) == 3


def test_only_the_last_three_have_to_agree() -> None:
    assert taken(StabilityRule(), windows(5.0, 2.0, 1.0, 1.02, 1.04, 1.0)) == 5


def test_the_border_is_inside() -> None:
    rule = StabilityRule(tolerance=0.25)
    assert rule.is_stable(windows(1.0, 1.0, 1.0, throughputs=[100.0, 100.0, 125.0]))
    assert not rule.is_stable(windows(1.0, 1.0, 1.0, throughputs=[100.0, 100.0, 125.1]))


@pytest.mark.parametrize(
    ("levels", "throughputs"), [((1.0, 1.0, 1.2), [100.0] * 3), ((1.0, 1.0, 1.0), [100.0, 120.0, 100.0])]
)
def test_both_throughput_and_latency_have_to_agree(levels: Sequence[float], throughputs: Sequence[float]) -> None:
    assert not StabilityRule().is_stable(windows(*levels, throughputs=throughputs))


def test_a_percentile_takes_the_place_of_the_mean() -> None:
    rule = StabilityRule(percentile=99)
    single = windows(1.0)[0]
    assert rule.latency_ns(single) == single.latency.quantile_ns(0.99)
    assert rule.latency_name == "p99 latency"


def test_it_ends_after_the_most_windows() -> None:
    restless = windows(*[1.0, 2.0] * 6)
    assert taken(StabilityRule(max_windows=10), restless) == 10
    level = StabilityRule(max_windows=10).level(restless[:10])
    assert (level.state, level.window_count) == (UNSTABLE, 10)
    assert "100% in throughput and 100% in avg latency; 10% is allowed" in level.reason


def test_the_last_three_windows_are_the_level() -> None:
    measured = windows(9.0, 2.0, 1.0, 1.0, 1.0)
    level = StabilityRule().level(measured)
    assert (level.state, level.window_count, level.figures.requests) == (STABLE, 5, 180)
    assert level.figures.latency_mean_ns == pytest.approx(measured[-1].latency_mean_ns)


def test_fewer_windows_than_three_are_never_stable() -> None:
    rule = StabilityRule(max_windows=2)
    level = rule.level(windows(1.0, 1.0))
    assert rule.is_done(windows(1.0, 1.0))
    assert level.state == UNSTABLE
    assert "3 are needed" in level.reason


def test_one_window_is_stable_where_only_one_is_wanted() -> None:
    rule = StabilityRule(recent=1, max_windows=1)
    assert rule.is_done(windows(1.0))
    assert rule.level(windows(1.0)).state == STABLE


def test_windows_without_an_answer_are_never_stable() -> None:
    rule = StabilityRule(max_windows=3, threshold_ns=MS)
    silent = [window(requests=0, throughput=0.0)] * 3
    level = rule.level(silent)
    assert math.isnan(rule.latency_ns(silent[0]))
    assert (level.state, level.within) == (UNSTABLE, None)
    assert "do not all have an answer" in level.reason


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_window_without_an_answer_spoils_the_three_wherever_it_is(place: int) -> None:
    measured = windows(1.0, 1.0, 1.0)
    measured[place] = window(requests=0, throughput=1000.0)
    assert not StabilityRule().is_stable(measured)


def test_windows_all_over_the_threshold_end_the_level_though_they_differ() -> None:
    rule = StabilityRule(threshold_ns=2 * MS)
    measured = windows(3.0, 6.0, 3.0, 6.0)
    assert taken(rule, measured) == 3
    assert (rule.level(measured[:3]).state, rule.level(measured[:3]).within) == (OVER, False)


@pytest.mark.parametrize(("p50_ms", "within"), [(1.0, True), (3.0, False)])
def test_a_stable_level_is_held_against_the_threshold(p50_ms: float, within: bool) -> None:
    level = StabilityRule(threshold_ns=2 * MS).level(windows(*[p50_ms] * 3))
    assert (level.state, level.within) == (STABLE, within)


@pytest.mark.parametrize("percentile", [None, 90.0])
@pytest.mark.parametrize(("threshold_ms", "within"), [(10.0, True), (1.6, None), (0.3, False)])
def test_an_unstable_level_is_held_against_the_threshold_by_its_interval(
    percentile: float | None, threshold_ms: float, within: bool | None
) -> None:
    rule = StabilityRule(percentile=percentile, threshold_ns=threshold_ms * MS)
    restless = windows(*[1.2, 1.8] * 5)
    assert not rule.is_stable(restless)
    assert rule.keeps_threshold(restless) is within
    if within is not False:
        assert rule.level(restless).within is within


def test_without_a_threshold_every_level_keeps_it() -> None:
    assert StabilityRule().level(windows(*[1.0, 5.0] * 5)).within is True


def test_a_level_that_was_cut_short_says_so() -> None:
    level = StabilityRule().level(windows(1.0, 1.0), interrupted=True)
    assert (level.state, level.window_count, level.reason) == (INTERRUPTED, 2, "cut short after 2 windows")


def test_a_level_that_was_stable_before_it_was_cut_short_is_stable() -> None:
    assert StabilityRule().level(windows(1.0, 1.0, 1.0), interrupted=True).state == STABLE


@given(ANY_LEVELS, st.floats(0, 2))
def test_a_level_is_stable_exactly_if_its_last_windows_agree(levels: list[float], tolerance: float) -> None:
    rule = StabilityRule(tolerance=tolerance, max_windows=len(levels))
    measured = windows(*levels)
    agree = len(measured) >= 3 and max(rule.spread(measured)) <= tolerance
    assert (rule.level(measured).state == STABLE) is agree
    assert rule.is_done(measured)


def test_a_window_without_answers_until_the_deadline_is_the_last() -> None:
    silent = window(requests=90, errors={"timeout": 10})
    assert taken(StabilityRule(), [*windows(1.0), silent, *windows(1.0, 1.0)]) == 2
    level = StabilityRule().level([silent])
    assert level.state == UNSTABLE
    assert "got no answer until their deadline" in level.reason
