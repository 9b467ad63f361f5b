from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.measure.adaptive import AdaptivePlan, AdaptiveResult, adaptive
from pytest_gpuperf.measure.search_range import SearchRange
from tests.unit.measure.servers import Server, drive, queueing, saturating, staircase

TRIES = 100


def quiet(median_ms: Callable[[float], float], **kwargs: Any) -> Server:
    return Server(median_ms, np.random.default_rng(5), noise=0.01, **kwargs)


def result_of(server: Server, plan: AdaptivePlan) -> AdaptiveResult:
    return drive(adaptive(plan), server.measure)


def test_a_ladder_and_then_the_knee() -> None:
    server = quiet(saturating(5, 24))
    result = result_of(server, AdaptivePlan(points=12))
    order = list(dict.fromkeys(server.asked))
    assert order[:7] == [1, 2, 4, 8, 16, 32, 64]
    assert result.loads == tuple(sorted(order))
    assert len(result.loads) == 12
    assert result.saturated
    assert result.knee is not None
    assert 20 <= result.knee <= 29
    # What is placed after the ladder lies around the knee.
    assert sum(12 <= load <= 48 for load in order[8:]) >= len(order[8:]) - 1
    assert "no longer grows" in result.reason


@pytest.mark.parametrize("noise", [0.05, 0.1])
def test_the_knee_is_found_through_noise(noise: float) -> None:
    rng = np.random.default_rng(7)
    shares, windows, around = [], [], []
    for _ in range(TRIES):
        clients = float(rng.uniform(3, 60))
        server = Server(saturating(5, clients), rng, noise=noise)
        result = result_of(server, AdaptivePlan(points=12))
        assert result.knee is not None
        assert result.saturated
        shares.append(result.knee / clients)
        windows.append(result.windows)
        around.append(sum(clients / 2 <= load <= 2 * clients for load in result.loads))
    assert np.mean([1 / 1.6 <= share <= 1.6 for share in shares]) >= 0.95
    assert 0.9 <= np.median(shares) <= 1.1
    # A ladder alone has two points within a factor of two.
    assert np.mean(around) >= 4
    assert np.mean(windows) <= 12 * 3 + 11


def test_an_open_loop_has_its_knee_at_half_of_a_single_servers_capacity() -> None:
    plan = AdaptivePlan(points=14, loads=SearchRange(10, 1e4, open_loop=True))
    result = result_of(quiet(queueing(5, 1), open_loop=True, capacity=200), plan)
    assert result.knee is not None
    # Kleinrock: one request in the system on average. The optimum is flat.
    assert 75 <= result.knee <= 130
    assert max(result.loads) <= 640


def test_a_staircase_has_its_knee_at_the_first_full_batch() -> None:
    result = result_of(quiet(staircase(5, 12)), AdaptivePlan(points=14))
    assert result.knee in (11, 12)


def test_a_latency_that_explodes_ends_the_ladder() -> None:
    # Throughput goes on growing, slowly.
    server = quiet(lambda load: 5.0 * load**0.7)
    result = result_of(server, AdaptivePlan(points=14, explosion=10))
    assert result.saturated
    assert "latency is more than 10 times" in result.reason
    assert max(server.asked) == 32


def test_a_server_that_breaks_ends_the_ladder_and_is_no_knee() -> None:
    result = result_of(quiet(saturating(5, 1000), failing=40), AdaptivePlan(points=12))
    assert result.saturated
    assert result.reason == "requests fail at 64"
    assert {point.load for point in result.points if point.broken} == {load for load in result.loads if load > 40}
    assert result.knee is not None
    assert result.knee <= 40


@pytest.mark.parametrize("requests", [0, 60])
def test_a_server_that_never_works(requests: int) -> None:
    result = result_of(quiet(saturating(5, 4), failing=0.5, requests=requests), AdaptivePlan(points=6))
    assert result.knee is None
    assert not result.saturated
    assert result.reason.startswith("requests fail at the lowest load, 1")


def test_points_that_run_out_are_said() -> None:
    result = result_of(quiet(saturating(5, 1000)), AdaptivePlan(points=5))
    assert result.loads == (1, 2, 4, 8, 16)
    assert not result.saturated
    assert "allow more" in result.reason


def test_the_highest_load_ends_the_ladder_and_the_rest_is_spread() -> None:
    result = result_of(quiet(saturating(5, 1000)), AdaptivePlan(points=12, loads=SearchRange(1, 32)))
    assert not result.saturated
    assert len(result.loads) == 12
    assert max(result.loads) == 32
    gaps = [right / left for left, right in itertools.pairwise(result.loads)]
    assert max(gaps) <= 2


def test_fewer_points_when_there_are_no_more_to_tell_apart() -> None:
    result = result_of(quiet(saturating(5, 2)), AdaptivePlan(points=12, loads=SearchRange(1, 4)))
    assert result.loads == (1, 2, 3, 4)
    assert "only 4 distinct points" in result.reason


def test_windows_are_spent_where_growth_is_in_doubt() -> None:
    # From 8 to 16, throughput grows by just the share that counts.
    server = Server(lambda load: 5.0 if load <= 8 else 5.0 * load / 8 / 1.1, np.random.default_rng(1), noise=0.1)
    result_of(server, AdaptivePlan(points=6, visits=3, extra_visits=5))
    windows = Counter(server.asked)
    assert windows[8] == windows[16] == 8
    assert windows[1] == 3


def test_points_are_the_same_in_every_record() -> None:
    curves = [result_of(Server(saturating(5, 24), np.random.default_rng(seed)), AdaptivePlan()) for seed in range(20)]
    seen = {load for curve in curves for load in curve.loads}
    # 1 to 128 in whole numbers would allow 128; halving the same gaps leaves a few.
    assert len(seen) <= 40


@pytest.mark.parametrize("settings", [{"points": 3}, {"visits": 0}, {"loads": SearchRange(4, 4)}, {"extra_visits": -1}])
def test_nonsense_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"adaptive sweep|visit"):
        AdaptivePlan(**settings)  # type: ignore[arg-type]


def test_power_is_throughput_over_mean_latency() -> None:
    result = result_of(quiet(lambda _: 5.0), AdaptivePlan(points=4))
    for point in result.points:
        assert math.isclose(point.power, point.load / 0.005 / 0.005, rel_tol=0.1)
