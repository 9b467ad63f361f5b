from __future__ import annotations

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.session.marker import Marker, marker_of


def marker(pytester: pytest.Pytester, arguments: str, outer: str = "") -> Marker:
    decorator = f"@pytest.mark.gpuperf({outer})\n" if outer else ""
    source = (
        f"import pytest\n{decorator}class TestIt:\n    @pytest.mark.gpuperf({arguments})\n    def test_it(self): pass"
    )
    return marker_of(pytester.getitem(source, "test_it"))


def test_without_arguments_nothing_is_said(pytester: pytest.Pytester) -> None:
    assert marker(pytester, "") == Marker()


@pytest.mark.parametrize(
    ("written", "metrics"),
    [("['p50', 'p99']", {"p50", "p99"}), ("'energy'", {"energy"}), ("('memory', 'p95')", {"memory", "p95"})],
)
def test_which_metrics_gate(pytester: pytest.Pytester, written: str, metrics: set[str]) -> None:
    assert marker(pytester, f"metrics={written}").metrics == frozenset(metrics)


def test_the_closest_marker_wins(pytester: pytest.Pytester) -> None:
    found = marker(pytester, "metrics='p50'", outer="metrics='p99', runs=5")
    assert (found.metrics, found.runs) == (frozenset({"p50"}), 5)


@pytest.mark.parametrize("written", ["[]", "'p75'", "['p50', 'mean']", "5", "['p50', 5]", "True", "[['p50']]"])
def test_what_is_no_metric(pytester: pytest.Pytester, written: str) -> None:
    with pytest.raises(OptionError, match="write one or more of p50, p90, p95, p99, throughput, energy, memory"):
        marker(pytester, f"metrics={written}")


@pytest.mark.parametrize(
    ("inner", "outer", "gated"),
    [("", "", True), ("", "benchmark=False", False), ("benchmark=True", "benchmark=False", True)],
)
def test_benchmarks_are_gated_unless_a_marker_says_otherwise(
    pytester: pytest.Pytester, inner: str, outer: str, gated: bool
) -> None:
    assert marker(pytester, inner, outer).benchmark is gated


def test_whether_benchmarks_are_gated_is_true_or_false(pytester: pytest.Pytester) -> None:
    with pytest.raises(OptionError, match=r"benchmark='no'\): write True or False"):
        marker(pytester, "benchmark='no'")
