from __future__ import annotations

import pytest

from pytest_gpuperf.model import PointFigures
from pytest_gpuperf.model.level import INTERRUPTED, STABLE, UNSTABLE, MeasuredLevel
from tests.unit.factories import window


@pytest.mark.parametrize(
    ("state", "within", "mark"),
    [
        (STABLE, True, ""),
        (STABLE, False, "over the latency threshold"),
        (UNSTABLE, True, "unstable"),
        (UNSTABLE, False, "unstable, over the latency threshold"),
        (UNSTABLE, None, "unstable, perhaps over the latency threshold"),
        (INTERRUPTED, True, "interrupted"),
    ],
)
def test_a_mark_warns_of_unstable_or_slow_levels(state: str, within: bool | None, mark: str) -> None:
    assert MeasuredLevel(PointFigures((window(),)), 3, state, within).mark == mark
