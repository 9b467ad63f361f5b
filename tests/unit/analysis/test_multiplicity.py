from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpuperf.analysis.multiplicity import families, hochberg, holm, reject

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        # The largest is small enough, so all are rejected: four metrics that tell the same story.
        ((0.04, 0.04, 0.04, 0.04), (True, True, True, True)),
        # 0.3 isn't, but 0.024 <= 0.05 / 2.
        ((0.024, 0.02, 0.3), (True, True, False)),
        ((0.3, 0.026, 0.2), (False, False, False)),
        ((0.012, 0.9, 0.9, 0.9), (True, False, False, False)),
    ],
)
def test_hochberg_rejects_in_steps(p_values: tuple[float, ...], expected: tuple[bool, ...]) -> None:
    assert hochberg(np.array(p_values), 0.05).tolist() == list(expected)


@given(P_VALUES)
def test_hochberg_rejects_all_that_holm_does(p_values: list[float]) -> None:
    down, up = holm(np.array(p_values), 0.05), hochberg(np.array(p_values), 0.05)
    assert not (down & ~up).any()


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=5))
def test_rows_of_an_array_are_decided_separately(table: list[list[float]]) -> None:
    for step in (holm, hochberg):
        whole = step(np.array(table), 0.05)
        assert whole.tolist() == [step(np.array(row), 0.05).tolist() for row in table]


@given(st.integers(0, 5), st.integers(1, 100), st.floats(1e-6, 0.2))
def test_families_spend_alpha_exactly(sweeps: int, points: int, alpha: float) -> None:
    split = families(sweeps, points, alpha)
    assert sum(family.alpha for family in split) == pytest.approx(alpha)
    assert sum(family.size for family in split) == sweeps + points


def test_without_any_series_there_is_nothing_to_split() -> None:
    assert families(0, 0, 0.05) == []


@pytest.mark.parametrize("shared", [False, True])
def test_the_families_keep_the_level(shared: bool) -> None:
    """Of uniform p-values, all independent or all the same."""
    rng = np.random.default_rng(3)
    p_values = rng.random((20_000, 1 if shared else 24)) * np.ones((20_000, 24))
    hits = reject(p_values, families(4, 20, 0.05)).any(axis=1).mean()
    assert hits <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 20_000)
