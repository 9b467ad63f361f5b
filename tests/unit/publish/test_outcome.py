from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.model import Change, Comparison, LoadPoint, NamedPoint, Record, Verdict
from pytest_gpuperf.model.codec import Mismatch
from pytest_gpuperf.publish.outcome import TestOutcome
from tests.unit.factories import record, records, row

COMPARISONS = st.builds(
    Comparison,
    verdict=st.sampled_from(list(Verdict)),
    rows=st.lists(
        st.builds(
            row,
            st.sampled_from(list(Verdict)),
            point=st.none() | st.just(LoadPoint(0, 8, 500.0, "poisson")) | st.just(NamedPoint("concurrency 4")),
            high=st.floats(1, math.inf),
            records_to_decide=st.none() | st.integers(0, 9),
        ),
        max_size=3,
    ).map(tuple),
    baseline=st.just(("a", "b")),
    changes=st.just((Change("environment", "driver", "570", None),)),
    differing=st.none() | st.just({"power_limit_w": (60, 72)}),
    mode=st.sampled_from(["stored", "duet"]),
)


@given(records(), COMPARISONS)
def test_what_a_worker_hands_over_arrives_as_it_was(one: Record, comparison: Comparison) -> None:
    carried = TestOutcome(one, comparison, "path", " --store x", "error", "t.py", 3)
    back = TestOutcome.of_text(carried.as_text())
    assert back == carried


def test_a_verdict_that_nobody_knows_is_named() -> None:
    text = TestOutcome(record(), Comparison(Verdict.UNCHANGED)).as_text().replace('"unchanged"', '"splendid"')
    with pytest.raises(Mismatch, match=r"carried.comparison.verdict should be one of regressed, .*, not 'splendid'"):
        TestOutcome.of_text(text)
