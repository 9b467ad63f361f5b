from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpuperf.analysis import quantiles
from pytest_gpuperf.analysis.quantiles import quantile_logs
from pytest_gpuperf.model import Histogram, merge_histograms

HISTOGRAMS = st.dictionaries(st.integers(0, 4000), st.integers(1, 60), max_size=8).map(
    lambda result: Histogram(tuple(sorted(result)), tuple(result[key] for key in sorted(result)))
)
ASKED = (0.5, 0.9, 0.95, 0.99)


@settings(deadline=None)
@given(st.lists(st.lists(HISTOGRAMS, max_size=3), min_size=1, max_size=6), st.sampled_from([1, 5000, 1 << 19]))
def test_quantiles_equal_those_of_the_merged_histograms(groups: list[list[Histogram]], cells: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantiles, "_CELLS", cells)
        table = quantile_logs(groups, ASKED)
    for group, row in zip(groups, table.tolist(), strict=True):
        whole = merge_histograms(group)
        for asked, result in zip(ASKED, row, strict=True):
            if whole.supports(asked):
                assert result == pytest.approx(math.log(max(whole.quantile_ns(asked), 1e-300)), abs=1e-9)
            else:
                assert math.isnan(result)


def test_groups_without_latencies_have_no_quantile() -> None:
    assert np.isnan(quantile_logs([[], [Histogram()]], ASKED)).all()
