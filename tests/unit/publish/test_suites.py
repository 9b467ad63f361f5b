"""Suites: what all tests move by together, and what the merge base explains of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import RecordValues, values_from_numbers
from pytest_gpuperf.model import Verdict
from pytest_gpuperf.publish.comparison import InvocationComparison, RecordToJudge, compare_alone, compare_invocation
from pytest_gpuperf.publish.inherited import MergeBaseValues
from pytest_gpuperf.publish.judged_test import JudgedTest

TESTS = 8


def record(name: str, level: float, random: np.random.Generator) -> RecordValues:
    runs = [{"c1": {"p50": 1e6 * math.exp(level + 0.005 * random.standard_normal())}} for _ in range(3)]
    return replace(values_from_numbers(name, runs), device="GPU-1", invocation=name)


def judged(main: float, change: float, *, slower: float = 0.0) -> InvocationComparison:
    """Judge a change after 12 records, with a record of a main branch; ``slower`` is what the first test adds."""
    random = np.random.default_rng(1)
    records = []
    for test in range(TESTS):
        baseline = tuple(record(f"i{number}", 0.0, random) for number in range(12))
        merge_base = MergeBaseValues((record("main", main, random),) if main else ())
        candidate = record("now", change + (slower if test == 0 else 0.0), random)
        rule = Rule(tests=TESTS, metrics=frozenset({"p50"}))
        records.append(RecordToJudge(f"t{test}", candidate, baseline, rule, merge_base=merge_base))
    return compare_invocation(records, {})


def test_what_all_tests_changed_by_is_inherited_from_a_main_branch_that_did() -> None:
    result = judged(math.log(1.2), math.log(1.2))
    assert [mode.verdict for mode in result.common] == [Verdict.INHERITED]
    assert {each.common for each in result.comparisons} == {result.common}
    assert {each.verdict for each in result.comparisons} == {Verdict.UNCHANGED}
    assert all(each.suspect for each in result.comparisons)


def test_it_is_not_inherited_from_a_sound_main_branch_nor_where_the_change_adds_as_much() -> None:
    for main, change in ((0.0, math.log(1.2)), (math.log(1.1), math.log(1.1 * 1.2))):
        assert [mode.verdict for mode in judged(main, change).common] == [Verdict.REGRESSED]


def test_a_slow_day_does_not_turn_an_inherited_regression_into_one_of_the_change() -> None:
    """Main made one test 30% slower; today everything is 3% slower as well."""
    random = np.random.default_rng(2)
    records = []
    for test in range(TESTS):
        level = math.log(1.3) if test == 0 else 0.0
        baseline = tuple(record(f"i{number}", 0.0, random) for number in range(12))
        merge_base = MergeBaseValues((record("main", level, random),) if test == 0 else ())
        candidate = record("now", level + 0.03, random)
        rule = Rule(tests=TESTS, metrics=frozenset({"p50"}))
        records.append(RecordToJudge(f"t{test}", candidate, baseline, rule, merge_base=merge_base))
    result = compare_invocation(records, {})
    assert result.comparisons[0].verdict is Verdict.INHERITED
    assert {each.verdict for each in result.comparisons[1:]} == {Verdict.UNCHANGED}


def test_what_was_computed_from_a_judged_record_is_not_sent_to_another_process() -> None:
    random = np.random.default_rng(3)
    baseline = tuple(record(f"i{number}", 0.0, random) for number in range(3))
    fresh = RecordToJudge("t", record("now", 0.0, random), baseline, Rule(metrics=frozenset({"p50"})))
    before = JudgedTest(fresh).encoded()
    assert fresh.as_values.arrays.rolling is not None
    assert JudgedTest(fresh).encoded() == before
    assert compare_alone(JudgedTest.decoded(before).to_judge) == compare_alone(fresh)
