from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pytest_gpuperf.analysis.priors import Prior
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import RecordValues, values_from_numbers
from pytest_gpuperf.model import MERGE_BASE, Comparison, Verdict
from pytest_gpuperf.publish.comparison import RecordToJudge, compare_alone
from pytest_gpuperf.publish.inherited import MergeBaseValues

POINTS = tuple(f"concurrency {2**power}" for power in range(4))
RULE = Rule(prior=Prior(0.05, 8))
LEVEL = dict.fromkeys(POINTS, 1.0)


def record(name: str, levels: dict[str, float], random: np.random.Generator, sd: float = 0.01) -> RecordValues:
    """A record of 3 runs; records and runs both spread by ``sd``."""
    moved = sd * random.standard_normal()
    runs = []
    for _ in range(3):
        noise = {point: moved + sd * random.standard_normal() for point in POINTS}
        runs.append({point: {"p50": 1e6 * levels[point] * math.exp(noise[point])} for point in POINTS})
    return values_from_numbers(name, runs)


def judged(
    main: dict[str, float], change: dict[str, float], *, seed: int = 2, sd: float = 0.01, records: int = 1
) -> Comparison:
    """Compare a change, with 20 records of the baseline and some of a main branch that left its level."""
    random = np.random.default_rng(seed)
    baseline = tuple(record(f"b{number}", LEVEL, random, sd) for number in range(20))
    merge_base = tuple(record(f"m{number}", main, random, sd) for number in range(records))
    values = MergeBaseValues(merge_base, since="c0ffee")
    return compare_alone(
        RecordToJudge("test", record("candidate", change, random, sd), baseline, RULE, merge_base=values)
    )


def times(factor: float, *points: str) -> dict[str, float]:
    """The level, with some points (by default all) slower by a factor."""
    return {point: factor if point in (points or POINTS) else 1.0 for point in POINTS}


def test_an_innocent_change_on_a_regressed_main_branch_has_inherited_its_rows() -> None:
    comparison = judged(times(1.2), times(1.2))
    assert comparison.verdict is Verdict.INHERITED
    assert {row.verdict for row in comparison.rows} == {Verdict.INHERITED}
    assert {row.against for row in comparison.rows} == {"baseline"}
    assert comparison.inherited_from == ("m0",)
    assert comparison.inherited_since == "c0ffee"


def test_a_change_that_regresses_further_answers_for_its_part_alone() -> None:
    comparison = judged(times(1.2), times(1.2 * 1.3))
    assert comparison.verdict is Verdict.REGRESSED
    rows = comparison.of(Verdict.REGRESSED)
    assert {row.against for row in rows} == {MERGE_BASE}
    assert all(0.2 < row.worsening < 0.4 for row in rows)


def test_a_change_that_regresses_another_point_is_red_for_that_point() -> None:
    comparison = judged(times(1.2, POINTS[0]), times(1.2, POINTS[0], POINTS[3]))
    verdicts = {row.point.label: row.verdict for row in comparison.rows if row.point}
    assert comparison.verdict is Verdict.REGRESSED
    assert verdicts[POINTS[0]] is Verdict.INHERITED
    assert verdicts[POINTS[3]] is Verdict.REGRESSED


def test_a_change_that_is_better_than_a_regressed_main_branch_has_inherited_the_rest() -> None:
    assert judged(times(1.5), times(1.25)).verdict is Verdict.INHERITED


@pytest.mark.parametrize("factor", [1.03, 1.05, 1.2])
def test_a_change_alone_inherits_nothing_from_a_sound_main_branch(factor: float) -> None:
    comparisons = [judged(LEVEL, times(factor), seed=seed, sd=0.003) for seed in range(20)]
    assert not any(comparison.of(Verdict.INHERITED) for comparison in comparisons)
    assert sum(comparison.verdict is Verdict.REGRESSED for comparison in comparisons) > 10


def test_on_the_main_branch_a_regression_is_a_regression() -> None:
    random = np.random.default_rng(1)
    baseline = tuple(record(f"b{number}", LEVEL, random) for number in range(5))
    each = RecordToJudge("test", record("candidate", times(1.4), random), baseline, RULE)
    assert compare_alone(each).verdict is Verdict.REGRESSED
    unknown = replace(each, merge_base=MergeBaseValues(problem="the clone is shallow"))
    assert compare_alone(unknown).verdict is Verdict.REGRESSED
    assert compare_alone(unknown).merge_base_problem == "the clone is shallow"
    sound = replace(each, merge_base=MergeBaseValues())
    assert compare_alone(sound) == compare_alone(each)


def test_what_is_not_regressed_is_left_as_it_is() -> None:
    comparison = judged(times(1.2), LEVEL)
    assert comparison.verdict is not Verdict.REGRESSED
    assert comparison.inherited_from == ()


def test_both_mistakes_are_rare() -> None:
    seeds = range(30)
    sd = 0.02  # less noise makes both mistakes rarer

    def share(main: float, change: float, verdict: Verdict) -> float:
        comparisons = [judged(times(main), times(change), seed=seed, sd=sd) for seed in seeds]
        return sum(comparison.verdict is verdict for comparison in comparisons) / len(seeds)

    assert share(1.2, 1.2, Verdict.INHERITED) >= 0.9
    assert share(1.2, 1.44, Verdict.REGRESSED) >= 0.9
    assert share(1.0, 1.2, Verdict.INHERITED) == 0
