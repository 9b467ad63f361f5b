from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.measure.ask import Ask
from pytest_gpuperf.measure.search import SearchPlan, SearchResult, search
from pytest_gpuperf.measure.search_range import CONCURRENCIES, SearchRange
from pytest_gpuperf.model import Budget
from tests.unit.measure.servers import P90_SHAPE, Server, drive, highest, queueing, saturating, staircase

SERVICE_MS = 5.0


@dataclass(frozen=True)
class Case:
    """A server and a budget for it."""

    median_ms: Callable[[float], float]
    limit_ms: float
    loads: SearchRange
    capacity: float = math.inf

    @property
    def budget(self) -> Budget:
        return Budget.of_ms(p90_ms=self.limit_ms)

    def truth(self, slowdown: float = 1.0) -> float:
        """The right answer on a machine that has become slower by this factor."""
        if self.loads.open_loop:
            loads = np.geomspace(1, self.capacity, 5000).tolist()
        else:
            loads = [float(load) for load in range(1, 400)]
        return highest(self.median_ms, self.limit_ms / slowdown, loads)


def closed(rng: np.random.Generator) -> Case:
    curve = saturating(SERVICE_MS, float(rng.uniform(2, 60)))
    return Case(curve, float(rng.uniform(1.5, 6)) * SERVICE_MS * P90_SHAPE, CONCURRENCIES)


def opened(rng: np.random.Generator) -> Case:
    servers = int(rng.integers(1, 9))
    limit_ms = float(rng.uniform(1.5, 6)) * SERVICE_MS * P90_SHAPE
    loads = SearchRange(10, 10_000, open_loop=True)
    return Case(queueing(SERVICE_MS, servers), limit_ms, loads, servers * 1e3 / SERVICE_MS)


def batched(rng: np.random.Generator) -> Case:
    curve = staircase(SERVICE_MS, int(rng.integers(4, 17)))
    return Case(curve, (int(rng.integers(1, 7)) + 0.5) * SERVICE_MS * P90_SHAPE, CONCURRENCIES)


def by_single_values(case: Case, server: Server) -> float | None:
    """The same doubling and bisection, every load judged by one window."""

    def within(load: float) -> bool:
        (window,) = server.measure(Ask(load, 1))
        return window.latency.quantile_ns(0.9) <= case.limit_ms * 1e6

    low, high = None, case.loads.lowest
    while within(high):
        low, high = high, 2 * high
    while low is not None and (middle := case.loads.between(low, high, 0.05)) is not None:
        low, high = (middle, high) if within(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Outcome:
    """Many searches: answers as shares of the truth, and what they took."""

    shares: list[float]
    windows: list[int]
    confirmed: int

    @property
    def close(self) -> float:
        return float(np.mean([abs(share - 1) <= 0.1 for share in self.shares]))

    @property
    def too_high(self) -> float:
        return float(np.mean([share > 1.1 for share in self.shares]))


@cache
def outcome(
    make: Callable[[np.random.Generator], Case],
    *,
    noise: float = 0.1,
    hiccups: float = 0.0,
    drift: float = 0.0,
    naive: bool = False,
    tries: int = 200,
) -> Outcome:
    rng = np.random.default_rng(20)
    shares, windows, confirmed = [], [], 0
    for _ in range(tries):
        case = make(rng)
        server = Server(
            case.median_ms,
            np.random.default_rng(int(rng.integers(2**32))),
            noise=noise,
            hiccups=hiccups,
            drift=drift,
            open_loop=case.loads.open_loop,
            capacity=case.capacity,
        )
        if naive:
            answer = by_single_values(case, server)
        else:
            result = drive(search(SearchPlan(case.budget, case.loads)), server.measure)
            answer = result.answer
            confirmed += result.confirmed
            assert result.windows == len(server.asked)
        shares.append((answer or 0.0) / case.truth(math.exp(drift * len(server.asked) / 100)))
        windows.append(len(server.asked))
    return Outcome(shares, windows, confirmed)


@pytest.mark.parametrize(("make", "economy"), [(closed, 65), (opened, 45), (batched, 45)])
def test_finds_the_capacity_through_noise(make: Callable[[np.random.Generator], Case], economy: int) -> None:
    result = outcome(make)
    assert result.close >= 0.95
    assert result.too_high <= 0.01
    assert np.mean(result.windows) <= economy
    assert np.quantile(result.windows, 0.95) <= 1.7 * economy
    assert result.confirmed >= 190


@pytest.mark.parametrize("make", [closed, batched])
def test_single_values_would_not_find_it(make: Callable[[np.random.Generator], Case]) -> None:
    naive = outcome(make, naive=True)
    assert naive.close <= 0.90
    assert naive.too_high >= 0.05


def test_a_quiet_machine_takes_fewer_windows() -> None:
    quiet, noisy = outcome(batched, noise=0.02, tries=60), outcome(batched, noise=0.2, tries=60)
    assert quiet.close >= 0.99
    assert np.mean(quiet.windows) <= 32 < np.mean(noisy.windows)
    # On a very noisy one, the answer errs on the safe side.
    assert noisy.too_high <= 0.01


def test_hiccups_do_not_send_it_to_the_wrong_half() -> None:
    result, naive = outcome(opened, hiccups=0.05, tries=100), outcome(opened, hiccups=0.05, naive=True)
    assert min(result.shares) > 0.7
    assert result.close >= 0.95
    # One of twenty single values ends the search at an arbitrary load.
    assert np.quantile(naive.shares, 0.1) < 0.8


def test_it_answers_for_the_machine_as_it_is_at_the_end() -> None:
    result, naive = outcome(closed, drift=0.2, tries=60), outcome(closed, drift=0.2, naive=True)
    assert result.close >= 0.95
    assert result.close > naive.close


def result_of(server: Server, plan: SearchPlan) -> SearchResult:
    return drive(search(plan), server.measure)


def quiet(median_ms: Callable[[float], float], **kwargs: Any) -> Server:
    return Server(median_ms, np.random.default_rng(5), noise=0.01, **kwargs)


def test_what_it_reports() -> None:
    server = quiet(staircase(5, 8))
    result = result_of(server, SearchPlan(Budget.of_ms(p90_ms=22)))
    assert result.answer == 24
    assert result.confirmed
    loads = [judged.load for judged in result.judged]
    assert loads == sorted(set(server.asked))
    verdicts = {judged.load: judged.verdict for judged in result.judged}
    assert (verdicts[24], verdicts[25]) == ("within", "over")
    assert all(judged.windows >= 2 for judged in result.judged)
    assert result.reason.startswith("24 keeps p90 <= 22 ms (p90 ")
    assert "25, does not" in result.reason


def test_the_answer_and_its_neighbour_are_confirmed_alternately() -> None:
    server = quiet(staircase(5, 8))
    result_of(server, SearchPlan(Budget.of_ms(p90_ms=22)))
    assert sorted(server.asked[-6:]) == [24, 24, 24, 25, 25, 25]
    assert server.asked[-6:] not in ([24] * 3 + [25] * 3, [25] * 3 + [24] * 3)


def test_a_server_that_breaks_is_not_pressed_further() -> None:
    server = quiet(saturating(5, 1000), failing=40)
    result = result_of(server, SearchPlan(Budget.of_ms(p90_ms=50)))
    assert result.answer is not None
    assert 38 <= result.answer <= 40
    assert max(server.asked) == 64
    assert "requests failed" in result.reason


def test_an_open_loop_is_not_driven_far_over_its_capacity() -> None:
    server = quiet(lambda _: 5.0, open_loop=True, capacity=900)
    # The budget is so wide that only the throughput shows it.
    result = result_of(server, SearchPlan(Budget.of_ms(p90_ms=1e4), SearchRange(10, 1e5, open_loop=True)))
    assert result.answer is not None
    assert 850 <= result.answer <= 900 / 0.95 * 1.01
    assert max(server.asked) == 1280
    assert "of the offered rate was answered" in result.reason


def test_none_when_even_the_lowest_load_is_over() -> None:
    result = result_of(quiet(saturating(80, 4)), SearchPlan(Budget.of_ms(p90_ms=50)))
    assert result.answer is None
    assert result.confirmed
    assert result.reason.startswith("the lowest load, 1, is not within p90 <= 50 ms: p90 ")


def test_the_highest_load_allowed() -> None:
    server = quiet(saturating(5, 1000))
    result = result_of(server, SearchPlan(Budget.of_ms(p90_ms=50), SearchRange(1, 100)))
    assert (result.answer, max(server.asked)) == (100, 100)
    assert "raise it" in result.reason


def test_a_single_load_may_be_all_that_is_allowed() -> None:
    plan = SearchPlan(Budget.of_ms(p90_ms=50), SearchRange(8, 8))
    assert result_of(quiet(saturating(5, 4)), plan).answer == 8
    assert result_of(quiet(saturating(50, 4)), plan).answer is None


def test_it_looks_beyond_a_bump_at_low_load() -> None:
    def waits_for_a_batch(load: float) -> float:
        return 40.0 if load < 4 else 5.0 * math.ceil(load / 8)

    result = result_of(quiet(waits_for_a_batch), SearchPlan(Budget.of_ms(p90_ms=33), SearchRange(2, 4096)))
    assert result.answer == 40


def test_a_neighbour_that_turns_out_to_be_within_moves_the_answer_up() -> None:
    calls = 0

    def slow_at_first(load: float) -> float:
        # Disturbed whenever the first doubling reaches 16, and calm later on.
        nonlocal calls
        calls += load >= 16
        return 500.0 if load >= 16 and calls <= 4 else 5.0 * math.ceil(load / 20)

    result = result_of(quiet(slow_at_first), SearchPlan(Budget.of_ms(p90_ms=20)))
    assert result.answer in (58, 59, 60)
    assert result.confirmed


def test_a_budget_of_windows_is_kept() -> None:
    server = Server(lambda _: 50 / P90_SHAPE, np.random.default_rng(3), noise=0.2)
    result = result_of(server, SearchPlan(Budget.of_ms(p90_ms=50), limit_windows=30))
    assert result.windows <= 31
    assert not result.confirmed
    assert "not confirmed" in result.reason


def test_too_few_requests_for_the_quantile_are_said() -> None:
    server = quiet(saturating(5, 4), requests=10)
    result = result_of(server, SearchPlan(Budget.of_ms(p99_ms=50)))
    assert result.answer is None
    assert "requests are too few" in result.reason


@pytest.mark.parametrize("settings", [{"tolerance": 0.0}, {"most_windows": 1}, {"final_windows": 4}])
def test_nonsense_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"tolerance must be|must hold"):
        SearchPlan(Budget.of_ms(p90_ms=50), **settings)  # type: ignore[arg-type]
