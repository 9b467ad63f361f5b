from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpuperf.analysis.robust import locate, location

NUMBERS = st.floats(-10, 10)


@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_up_to_four_values_are_the_plain_mean_and_variance(values: list[float]) -> None:
    result = locate(np.array(values))
    assert result.centre == pytest.approx(np.mean(values))
    assert result.variance == pytest.approx(np.var(values, ddof=1) if len(values) > 1 else 0.0)
    assert [float(result.freedom), float(result.count)] == [len(values) - 1, len(values)]


def test_five_values_match_a_calculation_by_hand() -> None:
    # Trimmed to 1, 2, 3; winsorised to 1, 1, 2, 3, 3, whose squares about 2 are 4.
    result = locate(np.array([3.0, 100.0, 1.0, 2.0, -50.0]))
    assert result.centre == pytest.approx(2.0)
    assert result.variance == pytest.approx(5 * 4 / (3 * 2) / 1.15)
    assert [float(result.freedom), float(result.count)] == [2, pytest.approx(4.4)]


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=5, max_size=12), st.floats(20, 1e6), st.booleans())
def test_the_size_of_an_outlier_among_five_makes_no_difference(values: list[float], wild: float, above: bool) -> None:
    way = 1 if above else -1
    one, other = (locate(np.array([*values[1:], way * far])) for far in (20.0, wild))
    assert float(one.centre) == pytest.approx(float(other.centre))
    assert float(one.variance) == pytest.approx(float(other.variance))


@settings(deadline=None)
@given(st.lists(st.lists(NUMBERS, max_size=9), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_padding_and_order_change_nothing(rows: list[list[float]], random: np.random.Generator) -> None:
    size = max(map(len, rows)) + 1
    table = np.full((len(rows), size), np.nan)
    for index, row in enumerate(rows):
        places = sorted(random.sample(range(size), len(row)))  # type: ignore[attr-defined]
        table[index, places] = row
    result = locate(table)
    for index, row in enumerate(rows):
        alone = locate(np.array(row)) if row else None
        assert result.count[index] == pytest.approx(len(row) - 0.6 * (len(row) // 5))
        if alone is None:
            assert np.isnan(result.centre[index])
            assert result.variance[index] == 0
        else:
            assert result.centre[index] == pytest.approx(alone.centre)
            assert result.variance[index] == pytest.approx(alone.variance)


@pytest.mark.parametrize("count", [3, 5, 6, 8, 10, 14, 20])
def test_estimates_of_normal_values_are_unbiased(count: int) -> None:
    result = locate(np.random.default_rng(1).standard_normal((100_000, count)))
    assert result.variance.mean() == pytest.approx(1.0, rel=0.03)
    assert (result.variance / result.count).mean() == pytest.approx(result.centre.var(), rel=0.03)


@given(st.lists(NUMBERS, min_size=1, max_size=2))
def test_the_location_of_one_or_two_values_is_their_mean(values: list[float]) -> None:
    assert location(values) == pytest.approx(np.mean(values))


def test_the_location_of_normal_values_spreads_little_more_than_their_mean() -> None:
    draws = np.random.default_rng(2).standard_normal((4000, 24))
    spread = np.std([location(row) for row in draws.tolist()])
    assert spread == pytest.approx(1.024 / 24**0.5, rel=0.05)
    wild = np.array(draws)
    wild[:, :5] += 50.0
    assert abs(np.median([location(row) for row in wild.tolist()])) < 0.6
