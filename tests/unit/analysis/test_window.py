from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.analysis import window as window_module
from pytest_gpuperf.analysis.window import LATE_NS, WindowFigures, endpoint_figures, window_figures
from tests.unit.factories import histogram

Times = npt.NDArray[np.int64]

LANES = 4
#: Service times are Pareto: 1 ms at least, 5/3 ms on average, and one in a thousand longer than 15 ms.
TAIL = 2.5
MEAN_MS = TAIL / (TAIL - 1)
WINDOW_NS = 20_000_000
#: Windows lie apart from each other, so that requests lost at one edge don't turn up at the next.
STARTS_NS = range(200_000_000, 75_000_000_000, 50_000_000)
#: What is called unbiased stays within so many standard errors, and what is called biased is twice as far out.
UNBIASED, BIASED = 4.0, 8.0


def times(*pairs: tuple[int, int]) -> tuple[Times, Times]:
    return np.array([sent for sent, _ in pairs], np.int64), np.array([done for _, done in pairs], np.int64)


def closed(sent: Times, done: Times, start_ns: int, stop_ns: int, batch_size: int) -> WindowFigures:
    """The figures of a closed loop, where a request is due when it is sent."""
    return window_figures([(sent, sent, done)], start_ns, stop_ns, batch_size)


def test_requests_inside_the_window_count_fully() -> None:
    sent, done = times((0, 10), (10, 20), (20, 30))
    seen = closed(sent, done, 0, 30, batch_size=1)
    assert (seen.requests, seen.latency_mean_ns) == (3, 10.0)
    assert seen.throughput == pytest.approx(3 / 30e-9)


def test_a_request_across_the_whole_window_counts_by_its_share_and_has_no_latency_there() -> None:
    sent, done = times((-50, 150))
    seen = closed(sent, done, 0, 100, batch_size=1)
    assert (seen.requests, seen.latency_mean_ns, seen.latency.total) == (0, 0.0, 0)
    assert seen.throughput == pytest.approx(0.5 / 100e-9)


def test_a_request_sent_inside_is_followed_to_its_end() -> None:
    sent, done = times((90, 390))
    seen = closed(sent, done, 0, 100, batch_size=1)
    assert (seen.requests, seen.latency_mean_ns) == (1, 300.0)
    assert seen.throughput == pytest.approx((10 / 300) / 100e-9)


def test_a_request_sent_before_adds_to_throughput_alone() -> None:
    sent, done = times((-30, 10))
    seen = closed(sent, done, 0, 100, batch_size=1)
    assert seen.requests == 0
    assert seen.throughput == pytest.approx(0.25 / 100e-9)


def test_the_window_holds_its_start_and_not_its_stop() -> None:
    sent, done = times((0, 7), (100, 107))
    assert closed(sent, done, 0, 100, batch_size=1).requests == 1


def test_requests_outside_count_nowhere() -> None:
    sent, done = times((-20, -10), (-10, 0), (100, 110), (200, 300))
    seen = closed(sent, done, 0, 100, batch_size=1)
    assert (seen.requests, seen.throughput) == (0, 0.0)


def test_a_window_without_requests_has_zero_figures() -> None:
    sent, done = times()
    seen = closed(sent, done, 0, 100, batch_size=8)
    assert (seen.requests, seen.throughput, seen.latency_mean_ns, seen.latency.total) == (0, 0.0, 0.0, 0)


def test_throughput_is_in_inferences_and_latency_in_requests() -> None:
    sent, done = times((0, 50), (50, 100))
    one, eight = (closed(sent, done, 0, 100, batch_size=size) for size in (1, 8))
    assert eight.throughput == pytest.approx(8 * one.throughput)
    assert (eight.requests, eight.latency_mean_ns) == (one.requests, one.latency_mean_ns)


class TestOpenLoop:
    """A request is due before it is sent."""

    @staticmethod
    def lane(*rows: tuple[int, int, int]) -> tuple[Times, Times, Times]:
        due, sent, done = (np.array(column, np.int64) for column in zip(*rows, strict=True))
        return due, sent, done

    def test_latency_runs_from_due_and_service_from_sent(self) -> None:
        seen = window_figures([self.lane((0, 5, 20), (10, 40, 50))], 0, 100, 1)
        assert seen.latency == histogram([20, 40])
        assert seen.service == histogram([15, 10])
        assert seen.latency_mean_ns == 30.0

    def test_a_request_belongs_to_the_window_in_which_it_was_due(self) -> None:
        early, late = (-1, 10, 20), (99, 150, 160)
        seen = window_figures([self.lane(early, late)], 0, 100, 1)
        assert (seen.requests, seen.latency_mean_ns) == (1, 61.0)
        assert seen.service == histogram([10])

    def test_the_wait_is_part_of_its_share(self) -> None:
        seen = window_figures([self.lane((0, 150, 200))], 0, 100, 1)
        assert seen.throughput == pytest.approx(0.5 / 100e-9)

    def test_late_is_more_than_a_millisecond(self) -> None:
        rows = [(at, at + lag, at + 10**7) for at, lag in ((0, 0), (1, LATE_NS), (2, LATE_NS + 1), (3, 10**8))]
        assert window_figures([self.lane(*rows)], 0, 10, 1).late == 2

    def test_the_99th_of_a_hundred_lags(self) -> None:
        rows = [(at, at + 1000 * at, at + 10**9) for at in range(1, 1001)]
        assert window_figures([self.lane(*rows)], 0, 2000, 1).lag_p99_ns == pytest.approx(990_000, rel=0.006)

    def test_outside_the_window_nothing_is_late(self) -> None:
        seen = window_figures([self.lane((-5, 10**7, 10**8), (200, 10**7, 10**8))], 0, 100, 1)
        assert (seen.late, seen.lag_p99_ns, seen.service.total) == (0, 0.0, 0)

    def test_closed_loop_has_no_service_time_of_its_own(self) -> None:
        sent, done = times((0, 50), (50, 100))
        seen = closed(sent, done, 0, 100, 1)
        assert (seen.service.total, seen.late, seen.lag_p99_ns) == (0, 0, 0.0)

    def test_the_lanes_of_several_workers_are_one_window(self) -> None:
        rows = [(at, at + at % 7, at + 20 + at % 50) for at in range(-50, 200)]
        lanes = [self.lane(*rows[index::3]) for index in range(3)]
        apart, together = window_figures(lanes, 0, 100, 4), window_figures([self.lane(*rows)], 0, 100, 4)
        assert apart.throughput == pytest.approx(together.throughput)
        assert replace(apart, throughput=0.0) == replace(together, throughput=0.0)

    def test_plain_buffers_do_as_well(self) -> None:
        due, sent, done = (memoryview(array("q", column)) for column in ([0, 10], [5, 40], [20, 50]))
        assert window_figures([(due, sent, done)], 0, 100, 1) == window_figures(
            [self.lane((0, 5, 20), (10, 40, 50))], 0, 100, 1
        )
        empty = memoryview(b"").cast("q")
        assert window_figures([(empty, empty, empty)], 0, 100, 1).requests == 0

    def test_slices_make_no_difference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [(at, at + at % 7, at + 20 + at % 50) for at in range(-50, 200)]
        whole = window_figures([self.lane(*rows)], 0, 100, 4)
        monkeypatch.setattr(window_module, "_SLICE", 7)
        sliced = window_figures([self.lane(*rows)], 0, 100, 4)
        assert sliced.throughput == pytest.approx(whole.throughput)
        assert replace(sliced, throughput=0.0) == replace(whole, throughput=0.0)


class TestEndpoints:
    def test_endpoints_have_separate_requests_and_errors(self) -> None:
        due, done = times((0, 10), (10, 40), (20, 30), (90, 190))
        one, other, idle = endpoint_figures(
            [(due, done, np.array([0, 1, 0, 1]))], ["a", "b", "c"], [0, 2, 5], (0, 100), 8
        )
        assert (one.address, one.requests, one.errors) == ("a", 2, 0)
        assert (other.address, other.requests, other.errors) == ("b", 2, 2)
        assert other.p90_ns > other.p50_ns >= 30 * 0.995
        assert (idle.requests, idle.errors, idle.throughput, idle.p50_ns, idle.p90_ns) == (0, 5, 0.0, 0.0, 0.0)

    @given(st.lists(st.tuples(st.integers(-500, 1500), st.integers(1, 900), st.integers(0, 2)), max_size=40))
    def test_endpoints_add_up_to_the_window(self, rows: list[tuple[int, int, int]]) -> None:
        due = np.array([at for at, _, _ in rows], np.int64)
        done = due + np.array([life for _, life, _ in rows], np.int64)
        address = np.array([number for _, _, number in rows], np.int64)
        parts = endpoint_figures([(due, done, address)], ["a", "b", "c"], [0, 0, 0], (0, 1000), 2)
        whole = closed(due, done, 0, 1000, 2)
        assert sum(part.requests for part in parts) == whole.requests
        assert sum(part.throughput for part in parts) == pytest.approx(whole.throughput)


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 20_000)), max_size=30),
    st.lists(st.integers(1, 29_999), max_size=8, unique=True),
)
def test_adjacent_windows_count_every_request_once(lives: list[tuple[int, int]], cuts: list[int]) -> None:
    sent, done = times(*((start, start + life) for start, life in lives))
    edges = [0, *sorted(cuts), 30_000]
    seen = [closed(sent, done, left, right, 1) for left, right in pairwise(edges)]
    lengths_s = [(right - left) / 1e9 for left, right in pairwise(edges)]
    assert sum(one.requests for one in seen) == len(lives)
    shares = sum(one.throughput * length_s for one, length_s in zip(seen, lengths_s, strict=True))
    assert shares == pytest.approx(len(lives), abs=1e-6)


@given(st.lists(st.integers(1, 10**11), max_size=60))
def test_arrays_and_single_latencies_fall_into_the_same_buckets(sample: list[int]) -> None:
    sent, done = np.zeros(len(sample), np.int64), np.array(sample, np.int64)
    fast, plain = closed(sent, done, 0, 1, 1).latency, histogram(sample)
    assert fast.total == plain.total
    for q in (0.0, 0.5, 0.9, 1.0) if sample else ():
        # One unit in the last place of a logarithm may decide for the neighbouring bucket.
        assert fast.quantile_ns(q) == pytest.approx(plain.quantile_ns(q), rel=0.0051)


# The rule under heavy tails


@dataclass(frozen=True)
class Edge:
    """Requests, their summed latency in ms, and the rate per ms that one way of counting gives to one window."""

    requests: int
    latency_ms: float
    rate: float


def closed_loop(rng: np.random.Generator, length_ms: float) -> tuple[Times, Times]:
    """Each of four lanes sends as soon as it is answered, until the last request is sent after ``length_ms``."""
    count = int(length_ms * 2 + 200)
    life_ns = np.rint((1 + rng.pareto(TAIL, (LANES, count))) * 1e6).astype(np.int64)
    done = np.cumsum(life_ns, axis=1)
    assert done[:, -1].min() > length_ms * 1e6
    return (done - life_ns).ravel(), done.ravel()


def by_the_rule(sent: Times, done: Times, start: int, stop: int) -> Edge:
    overlap = (done > start) & (sent < stop)
    seen = closed(sent[overlap], done[overlap], start, stop, batch_size=1)
    return Edge(seen.requests, seen.requests * seen.latency_mean_ns / 1e6, seen.throughput / 1e3)


def by_the_end(sent: Times, done: Times, start: int, stop: int) -> Edge:
    return _counted((done >= start) & (done < stop), sent, done, start, stop)


def by_both_ends(sent: Times, done: Times, start: int, stop: int) -> Edge:
    return _counted((sent >= start) & (done < stop), sent, done, start, stop)


def _counted(own: npt.NDArray[np.bool_], sent: Times, done: Times, start: int, stop: int) -> Edge:
    return Edge(int(own.sum()), float((done - sent)[own].sum()) / 1e6, int(own.sum()) / ((stop - start) / 1e6))


def latency_bias(windows: list[Edge]) -> float:
    """Standard errors between the mean over the requests of all windows and the true mean."""
    requests = np.array([one.requests for one in windows])
    total_ms = np.array([one.latency_ms for one in windows])
    mean_ms = total_ms.sum() / requests.sum()
    error = np.std(total_ms - mean_ms * requests, ddof=1) / requests.mean() / math.sqrt(len(windows))
    return float((mean_ms - MEAN_MS) / error)


def rate_bias(windows: list[Edge]) -> float:
    rates = np.array([one.rate for one in windows])
    return float((rates.mean() - LANES / MEAN_MS) / (np.std(rates, ddof=1) / math.sqrt(len(windows))))


@pytest.fixture(scope="module")
def steady() -> tuple[Times, Times]:
    """A load that goes on before and after every one of ``STARTS_NS``."""
    return closed_loop(np.random.default_rng(20260101), STARTS_NS[-1] / 1e6 + 200)


def test_latency_and_throughput_are_unbiased_under_a_steady_load(steady: tuple[Times, Times]) -> None:
    windows = [by_the_rule(*steady, start, start + WINDOW_NS) for start in STARTS_NS]
    assert abs(latency_bias(windows)) < UNBIASED
    assert abs(rate_bias(windows)) < UNBIASED


def test_whole_requests_alone_would_favour_the_fast(steady: tuple[Times, Times]) -> None:
    windows = [by_both_ends(*steady, start, start + WINDOW_NS) for start in STARTS_NS]
    assert latency_bias(windows) < -BIASED
    assert rate_bias(windows) < -BIASED


def test_latency_stays_unbiased_where_the_load_begins_with_the_window_and_the_end_would_not() -> None:
    rng = np.random.default_rng(20260102)
    loads = [closed_loop(rng, WINDOW_NS / 1e6) for _ in range(1500)]
    assert abs(latency_bias([by_the_rule(sent, done, 0, WINDOW_NS) for sent, done in loads])) < UNBIASED
    assert latency_bias([by_the_end(sent, done, 0, WINDOW_NS) for sent, done in loads]) < -BIASED


def test_a_window_of_few_slow_requests_does_not_jump_by_whole_ones() -> None:
    rng = np.random.default_rng(20260103)
    life_ns = rng.integers(9_000_000, 11_000_000, 4000)
    done = np.cumsum(life_ns)
    sent = done - life_ns
    starts = range(100_000_000, 35_000_000_000, 70_000_000)
    shares = [by_the_rule(sent, done, start, start + 25_000_000).rate for start in starts]
    ends = [by_the_end(sent, done, start, start + 25_000_000).rate for start in starts]
    assert np.mean(shares) == pytest.approx(0.1, rel=0.01)
    assert np.std(shares) < np.std(ends) / 3
