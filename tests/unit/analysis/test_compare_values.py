"""Duets, pinned baselines, wild runs and missing figures, on plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpuperf.analysis.duet.compare import compare_duet, compare_duet_values
from pytest_gpuperf.analysis.priors import Prior, Priors
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.comparison import compare_values
from pytest_gpuperf.analysis.values import RecordValues, values_from_numbers
from pytest_gpuperf.model import Comparison, LookShares, NamedPoint, Record, Verdict
from tests.unit.comparing import compare
from tests.unit.factories import equal_runs, record

QUIET = Rule(prior=Prior(record_sd=0.01, weight=8))


def numbers(runs: Sequence[Sequence[float]], name: str = "s", metric: str = "p50") -> RecordValues:
    """A record from ``runs[run][point]``."""
    return values_from_numbers(name, [{f"p{i}": {metric: value} for i, value in enumerate(run)} for run in runs])


def drawn(
    rng: np.random.Generator, *, factor: float = 1.0, sd: float = 0.005, runs: int = 3, points: int = 3
) -> RecordValues:
    return numbers((factor * np.exp(rng.normal(0, sd, (runs, points)))).tolist())


def history(rng: np.random.Generator, records: int = 10, sd: float = 0.005) -> list[RecordValues]:
    return [replace(drawn(rng, sd=sd), id=f"h{index}") for index in range(records)]


def verdicts(comparison: Comparison, against: str) -> set[Verdict]:
    return {row.verdict for row in comparison.rows if row.against == against}


# One wild run, two modes


@pytest.mark.parametrize("wild", [3.0, 0.2])
def test_an_outlier_among_five_runs_does_not_decide(wild: float) -> None:
    rng = np.random.default_rng(1)
    before = history(rng)
    assert (
        compare_values(numbers([[wild], [1.0], [1.003], [0.997], [1.001]]), before, QUIET).verdict is Verdict.UNCHANGED
    )
    slow = numbers([[wild], [1.1], [1.103], [1.097], [1.101]])
    assert compare_values(slow, before, QUIET).verdict is Verdict.REGRESSED


@pytest.mark.parametrize("wild", [3.0, 0.2])
def test_an_outlier_among_five_blocks_does_not_decide(wild: float) -> None:
    reference = numbers([[1.0]] * 5)
    same, slow = ([[wild], *([level * one] for one in (1.0, 1.003, 0.997, 1.001))] for level in (1.0, 1.1))
    assert compare_duet_values(numbers(same), reference, Rule()).verdict is not Verdict.REGRESSED
    assert compare_duet_values(numbers(slow), reference, Rule()).verdict is Verdict.REGRESSED


def test_an_outlier_among_three_runs_is_no_regression() -> None:
    rng = np.random.default_rng(2)
    result = compare_values(numbers([[1.5], [1.0], [1.0]]), history(rng), QUIET)
    assert result.verdict is Verdict.INCONCLUSIVE


def test_bimodal_starts_widen_the_interval_without_a_verdict() -> None:
    rng = np.random.default_rng(3)
    before = history(rng)
    one_mode = compare_values(numbers([[1.0], [1.001], [0.999], [1.0], [1.0]]), before, QUIET).rows[0]
    two_modes = compare_values(numbers([[1.0], [1.2], [1.001], [1.2], [1.2]]), before, QUIET).rows[0]
    assert two_modes.verdict is Verdict.INCONCLUSIVE
    assert math.log(two_modes.high / two_modes.low) > 3 * math.log(one_mode.high / one_mode.low)


# The pinned baseline


def test_a_slow_drift_is_detected_by_the_pinned_baseline() -> None:
    rng = np.random.default_rng(4)
    creep = [replace(drawn(rng, factor=1.05 + 0.002 * age), id=f"h{age}") for age in range(10, 0, -1)]
    pinned = [replace(drawn(rng), id="pinned")]
    result = compare_values(drawn(rng, factor=1.075), creep, QUIET, pinned=pinned)
    assert Verdict.REGRESSED not in verdicts(result, "baseline")
    assert verdicts(result, "pinned") == {Verdict.REGRESSED}
    assert result.verdict is Verdict.REGRESSED
    assert result.baseline[-1] == "pinned"


def test_a_pinned_record_takes_the_spread_from_the_history() -> None:
    """By itself it would be judged by the prior."""
    rng = np.random.default_rng(5)
    pinned, candidate = [drawn(rng)], drawn(rng, factor=1.04)
    assert compare_values(candidate, [], Rule(), pinned=pinned).verdict is Verdict.INCONCLUSIVE
    assert verdicts(compare_values(candidate, history(rng, 20), Rule(), pinned=pinned), "pinned") == {Verdict.REGRESSED}


def test_both_baselines_share_alpha() -> None:
    rng = np.random.default_rng(6)
    before, candidate = history(rng), drawn(rng)
    alone = compare_values(candidate, before, QUIET)
    both = compare_values(candidate, before, QUIET, pinned=before[:1])
    assert all(
        one.min_detectable < other.min_detectable
        for one, other in zip(alone.rows, (row for row in both.rows if row.against == "baseline"), strict=True)
    )


def test_a_point_that_only_the_pinned_record_has_is_judged_by_it() -> None:
    before = [numbers([[1.0]] * 3)]
    pinned = [numbers([[1.0, 1.0]] * 3)]
    result = compare_values(numbers([[1.0, 2.0]] * 3), before, QUIET, pinned=pinned)
    regressed = {(row.against, row.point) for row in result.of(Verdict.REGRESSED)}
    assert ("pinned", NamedPoint("p1")) in regressed
    assert not any(against == "baseline" for against, _ in regressed)


# Duets


def test_a_duet_detects_a_change_that_every_block_shows() -> None:
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 0.15, (5, 4))
    reference = numbers(np.exp(noise).tolist())
    candidate = numbers((1.05 * np.exp(noise + rng.normal(0, 0.01, (5, 4)))).tolist())
    result = compare_duet_values(candidate, reference, Rule())
    assert result.verdict is Verdict.REGRESSED
    assert result.mode == "duet"
    assert {row.against for row in result.rows} == {"reference"}
    whole = next(row for row in result.rows if row.point is None)
    assert whole.ratio == pytest.approx(1.05, abs=0.015)
    assert whole.candidate / whole.baseline == pytest.approx(whole.ratio)


def test_a_quiet_history_sharpens_a_duet() -> None:
    rng = np.random.default_rng(8)
    pairs = [(drawn(rng, runs=5, sd=0.003), drawn(rng, runs=5, sd=0.003)) for _ in range(4)]
    candidate, reference = pairs[0]
    alone = compare_duet_values(candidate, reference, Rule())
    known = compare_duet_values(candidate, reference, Rule(), history=pairs[1:])
    assert all(one.min_detectable > other.min_detectable for one, other in zip(alone.rows, known.rows, strict=True))


def test_a_side_without_a_common_point_is_no_baseline() -> None:
    candidate = numbers([[1.0]] * 3)
    reference = values_from_numbers("r", [{"other": {"p50": 1.0}}] * 3)
    result = compare_duet_values(candidate, reference, Rule())
    assert result.verdict is Verdict.NO_BASELINE
    assert (result.new_points, result.missing_points) == (("p0",), ("other",))


def test_records_with_a_reference_are_duets() -> None:
    one = record(equal_runs(1.1, runs=5, load_points=2))
    duet = replace(one, reference=record(equal_runs(1.0, runs=5, load_points=2)).runs)
    result = compare_duet(duet, [duet], Rule())
    assert result.verdict is Verdict.REGRESSED
    assert all(row.worsening == pytest.approx(0.1, abs=0.01) for row in result.rows)


@pytest.mark.parametrize("sequential", [False, True])
def test_sequential_duets_are_no_history_of_alternating_duets(sequential: bool) -> None:
    def measured(duet: Record, *, sequential: bool) -> Record:
        return replace(duet, runs=tuple(replace(run, sequential=sequential) for run in duet.runs))

    one = record(equal_runs(1.1, runs=5))
    duet = replace(one, reference=record(equal_runs(1.0, runs=5)).runs)
    newest, other = (measured(duet, sequential=kind) for kind in (sequential, not sequential))
    alone = compare_duet(newest, [], Rule())
    assert compare_duet(newest, [other], Rule()) == alone
    assert compare_duet(newest, [newest], Rule()) != alone


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_the_unit_does_not_matter_to_a_duet(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.normal(0, 0.03, (2, 5, 3)))
    plain, scaled = (
        compare_duet_values(numbers((scale * sides[0]).tolist()), numbers((scale * sides[1]).tolist()), Rule())
        for scale in (1.0, unit)
    )
    for one, other in zip(plain.rows, scaled.rows, strict=True):
        assert (other.ratio, other.low, other.high, other.p_value) == pytest.approx(
            (one.ratio, one.low, one.high, one.p_value)
        )
        assert other.verdict is one.verdict


# What is compared


def test_figures_that_are_not_finite_are_named_and_never_gate() -> None:
    good = [[1.0, 1.0]] * 3
    bad = [[1.0, 5.0], [1.0, math.nan], [1.0, 5.0]]
    result = compare_values(numbers(bad), [numbers(good)], Rule())
    assert {row.point for row in result.rows} == {NamedPoint("p0")}
    assert result.left_out == ("p1, p50",)
    assert result.verdict is not Verdict.REGRESSED
    assert result.missing_points == ()


def test_only_the_rules_metrics_gate() -> None:
    slow = numbers([[2.0]] * 3, metric="p99")
    fast = numbers([[1.0]] * 3, metric="p99")
    assert compare_values(slow, [fast], Rule()).rows == ()
    assert compare_values(slow, [fast], Rule(metrics=frozenset({"p99"}))).verdict is Verdict.REGRESSED


def test_a_new_point_does_not_cost_the_sweep_its_history() -> None:
    rng = np.random.default_rng(9)
    before = history(rng)
    result = compare_values(drawn(rng, points=4), [drawn(rng, points=4), *before], QUIET)
    whole = next(row for row in result.rows if row.point is None)
    alone = compare_values(drawn(rng), before, QUIET)
    assert whole.min_detectable < 1.3 * next(row for row in alone.rows if row.point is None).min_detectable
    assert {row.point for row in result.rows} >= {NamedPoint("p3")}


def test_each_series_has_its_own_prior() -> None:
    priors = Priors(Prior(0.2, 8), {("", "p1", "p50"): Prior(0.005, 20, measured=True)})
    result = compare_values(numbers([[1.1, 1.1]] * 3), [numbers([[1.0, 1.0]] * 3)], Rule(prior=priors))
    assert {row.point for row in result.of(Verdict.REGRESSED)} == {NamedPoint("p1")}


def test_alpha_spent_at_earlier_looks_is_not_available_again() -> None:
    rng = np.random.default_rng(10)
    before, candidate = history(rng), drawn(rng)
    rules = [replace(QUIET, looks={"": LookShares(share)}) for share in (1.0, 0.2)]
    whole, part = (compare_values(candidate, before, rule) for rule in rules)
    assert all(one.min_detectable < other.min_detectable for one, other in zip(whole.rows, part.rows, strict=True))


def test_records_of_another_key_are_not_comparable() -> None:
    differing = {"device": ("NVIDIA L4", "NVIDIA A10")}
    result = compare(record(equal_runs()), [], Rule(), differing=differing)
    assert result.verdict is Verdict.NOT_COMPARABLE
    assert result.differing == differing
