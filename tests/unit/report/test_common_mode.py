from __future__ import annotations

from dataclasses import replace

from pytest_gpuperf.model import CommonMode, Verdict
from pytest_gpuperf.report.common_mode import common_failure, common_note

MODE = CommonMode("p50", 1.06, 1.03, 1.09, 0.001, Verdict.REGRESSED, tests=50, invocations=12, min_detectable=0.02)


def test_a_common_regression_is_one_failure_that_names_its_figures_and_causes() -> None:
    text = common_failure([MODE, replace(MODE, metric="throughput", verdict=Verdict.UNCHANGED)])
    assert "p50 +6.0% [+3.0, +9.0] (95% intervals; 50 tests compared with 12 earlier invocations)" in text
    assert "driver" in text
    assert "throughput" not in text
    assert common_note([MODE]) == ""


def test_what_is_undecided_or_better_is_a_note_and_what_is_unchanged_is_nothing() -> None:
    assert common_note([replace(MODE, verdict=Verdict.INCONCLUSIVE)]).startswith(
        "all tests together: p50 +6.0% [+3.0, +9.0] inconclusive ("
    )
    assert common_failure([replace(MODE, verdict=Verdict.IMPROVED)]) == ""
    assert common_note([replace(MODE, verdict=Verdict.UNCHANGED)]) == common_note([]) == ""
