from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.measure.steady import SteadyRule

medians = st.lists(st.floats(1, 1e9), max_size=12)


@pytest.mark.parametrize(
    ("medians_ns", "steady"),
    [
        ([], False),
        ([100], False),
        ([100, 100], False),
        ([100, 100, 100], True),
        ([100, 110, 105], True),
        ([110, 100, 105], True),
        ([100, 111, 105], False),
        ([900, 300, 100], False),
        ([900, 300, 100, 101], False),
        ([900, 300, 100, 101, 102], True),
        ([100, 100, 100, 200], False),
        ([100, 100, 100, 200, 200], False),
        ([100, 100, 100, 200, 200, 200], True),
    ],
)
def test_warm_when_the_last_three_medians_agree_within_ten_percent(medians_ns: list[float], steady: bool) -> None:
    assert SteadyRule().is_steady(medians_ns) is steady


def test_slices_and_tolerance_may_be_others() -> None:
    assert not SteadyRule(slices=4).is_steady([100, 100, 100])
    assert SteadyRule(slices=4).is_steady([100, 100, 100, 100])
    assert SteadyRule(tolerance=0.5).is_steady([100, 150, 100])


@given(medians, st.floats(0.01, 100))
def test_the_unit_of_time_does_not_matter(medians_ns: list[float], scale: float) -> None:
    # Not at the very limit, where rounding decides.
    last = medians_ns[-3:]
    if len(last) == 3 and abs(max(last) / min(last) - 1.1) < 1e-6:
        return
    assert SteadyRule().is_steady(medians_ns) == SteadyRule().is_steady([median * scale for median in medians_ns])


@given(medians, medians)
def test_only_the_last_slices_count(earlier: list[float], last: list[float]) -> None:
    if len(last) >= 3:
        assert SteadyRule().is_steady(earlier + last) == SteadyRule().is_steady(last)


@given(st.floats(1, 1e9), st.lists(st.floats(0.96, 1.04), min_size=3, max_size=8))
def test_noise_of_four_percent_is_steady(median_ns: float, noise: list[float]) -> None:
    assert SteadyRule().is_steady([median_ns * factor for factor in noise])
