from __future__ import annotations

import math

import pytest

from pytest_gpuperf.measure.search_range import CONCURRENCIES, SearchRange


@pytest.mark.parametrize(("lowest", "highest"), [(0, 10), (-1, 10), (10, 5), (1, math.inf), (math.nan, 5), (1.5, 8)])
def test_nonsense_is_refused(lowest: float, highest: float) -> None:
    with pytest.raises(ValueError, match="got "):
        SearchRange(lowest, highest)


def test_rates_may_have_fractions() -> None:
    assert SearchRange(0.5, 2.25, open_loop=True).doubled(1.5) == 2.25


@pytest.mark.parametrize(
    ("left", "right", "middle"),
    [(1, 2, None), (1, 3, 2), (8, 16, 11), (2, 4, 3), (100, 105, None), (100, 106, 103), (4095, 4096, None)],
)
def test_between_concurrencies(left: float, right: float, middle: float | None) -> None:
    assert CONCURRENCIES.between(left, right, 0.05) == middle


def test_between_rates() -> None:
    rates = SearchRange(1, 1e6, open_loop=True)
    assert rates.between(100, 400, 0.05) == pytest.approx(200)
    assert rates.between(100, 105, 0.05) is None
