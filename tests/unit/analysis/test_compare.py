from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.multiplicity import holm
from pytest_gpuperf.analysis.priors import Prior
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import (
    Change,
    Comparison,
    Histogram,
    LoadPoint,
    NamedPoint,
    Record,
    Row,
    RuleSettings,
    Verdict,
    Window,
    worst,
)
from pytest_gpuperf.model.histogram import GAMMA
from tests.unit.comparing import compare
from tests.unit.factories import SINGLE, equal_runs, record, row, run, window

RULE = Rule(prior=Prior(record_sd=0.03, weight=8))
#: Bucket widths in a slowdown by half.
HALF = round(math.log(1.5) / math.log(GAMMA))

FACTORS = st.integers(-40, 40).map(lambda steps: GAMMA**steps)


def levels(points: int, runs: int = 3) -> st.SearchStrategy[list[list[float]]]:
    """Medians in ms that differ by up to 20% from run to run."""
    return st.lists(st.lists(FACTORS, min_size=points, max_size=points), min_size=runs, max_size=runs)


def slower(before: Record, steps: int, *, keep_throughput: bool = False) -> Record:
    """All latencies ``GAMMA**steps`` times as long: exact in the histograms too, whatever their precision."""

    def moved(one: Window) -> Window:
        latency = Histogram(tuple(bucket + steps for bucket in one.latency.buckets), one.latency.counts)
        throughput = one.throughput if keep_throughput else one.throughput / GAMMA**steps
        return replace(one, latency=latency, throughput=throughput, latency_mean_ns=one.latency_mean_ns * GAMMA**steps)

    return replace(before, runs=tuple(replace(run, windows=tuple(map(moved, run.windows))) for run in before.runs))


def find(comparison: Comparison, metric: str, point: LoadPoint | None = SINGLE) -> Row:
    (result,) = (row for row in comparison.rows if (row.metric, row.point) == (metric, point))
    return result


def named(rows: Sequence[Row]) -> set[tuple[str, LoadPoint | NamedPoint | None]]:
    return {(row.metric, row.point) for row in rows}


def drawn(
    rng: np.random.Generator,
    *,
    record_sd: float,
    run_sd: float,
    points: int = 3,
    runs: int = 3,
    factor: float = 1.0,
) -> Record:
    """A record of a machine whose records and fresh starts differ by chance, at every point for itself."""
    base = np.log(np.arange(1, points + 1) * factor) + rng.normal(0, record_sd, points)
    return record(np.exp(base + rng.normal(0, run_sd, (runs, points))).tolist())


# Verdicts


def test_without_a_baseline_the_verdict_is_no_baseline() -> None:
    comparison = compare(record(), [], RULE)
    assert comparison.verdict is Verdict.NO_BASELINE
    assert comparison.rows == ()


@pytest.mark.parametrize("seed", range(5))
def test_three_times_slower_regresses_on_a_noisy_machine_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = drawn(rng, record_sd=0.05, run_sd=0.1)
    comparison = compare(drawn(rng, record_sd=0.05, run_sd=0.1, factor=3.0), [before], RULE)
    assert comparison.verdict is Verdict.REGRESSED
    assert {row.verdict for row in comparison.rows} == {Verdict.REGRESSED}
    assert find(comparison, "p50").low < 3 < find(comparison, "p50").high


@pytest.mark.parametrize("record_sd", [0.02, 0.05])
def test_half_slower_with_quiet_runs_regresses_against_a_single_record(record_sd: float) -> None:
    before = record([[1.0, 2.0], [1.01, 1.99], [0.99, 2.0]])
    comparison = compare(slower(before, HALF), [before], Rule(prior=Prior(record_sd, 8), tests=4))
    assert comparison.verdict is Verdict.REGRESSED
    assert all(row.verdict is Verdict.REGRESSED for row in comparison.rows)
    assert find(comparison, "p90").worsening == pytest.approx(0.5, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(levels(2), st.floats(0.001, 0.5), st.integers(1, 10), st.integers(1, 50))
def test_half_slower_is_never_unchanged(p50_ms: list[list[float]], record_sd: float, records: int, tests: int) -> None:
    before = record(p50_ms)
    comparison = compare(slower(before, HALF), [before] * records, Rule(prior=Prior(record_sd, 8), tests=tests))
    assert {row.verdict for row in comparison.rows} <= {Verdict.REGRESSED, Verdict.INCONCLUSIVE}


def test_half_slower_in_latency_alone_regresses_though_throughput_stands() -> None:
    before = record(equal_runs(load_points=3))
    comparison = compare(slower(before, HALF, keep_throughput=True), [before], RULE)
    assert comparison.verdict is Verdict.REGRESSED
    assert {row.metric for row in comparison.of(Verdict.REGRESSED)} == {"p50", "p90"}


def test_no_change_after_a_long_quiet_history_is_unchanged() -> None:
    rng = np.random.default_rng(7)
    history = [drawn(rng, record_sd=0.003, run_sd=0.003) for _ in range(10)]
    comparison = compare(drawn(rng, record_sd=0.003, run_sd=0.003), history, RULE)
    assert comparison.verdict is Verdict.UNCHANGED
    assert {row.verdict for row in comparison.rows} == {Verdict.UNCHANGED}


def test_half_as_slow_is_improved() -> None:
    before = record(equal_runs(load_points=2))
    comparison = compare(slower(before, -HALF), [before], RULE)
    assert comparison.verdict is Verdict.IMPROVED
    assert {row.verdict for row in comparison.rows} == {Verdict.IMPROVED}
    assert find(comparison, "throughput").ratio > 1 > find(comparison, "p50").ratio


def test_a_single_slow_point_is_detected() -> None:
    before = record(equal_runs(load_points=4))
    bad = record([[1.0, 2.0, 4.5, 4.0]] * 3)
    comparison = compare(bad, [before], RULE)
    assert comparison.verdict is Verdict.REGRESSED
    assert {row.point for row in comparison.of(Verdict.REGRESSED)} == {LoadPoint(4)}


def test_noise_alone_is_inconclusive_and_states_the_detectable_change() -> None:
    noisy = record([[1.0], [1.3], [0.8]])
    comparison = compare(noisy, [noisy], RULE)
    assert comparison.verdict is Verdict.INCONCLUSIVE
    for result in comparison.rows:
        assert result.min_detectable > 0.2
        assert result.records_to_decide is None or result.records_to_decide >= 1


@settings(max_examples=25, deadline=None)
@given(levels(1), st.integers(1, 5))
def test_twice_the_smallest_detectable_worsening_is_detected(p50_ms: list[list[float]], records: int) -> None:
    before = record(p50_ms)
    smallest = find(compare(before, [before] * records, RULE), "p50").min_detectable
    steps = math.ceil(math.log1p(2 * smallest) / math.log(GAMMA))
    comparison = compare(slower(before, steps), [before] * records, RULE)
    assert find(comparison, "p50").verdict is Verdict.REGRESSED


def test_decided_rows_need_no_further_record() -> None:
    before = record(equal_runs())
    assert {row.records_to_decide for row in compare(slower(before, HALF), [before], RULE).rows} == {0}


def test_a_change_below_the_minimum_effect_is_no_regression() -> None:
    before = record(equal_runs())
    sure = Prior(record_sd=0.001, weight=8)
    after = slower(before, 4)  # 2%
    assert compare(after, [before], Rule(prior=sure, min_effect=0.01)).verdict is Verdict.REGRESSED
    assert compare(after, [before], Rule(prior=sure, min_effect=0.03)).verdict is Verdict.UNCHANGED


@pytest.mark.parametrize("steps", [20, -20])  # 10%
def test_a_change_beyond_equivalence_is_neither_unchanged_nor_a_regression(steps: int) -> None:
    before = record(equal_runs())
    rule = Rule(prior=Prior(record_sd=0.001, weight=8), min_effect=0.2, equivalence=0.05)
    assert {row.verdict for row in compare(slower(before, steps), [before], rule).rows} == {Verdict.INCONCLUSIVE}


@pytest.mark.parametrize("steps", [14, -14])  # 7%
@pytest.mark.parametrize("records", [1, 20])
def test_a_change_below_a_large_minimum_effect_is_unchanged(steps: int, records: int) -> None:
    before = record(equal_runs())
    rule = Rule(prior=Prior(record_sd=0.001, weight=8), min_effect=0.1)
    assert compare(slower(before, steps), [before] * records, rule).verdict is Verdict.UNCHANGED


# What must hold of all comparisons


def test_throughput_and_latency_are_symmetric() -> None:
    before = record(equal_runs(load_points=2))
    comparison = compare(slower(before, 12), [before], RULE)
    for point in (LoadPoint(1), LoadPoint(2), None):
        latency, throughput = find(comparison, "p50", point), find(comparison, "throughput", point)
        assert throughput.ratio == pytest.approx(1 / latency.ratio)
        assert (throughput.low, throughput.high) == pytest.approx((1 / latency.high, 1 / latency.low))
        assert throughput.p_value == pytest.approx(latency.p_value)
        assert throughput.worsening == pytest.approx(latency.worsening)
        assert throughput.min_detectable == pytest.approx(latency.min_detectable)
        assert throughput.verdict is latency.verdict


def test_worsening_is_in_the_bad_direction() -> None:
    assert row(ratio=1.5).worsening == pytest.approx(0.5)
    assert row(metric="throughput", ratio=1 / 1.5).worsening == pytest.approx(0.5)
    assert row(metric="throughput", ratio=2.0).worsening == pytest.approx(-0.5)


@settings(max_examples=25, deadline=None)
@given(levels(2), levels(2), st.integers(-1000, 1000))
def test_the_unit_of_time_does_not_matter(here: list[list[float]], there: list[list[float]], steps: int) -> None:
    after, before = record(here), record(there)
    plain = compare(after, [before], RULE)
    scaled = compare(slower(after, steps), [slower(before, steps)], RULE)
    for one, other in zip(plain.rows, scaled.rows, strict=True):
        assert other.ratio == pytest.approx(one.ratio)
        assert (other.low, other.high) == pytest.approx((one.low, one.high))
        assert other.verdict is one.verdict


@settings(max_examples=25, deadline=None)
@given(levels(2), levels(2), st.floats(-3, 3).map(lambda exponent: 10**exponent))
def test_a_change_of_unit_moves_figures_by_at_most_the_precision_of_a_bucket(
    here: list[list[float]], there: list[list[float]], unit: float
) -> None:
    plain = compare(record(here), [record(there)], RULE)
    scaled = compare(
        record([[unit * level for level in run] for run in here]),
        [record([[unit * level for level in run] for run in there])],
        RULE,
    )
    for one, other in zip(plain.rows, scaled.rows, strict=True):
        assert other.ratio == pytest.approx(one.ratio, rel=1e-9 if one.metric == "throughput" else 0.0101)


@settings(max_examples=25, deadline=None)
@given(levels(2), levels(2), levels(2), st.permutations(range(3)), st.permutations(range(3)))
def test_the_order_of_runs_and_records_does_not_matter(
    here: list[list[float]],
    there: list[list[float]],
    earlier: list[list[float]],
    ours: list[int],
    theirs: list[int],
) -> None:
    one = compare(record(here), [record(there), record(earlier)], RULE)
    other = compare(
        record([here[index] for index in ours]), [record(earlier), record([there[index] for index in theirs])], RULE
    )
    for left, right in zip(one.rows, other.rows, strict=True):
        assert (right.metric, right.point, right.verdict) == (left.metric, left.point, left.verdict)
        assert (right.ratio, right.low, right.high, right.p_value) == pytest.approx(
            (left.ratio, left.low, left.high, left.p_value)
        )


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_every_row_has_finite_numbers(data: st.DataObject) -> None:
    wild = st.floats(-3, 4).map(lambda exponent: 10**exponent)
    shape = st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([0, 5, 20, 60]))

    def any_record() -> Record:
        runs, points, requests = data.draw(shape)
        p50_ms = data.draw(st.lists(st.lists(wild, min_size=points, max_size=points), min_size=runs, max_size=runs))
        silent = data.draw(st.booleans())
        return record(p50_ms, throughput=[[0.0] * points] * runs if silent else None, requests=requests)

    rule = Rule(
        prior=Prior(data.draw(st.floats(0.001, 1.0)), data.draw(st.floats(4, 20))),
        alpha=data.draw(st.floats(0.001, 0.2)),
        tests=data.draw(st.integers(1, 200)),
        min_effect=data.draw(st.floats(0, 0.5)),
    )
    comparison = compare(any_record(), [any_record() for _ in range(data.draw(st.integers(1, 4)))], rule)
    for result in comparison.rows:
        figures = (result.candidate, result.baseline, result.ratio, result.low, result.high, result.min_detectable)
        assert all(map(math.isfinite, figures))
        assert 0 < result.low <= result.ratio <= result.high
        assert 0 <= result.p_value <= 1
        assert result.min_detectable > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_noise_in_the_runs_widens_the_interval(one: int, other: int, in_baseline: bool) -> None:
    quiet, noisy = sorted((one, other))

    def width(steps: int) -> float:
        wobbling, calm = record([[GAMMA**-steps], [1.0], [GAMMA**steps]]), record(equal_runs())
        after, before = (calm, wobbling) if in_baseline else (wobbling, calm)
        seen = find(compare(after, [before], RULE), "throughput")
        return math.log(seen.high / seen.low)

    assert width(noisy) >= width(quiet) * (1 - 1e-9)
    assert width(60) > 2 * width(0)


@pytest.mark.parametrize(
    ("records", "weight", "least_sd"),
    [
        # Nothing better is known: records differ by at least as much as the fresh starts inside one.
        (1, 8, 0.1),
        # Ten records agree as if by accident: still, each is only known as well as its three runs tell.
        (10, 2, 0.1 / math.sqrt(3)),
    ],
)
def test_a_small_prior_does_not_hide_noisy_runs(records: int, weight: float, least_sd: float) -> None:
    noisy = record([[math.exp(-0.1)], [1.0], [math.exp(0.1)]])
    seen = find(compare(noisy, [noisy] * records, Rule(prior=Prior(0.001, weight))), "throughput")
    half = float(stats.t.isf(0.025, weight + records - 1)) * least_sd * math.sqrt(1 + 1 / records)
    assert math.log(seen.high / seen.ratio) >= half * (1 - 1e-9)


def test_noise_between_records_widens_the_interval() -> None:
    def width(apart: float) -> float:
        history = [record(equal_runs(level)) for level in (1.0, 1 + apart, 1 / (1 + apart), 1.0)]
        seen = find(compare(record(equal_runs()), history, RULE), "throughput")
        return math.log(seen.high / seen.low)

    assert width(0.0) < width(0.05) < width(0.3)


def test_more_baseline_records_narrow_the_interval() -> None:
    def width(records: int) -> float:
        seen = find(compare(record(equal_runs()), [record(equal_runs())] * records, RULE), "throughput")
        return math.log(seen.high / seen.low)

    assert width(1) > width(2) > width(10)


# Multiplicity


@settings(max_examples=25, deadline=None)
@given(levels(3), levels(3), st.integers(1, 30), st.integers(1, 30))
def test_sharing_alpha_never_adds_a_rejection(
    here: list[list[float]], there: list[list[float]], one: int, other: int
) -> None:
    few, many = sorted((one, other))
    alone, shared = (
        compare(record(here), [record(there)], Rule(prior=Prior(0.01, 8), tests=tests)) for tests in (few, many)
    )
    for verdict in (Verdict.REGRESSED, Verdict.IMPROVED):
        assert named(shared.of(verdict)) <= named(alone.of(verdict))


def test_with_many_tests_the_detectable_change_is_larger() -> None:
    before = record(equal_runs())
    seen = [
        compare(before, [before], Rule(prior=RULE.prior, tests=tests)).rows[0].min_detectable for tests in (1, 10, 100)
    ]
    assert seen == sorted(set(seen))


@pytest.mark.parametrize(
    ("p_values", "alpha", "rejected"),
    [
        # 0.005 <= 0.05/4, 0.01 <= 0.05/3, but 0.03 > 0.05/2; then 0.04 is not looked at, though 0.04 <= 0.05/1.
        ((0.01, 0.04, 0.03, 0.005), 0.05, (True, False, False, True)),
        ((0.01, 0.02, 0.03, 0.005), 0.05, (True, True, True, True)),
        ((0.02, 0.02, 0.02), 0.05, (False, False, False)),
        ((0.05,), 0.05, (True,)),
        ((), 0.05, ()),
    ],
)
def test_holm_rejects_in_steps(p_values: tuple[float, ...], alpha: float, rejected: tuple[bool, ...]) -> None:
    assert holm(np.array(p_values), alpha).tolist() == list(rejected)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_bonferroni_and_no_correction(p_values: list[float]) -> None:
    for p_value, rejected in zip(p_values, holm(np.array(p_values), 0.05).tolist(), strict=True):
        assert rejected or p_value > 0.05 / len(p_values)
        assert not rejected or p_value <= 0.05


def test_a_sweep_of_several_points_has_a_row_for_its_mean() -> None:
    before = record(equal_runs(load_points=3))
    after = record([[1.1, 2.0, 3.3]] * 3)
    comparison = compare(after, [before], RULE)
    assert find(comparison, "throughput", None).ratio == pytest.approx((1 / 1.1 / 1.1) ** (1 / 3))
    assert {row.point for row in compare(record(equal_runs()), [record(equal_runs())], RULE).rows} == {LoadPoint()}


def alarms(record_sd: float, prior_sd: float, *, factor: float = 1.0) -> int:
    """How many of 300 comparisons with a single baseline record end in ``regressed``."""
    rng = np.random.default_rng(20260101)
    rule = Rule(prior=Prior(prior_sd, 8), alpha=0.05, min_effect=0.0)
    result = 0
    for _ in range(300):
        before = drawn(rng, record_sd=record_sd, run_sd=0.01)
        after = drawn(rng, record_sd=record_sd, run_sd=0.01, factor=factor)
        result += compare(after, [before], rule).verdict is Verdict.REGRESSED
    return result


@pytest.mark.parametrize("prior_sd", [0.02, 0.05])
def test_false_alarms_keep_within_alpha(prior_sd: float) -> None:
    assert alarms(0.01, prior_sd) <= stats.binom.ppf(0.99, 300, 0.05)


def test_false_alarms_rise_without_the_spread_between_records() -> None:
    assert alarms(0.05, 0.005) > 2 * stats.binom.ppf(0.99, 300, 0.05)


def test_half_slower_alarms_every_time() -> None:
    assert alarms(0.01, 0.05, factor=1.5) == 300


# What is compared


@pytest.mark.parametrize("short", ["here", "there", "one run"])
def test_p90_is_not_gated_below_fifty_requests_a_run(short: str) -> None:
    long = record(equal_runs(), requests=50)
    brief = record(equal_runs(), requests=49)
    mixed = replace(long, runs=(*long.runs[:2], brief.runs[2]))
    after, before = {"here": (brief, long), "there": (long, brief), "one run": (mixed, long)}[short]
    assert "p90" in {row.metric for row in compare(long, [long], RULE).rows}
    assert {row.metric for row in compare(after, [before], RULE).rows} == {"p50", "throughput"}


def test_windows_of_a_run_are_merged() -> None:
    visits = [window(requests=17, visit=visit) for visit in range(3)]
    several = replace(record(equal_runs()), runs=tuple(run(*visits, index=index) for index in range(3)))
    assert "p90" in {row.metric for row in compare(several, [several], RULE).rows}


def test_points_of_a_single_side_are_named_and_shared_points_compared() -> None:
    after = record(equal_runs(load_points=2), at=[LoadPoint(1), LoadPoint(2, 8)])
    before = record(equal_runs(load_points=2), at=[LoadPoint(1), LoadPoint(16)])
    comparison = compare(after, [before], RULE)
    assert comparison.new_points == ("serving: concurrency 2, batch 8",)
    assert comparison.missing_points == ("serving: concurrency 16",)
    assert {row.point for row in comparison.rows} == {LoadPoint(1)}


def test_without_shared_points_the_verdict_is_no_baseline() -> None:
    comparison = compare(record(equal_runs(), at=[LoadPoint(4)]), [record(equal_runs(), at=[LoadPoint(8)])], RULE)
    assert comparison.verdict is Verdict.NO_BASELINE
    assert comparison.new_points == ("serving: concurrency 4",)


def test_sweeps_of_one_test_are_kept_apart() -> None:
    def both(fp16_ms: float) -> Record:
        sweeps = {"fp32": 1.0, "fp16": fp16_ms}
        runs = [
            run(window(p50_ms=level, sweep=name), index=index, sweep=name)
            for name, level in sweeps.items()
            for index in range(3)
        ]
        return replace(record(), runs=tuple(runs))

    comparison = compare(both(0.8), [both(0.4)], RULE)
    assert {row.sweep for row in comparison.of(Verdict.REGRESSED)} == {"fp16"}
    assert {row.sweep for row in comparison.rows} == {"fp16", "fp32"}


def test_incomplete_runs_are_left_out() -> None:
    before = record(equal_runs())
    cut = replace(slower(before, 400).runs[0], complete=False)
    comparison = compare(replace(before, runs=(*before.runs, cut)), [before], RULE)
    assert find(comparison, "p50").ratio == pytest.approx(1.0)


def test_the_baseline_is_named_newest_first() -> None:
    comparison = compare(record(), [record(name="new"), record(name="old")], RULE)
    assert comparison.baseline == ("new", "old")


def test_the_first_verdict_in_the_order_is_the_worst() -> None:
    assert worst([Verdict.UNCHANGED, Verdict.INCONCLUSIVE, Verdict.IMPROVED]) is Verdict.INCONCLUSIVE
    assert worst([Verdict.UNCHANGED, Verdict.REGRESSED]) is Verdict.REGRESSED
    assert worst([]) is Verdict.NO_BASELINE


def test_changes_are_named_with_their_section() -> None:
    before = replace(
        record(
            commit="aaaa",
            under_test={"serving": {"digest": "old", "instances": 1}, "gone": {"digest": "x"}},
            environment={"driver": "570", "host": "a"},
            settings={"window_s": 0.5},
        ),
        rule=RuleSettings(alpha=0.05),
    )
    after = replace(
        record(
            commit="bbbb",
            under_test={"serving": {"digest": "new", "instances": 1}, "added": {"digest": "y"}},
            environment={"driver": "570", "host": "b", "mig": None},
            settings={"window_s": 0.7},
        ),
        rule=RuleSettings(alpha=0.01),
    )
    assert set(changes(before, after)) == {
        Change("serving", "digest", "old", "new"),
        Change("environment", "host", "a", "b"),
        Change("settings", "window_s", 0.5, 0.7),
        Change("source", "commit", "aaaa", "bbbb"),
    }
    assert compare(after, [before, after], RULE).changes == changes(before, after)
    assert changes(before, before) == ()
