from __future__ import annotations

from collections.abc import Callable
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.cli.sweep.settings import (
    INTERVALS,
    REQUEST_RATE,
    LoadSequence,
    SteppedRange,
    SweepSettings,
    window_arrivals,
)
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Constant, Intervals, LoadPoint, Poisson


def visited(levels: LoadSequence, within: Callable[[float], bool | None]) -> tuple[list[float], float | None]:
    """The loads that are asked for, and the answer."""
    seen = []
    try:
        load = next(levels)
        while True:
            seen.append(load)
            load = levels.send(within(load))
    except StopIteration as end:
        return seen, end.value


def always(_load: float) -> bool:
    return True


@pytest.mark.parametrize(
    ("levels", "loads"),
    [
        (SteppedRange(3, 3), [3]),
        (SteppedRange(1, 4), [1, 2, 3, 4]),
        (SteppedRange(1, 10, 4), [1, 5, 9]),
        (SteppedRange(0.1, 0.5, 0.1), [0.1, 0.2, 0.3, 0.4, 0.5]),
    ],
)
def test_a_range_is_walked_from_start_to_end(levels: SteppedRange, loads: list[float]) -> None:
    assert visited(levels.linear(), always)[0] == pytest.approx(loads)


def test_a_linear_sweep_ends_with_the_first_level_over_the_threshold() -> None:
    assert visited(SteppedRange(1, 100, 8).linear(), lambda load: load < 10) == ([1, 9, 17], None)


def test_a_range_without_an_end_goes_on_until_a_level_is_over() -> None:
    assert visited(SteppedRange(10, 0, 10).linear(), lambda load: load <= 40)[0] == [10, 20, 30, 40, 50]


def test_a_linear_sweep_goes_on_after_an_unclear_level() -> None:
    assert visited(SteppedRange(1, 3).linear(), lambda _: None)[0] == [1, 2, 3]


def test_a_binary_search_visits_what_perf_client_visits() -> None:
    # perf_analyzer 2.50 with --binary-search --concurrency-range 1:64:4 -l 2 went this way, and with 1:17:4 this one.
    assert visited(SteppedRange(1, 64, 4).bisected(integers=True), lambda load: load < 4)[0] == [1, 64, 32, 16, 8, 4]
    assert visited(SteppedRange(1, 17, 4).bisected(integers=True), lambda load: load < 2)[0] == [1, 17, 9, 5]


def test_a_binary_search_ends_early_if_an_end_is_the_answer() -> None:
    search = SteppedRange(1, 64)
    assert visited(search.bisected(integers=True), always) == ([1, 64], 64)
    assert visited(search.bisected(integers=True), lambda _: False) == ([1], None)


def test_an_unclear_level_counts_as_over_the_threshold() -> None:
    found = visited(SteppedRange(1, 9).bisected(integers=True), lambda load: True if load <= 4 else None)
    assert found[1] == 4


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 50), st.integers(0, 1000))
def test_a_binary_search_finds_the_limit_within_a_step(start: int, length: int, step: int, limit: int) -> None:
    end = start + length
    seen, answer = visited(SteppedRange(start, end, step).bisected(integers=True), lambda load: load <= limit)
    assert all(float(load).is_integer() and start <= load <= end for load in seen)
    assert len(seen) == len(set(seen))
    if limit < start:
        assert answer is None
    elif limit >= end:
        assert answer == end
    else:
        assert answer is not None
        assert answer <= limit <= answer + step


def test_rates_are_not_rounded_in_a_search() -> None:
    seen, answer = visited(SteppedRange(10, 15, 1).bisected(integers=False), lambda load: load <= 12.2)
    assert seen == [10, 15, 12.5, 11.25, 11.875]
    assert answer == 11.875


def sweep_settings(**fields: object) -> SweepSettings:
    return SweepSettings("resnet50", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"levels": SteppedRange(4, 1)}, "ends at 1, below its start, 4"),
        ({"levels": SteppedRange(1, 0)}, "with -l"),
        ({"binary_search": True, "threshold_ms": 5.0}, "--concurrency-range START:END"),
        ({"binary_search": True, "levels": SteppedRange(1, 0), "threshold_ms": 5.0}, "START:END"),
        ({"binary_search": True, "levels": SteppedRange(1, 8)}, "-l, in ms"),
        ({"binary_search": True, "mode": INTERVALS, "levels": SteppedRange(5.0, 5.0)}, "needs a range"),
        ({"streaming": True}, "-i grpc"),
        ({"request_count": 3, "levels": SteppedRange(1, 4)}, "less than the highest concurrency, 4"),
        ({"input_data": ("zero", "a.json")}, "zero can't be mixed"),
        ({"mode": REQUEST_RATE, "levels": SteppedRange(9.0, 2.0)}, "--request-rate-range ends at 2"),
    ],
)
def test_contradicting_settings_are_refused(settings: dict[str, object], part: str) -> None:
    with pytest.raises(OptionError, match=part.replace("(", r"\(")):
        sweep_settings(**settings)


def test_load_points() -> None:
    rates = {"mode": REQUEST_RATE, "levels": SteppedRange(100.0, 100.0)}
    assert sweep_settings(batch_size=4).point(8) == LoadPoint(8, 4)
    assert sweep_settings(**rates).point(100.0) == LoadPoint(0, 1, 100.0, "constant")
    assert sweep_settings(**rates, poisson=True, seed=7).point(100.0) == LoadPoint(0, 1, 100.0, "poisson seed 7")
    assert sweep_settings().arrivals(1) is None


def test_windows_of_random_arrivals_are_not_copies_and_can_be_repeated() -> None:
    first, second = window_arrivals(Poisson(100.0, 3), 0, 5.0), window_arrivals(Poisson(100.0, 3), 1, 5.0)
    assert first == Poisson(100.0, 3)
    assert list(islice(first.instants(), 5)) != list(islice(second.instants(), 5))
    assert second == window_arrivals(Poisson(100.0, 3), 1, 5.0)
    assert second.rate == 100.0


def test_constant_arrivals_are_the_same_in_every_window() -> None:
    assert window_arrivals(Constant(50.0), 4, 5.0) == Constant(50.0)


def test_recorded_arrivals_go_on_where_the_window_before_ended() -> None:
    recorded = Intervals((1_000_000, 2_000_000, 3_000_000), "trace.txt")
    again = window_arrivals(recorded, 1, 0.002)
    assert isinstance(again, Intervals)
    assert again.intervals_ns == (2_000_000, 3_000_000, 1_000_000)
    assert again.source == "trace.txt"


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(sum), st.integers(0, 50), st.floats(0, 5))
def test_recorded_arrivals_keep_their_intervals_and_order(intervals: list[int], window: int, span_s: float) -> None:
    again = window_arrivals(Intervals(tuple(intervals)), window, span_s)
    assert isinstance(again, Intervals)
    turned = intervals * 2
    assert any(again.intervals_ns == tuple(turned[i : i + len(intervals)]) for i in range(len(intervals)))
    assert all(a <= b for a, b in pairwise(islice(again.instants(), 30)))
