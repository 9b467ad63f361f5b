"""All tests of an invocation judged together: what must hold whatever the records are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf import ValueComparison, ValueRecord, compare_suite, record_from_values
from pytest_gpuperf.analysis.priors import Prior
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.comparison import TestValues, compare_suite_values
from pytest_gpuperf.model import Verdict

Baselines = dict[str, list[ValueRecord]]
Candidates = dict[str, ValueRecord]


def suite(
    seed: int,
    *,
    tests: int = 6,
    records: int = 6,
    sd: float = 0.005,
    together: float = 0.01,
    slower: Mapping[int, float] | None = None,
    figures: Callable[[float], dict[str, float]] = lambda value: {"p50_ns": 1e6 * math.exp(value)},
    devices: Sequence[str] = ("A",),
) -> tuple[Baselines, Candidates]:
    """Return records of tests that move together from invocation to invocation; a test is always on one device.

    Args:
        slower: Logs by which tests are slower now.
    """
    generator = np.random.default_rng(seed)
    moved = generator.normal(0, together, records + 1)
    baselines: Baselines = {}
    candidates: Candidates = {}
    for test in range(tests):
        made = []
        for place in range(records + 1):
            value = test + moved[place] + generator.normal(0, sd) + ((slower or {}).get(test, 0.0) if not place else 0)
            starts = [
                {f"concurrency {point}": figures(value + generator.normal(0, sd)) for point in (1, 2)} for _ in range(3)
            ]
            device = devices[test % len(devices)]
            made.append(record_from_values(f"t{test}", starts, device=device, invocation=f"i{place}"))
        candidates[f"t{test}"], *baselines[f"t{test}"] = made
    return baselines, candidates


def judged(seed: int, **kwargs: Any) -> dict[str, ValueComparison]:
    return compare_suite(*suite(seed, **kwargs))


def figures_of(comparisons: Mapping[str, ValueComparison], sign: int = 1) -> dict[str, list[Any]]:
    return {
        name: [each.verdict, *(pytest.approx((sign * math.log(row.ratio), row.p_value), abs=1e-9) for row in each.rows)]
        for name, each in comparisons.items()
    }


def plain(comparisons: Mapping[str, ValueComparison]) -> dict[str, list[Any]]:
    return {
        name: [each.verdict, *((math.log(row.ratio), row.p_value) for row in each.rows)]
        for name, each in comparisons.items()
    }


@pytest.mark.parametrize("tests", [3, 6])
def test_order_units_and_direction_of_metrics_change_nothing(tests: int) -> None:
    baselines, candidates = suite(1, tests=tests, slower={0: 0.1})
    expected = compare_suite(baselines, candidates)
    turned = dict(reversed(candidates.items()))
    assert plain(compare_suite(baselines, turned)) == figures_of(expected)
    in_ms = judged(1, tests=tests, slower={0: 0.1}, figures=lambda value: {"p50_ms": math.exp(value)})
    assert plain(in_ms) == figures_of(expected)
    rates = judged(1, tests=tests, slower={0: 0.1}, figures=lambda value: {"throughput": math.exp(-value)})
    assert plain(rates) == figures_of(expected, -1)


@pytest.mark.parametrize("tests", [1, 6, 12])
def test_a_larger_regression_never_has_a_milder_verdict_and_is_not_charged_to_others(tests: int) -> None:
    before = judged(2, tests=tests)
    verdicts = []
    for change in (0.0, 0.02, 0.05, 0.1, 0.3, 0.7, 3.0):
        now = judged(2, tests=tests, slower={0: change})
        verdicts.append(now["t0"].verdict == "regressed")
        others = {name for name, each in now.items() if each.verdict == "regressed"} - {"t0"}
        assert others <= {name for name, each in before.items() if each.verdict == "regressed"}
    assert verdicts == sorted(verdicts)
    assert verdicts[-2:] == [True, True]


@pytest.mark.parametrize("records", [1, 10])
@pytest.mark.parametrize("tests", [5, 20])
def test_what_all_tests_became_slower_by_does_not_vanish(tests: int, records: int) -> None:
    result = judged(3, tests=tests, records=records, slower=dict.fromkeys(range(tests), math.log(2)))
    assert result["all tests"].verdict == "regressed"
    assert result["all tests"].rows[0].ratio == pytest.approx(2.0, rel=0.1)


def test_a_movement_concerns_the_tests_of_its_device() -> None:
    """Six tests on each of two GPUs, one of which became slower."""
    slower = dict.fromkeys(range(0, 12, 2), math.log(2))
    result = judged(4, tests=12, slower=slower, devices=("A", "B"))
    assert [row.verdict for row in result["all tests"].rows if row.ratio > 1.5] == ["regressed"]
    assert {name for name, each in result.items() if each.suspect} == {f"t{test}" for test in slower}


def test_every_interval_agrees_with_its_verdict() -> None:
    seen = set()
    for seed in range(12):
        slower = {0: 0.3, 1: -0.3, 2: 0.03}
        tests, spread = 4 + seed, 0.002 * (1 + seed % 5)
        result = judged(10 + seed, tests=tests, records=1 + seed, sd=spread, slower=slower)
        for row in (row for each in result.values() for row in each.rows):
            seen.add(row.verdict)
            assert row.low <= row.ratio <= row.high
            assert (row.low > 1) or row.verdict != "regressed"
            assert (row.high < 1) or row.verdict != "improved"
            assert (row.low >= 1 / 1.05 and row.high <= 1.05) or row.verdict != "unchanged"
    assert seen == {"regressed", "improved", "unchanged", "inconclusive"}


def test_figures_of_any_size_have_finite_intervals() -> None:
    """Also those whose ratio leaves the range of floats."""
    small = record_from_values("t", [{"a": {"p50_ns": 5e-324, "throughput": 1e300}}] * 2)
    large = record_from_values("t", [{"a": {"p50_ns": 1e300, "throughput": 5e-324}}] * 2)
    for one, other in ((small, large), (large, small)):
        rows = compare_suite({"t": one}, {"t": other})["t"].rows
        assert len(rows) == 2
        assert all(0 < row.low <= row.ratio <= row.high < math.inf for row in rows)


def values(baselines: Baselines, candidates: Candidates) -> dict[str, TestValues]:
    rule = Rule(prior=Prior(0.02, 8), metrics=frozenset({"p50"}), tests=len(candidates))
    return {
        name: TestValues(each.values, [record.values for record in baselines[name]], rule)
        for name, each in candidates.items()
    }


@pytest.mark.parametrize("devices", [("A",), ("A", "B")])
@pytest.mark.parametrize("tests", [3, 11])
def test_a_test_alone_is_judged_as_in_the_result_of_all(tests: int, devices: Sequence[str]) -> None:
    given = values(*suite(5, tests=tests, devices=devices, slower={1: 0.2}))
    together = compare_suite_values(given)
    for name in given:
        assert compare_suite_values(given, only=name).comparisons[name] == together.comparisons[name]


@pytest.mark.parametrize(("records", "times"), [(1, 4), (3, 1.5), (20, 1.2)])
def test_two_of_five_tests_do_not_hide_each_other(records: int, times: float) -> None:
    result = judged(7, tests=5, records=records, slower={0: math.log(times), 3: math.log(times)})
    assert {name for name, each in result.items() if each.verdict == "regressed"} == {"t0", "t3"}


def test_a_part_of_alpha_decides_less() -> None:
    decided = []
    for change in np.linspace(0.0, 0.1, 11):
        given = values(*suite(6, slower={0: float(change)}))
        part, all_of_it = (compare_suite_values(given, share=share).comparisons["t0"] for share in (0.001, 1.0))
        assert part.verdict is not Verdict.REGRESSED or all_of_it.verdict is Verdict.REGRESSED
        decided.append((part.verdict, all_of_it.verdict))
        assert [row.p_value for row in part.rows] == [row.p_value for row in all_of_it.rows]
    assert any(part is not Verdict.REGRESSED and full is Verdict.REGRESSED for part, full in decided)
