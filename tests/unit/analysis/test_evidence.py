from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_gpuperf.analysis.decision import decide
from pytest_gpuperf.analysis.evidence import (
    RESOLUTION,
    StoredArrays,
    averaging_matrix,
    duet_evidence,
    stored_evidence,
    t_quantile,
    t_tail,
)
from pytest_gpuperf.analysis.priors import Prior, SeriesPriors
from pytest_gpuperf.analysis.robust import FloatArray
from pytest_gpuperf.analysis.rule import Rule

ASSUMED = Prior(record_sd=0.02, weight=8)
ALONE = averaging_matrix(["one"])


def stored(candidate: FloatArray, history: FloatArray, prior: Prior = ASSUMED) -> tuple[float, float, float]:
    """Difference, standard error and degrees of freedom of a single series."""
    result = stored_evidence(StoredArrays(candidate[None], history[None], ALONE), SeriesPriors.of([prior]))
    return float(result.difference[0]), float(result.error[0]), float(result.freedom[0])


# Stored mode, by hand


def test_a_long_history_outweighs_an_assumed_prior() -> None:
    """Records of one run each: no more than Student's t of one value against ``m`` others, the prior gone."""
    rng = np.random.default_rng(1)
    history, candidate = rng.normal(0, 0.01, (20, 1)), np.array([0.03])
    difference, error, freedom = stored(candidate, history)
    assert difference == pytest.approx(0.03 - history.mean())
    assert error == pytest.approx(history.std(ddof=1) * math.sqrt(1 + 1 / 20))
    assert freedom == pytest.approx(19)


def test_a_measured_prior_keeps_its_weight_beside_a_long_history() -> None:
    history = np.random.default_rng(1).normal(0, 0.01, (20, 1))
    _, error, freedom = stored(np.array([0.0]), history, Prior(0.02, 8, measured=True))
    assert error**2 == pytest.approx((8 * 0.02**2 + 19 * history.var(ddof=1)) / 27 * (1 + 1 / 20))
    assert freedom == pytest.approx(27)


def test_a_single_record_is_judged_by_the_prior() -> None:
    _, error, freedom = stored(np.array([0.5, 0.5, 0.5]), np.zeros((1, 3)))
    assert error == pytest.approx(0.02 * math.sqrt(2))
    assert freedom == pytest.approx(8)


def test_differing_runs_raise_an_assumed_prior() -> None:
    runs = np.array([-0.1, 0.0, 0.1])
    _, error, _ = stored(runs, runs[None])
    assert error == pytest.approx(0.1 * math.sqrt(2))


def test_a_noisy_candidate_does_not_profit_from_a_quiet_baseline() -> None:
    calm = np.random.default_rng(2).normal(0, 0.005, (20, 3))
    noisy = np.array([-0.2, 0.0, 0.2])
    assert stored(noisy, calm)[1] > 0.19
    assert stored(noisy / 40, calm)[1] < 0.01


def test_further_runs_of_the_candidate_add_precision_if_runs_differ_most() -> None:
    rng = np.random.default_rng(3)
    errors = [
        np.mean([stored(rng.normal(0, 0.03, runs), rng.normal(0, 0.03, (20, 3)))[1] for _ in range(200)])
        for runs in (1, 3, 8)
    ]
    assert errors[0] > 1.3 * errors[1] > 1.3 * errors[2]


def test_the_error_is_never_below_the_resolution_of_the_histogram() -> None:
    _, error, _ = stored(np.zeros(3), np.zeros((20, 3)))
    assert error == pytest.approx(RESOLUTION * math.sqrt(1 + 1 / 20))


# Duets, by hand


def test_blocks_are_a_moderated_one_sample_t() -> None:
    blocks = np.array([0.03, 0.05, 0.07])
    result = duet_evidence(blocks[None], ALONE, SeriesPriors.of([Prior(0.01, 10, measured=True)]))
    assert result.difference[0] == pytest.approx(0.05)
    assert result.error[0] ** 2 == pytest.approx((10 * 0.01**2 + 2 * 0.02**2) / 12 / 3)
    assert result.freedom[0] == 12
    assert result.p_worse(0.01)[0] == pytest.approx(stats.t.sf(0.04 / result.error[0], 12))


def test_an_assumed_prior_is_raised_to_what_the_blocks_show() -> None:
    blocks = np.array([-0.1, 0.0, 0.1])
    result = duet_evidence(blocks[None], ALONE, SeriesPriors.of([ASSUMED]))
    assert result.error[0] == pytest.approx(0.1 / math.sqrt(3))


def test_points_of_a_job_share_variance_and_no_degrees_of_freedom() -> None:
    prior = SeriesPriors.of([Prior(0.01, 10, measured=True)] * 2)
    pair = np.array([[0.0, 0.0, 0.0], [-0.06, 0.0, 0.06]])
    apart = duet_evidence(pair, averaging_matrix(["a", "b"]), prior)
    alike = duet_evidence(pair, averaging_matrix(["a", "a"]), prior)
    assert alike.error[0] > apart.error[0]
    assert alike.error[1] == pytest.approx(apart.error[1])
    assert alike.freedom.tolist() == apart.freedom.tolist() == [12, 12]


# What holds of all


@given(st.floats(-5, 5) | st.sampled_from([math.nan, math.inf, -math.inf]), st.floats(1, 50))
def test_without_a_number_the_p_value_is_1(statistic: float, freedom: float) -> None:
    p_value = float(t_tail(np.array(statistic), np.array(freedom)))
    assert 0 <= p_value <= 1
    if math.isnan(statistic):
        assert p_value == 1


@given(st.floats(1e-6, 0.5), st.floats(1, 100))
def test_quantile_and_tail_are_inverse(level: float, freedom: float) -> None:
    assert float(t_tail(t_quantile(level, np.array(freedom)), np.array(freedom))) == pytest.approx(level, rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_series_without_numbers_never_decide(data: st.DataObject) -> None:
    """Whatever is missing on either side, only series with numbers on both are rejected."""
    holes = data.draw(st.lists(st.booleans(), min_size=36, max_size=36))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    candidate, history = rng.normal(1.0, 0.001, (4, 3)), rng.normal(0, 0.001, (4, 2, 3))
    candidate[np.array(holes[:12]).reshape(4, 3)] = np.nan
    history[np.array(holes[12:]).reshape(4, 2, 3)] = np.nan
    arrays = StoredArrays(candidate, history, averaging_matrix([1, 2, 3, 4]))
    evidence = stored_evidence(arrays, SeriesPriors.of([ASSUMED] * 4))
    result = decide(evidence, 0, Rule())
    there = np.isfinite(candidate).any(axis=-1) & np.isfinite(history).any(axis=(-1, -2))
    assert result.worse.tolist() == there.tolist()
    assert not result.better.any()
    assert not result.same.any()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 8), st.floats(-0.2, 0.2))
def test_better_and_worse_are_mirror_images(seed: int, records: int, runs: int, effect: float) -> None:
    rng = np.random.default_rng(seed)
    candidate, history = rng.normal(effect, 0.02, (6, runs)), rng.normal(0, 0.02, (6, records, 3))
    alike, prior = averaging_matrix([1, 2, 3, 3, 3, 3]), SeriesPriors.of([ASSUMED] * 6)
    there, back = (
        decide(stored_evidence(StoredArrays(way * candidate, way * history, alike), prior), 2, Rule())
        for way in (1, -1)
    )
    assert there.worse.tolist() == back.better.tolist()
    assert there.same.tolist() == back.same.tolist()
    blocks = candidate
    there, back = (decide(duet_evidence(way * blocks, alike, prior), 2, Rule()) for way in (1, -1))
    assert there.worse.tolist() == back.better.tolist()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.002, 0.05), st.floats(0.0, 0.03), st.booleans())
def test_more_runs_never_widen_an_interval_on_average(seed: int, run_sd: float, record_sd: float, duet: bool) -> None:
    rng = np.random.default_rng(seed)
    size, prior, alike = 1600, SeriesPriors.of([ASSUMED] * 1600), np.eye(1600)
    runs = rng.normal(0, run_sd, (size, 8))
    history = rng.normal(0, record_sd, (size, 10, 1)) + rng.normal(0, run_sd, (size, 10, 3))
    widths = []
    for count in (3, 4, 5, 8):
        evidence = (
            duet_evidence(runs[:, :count], alike, prior)
            if duet
            else stored_evidence(StoredArrays(runs[:, :count], history, alike), prior)
        )
        widths.append(float((t_quantile(0.025, evidence.freedom) * evidence.error).mean()))
    three, four, five, eight = widths
    # The mean widths of 1600 series have a ratio that is accurate to about half a percent.
    assert three >= 0.995 * five >= 0.99 * eight
    # From five on, one at each end is left out, so that five say hardly more than four.
    assert three >= 0.995 * four >= 0.94 * five


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_comparisons_in_an_array_equal_single_comparisons(seed: int) -> None:
    """What the simulation in ``benchmarks/gate_error_rates.py`` rests on."""
    rng = np.random.default_rng(seed)
    candidate, history = rng.normal(0.03, 0.01, (5, 6, 5)), rng.normal(0, 0.01, (5, 6, 4, 3))
    alike, prior = averaging_matrix([1, 2, 3, 3, 4, 4]), SeriesPriors.of([ASSUMED] * 6)
    whole = decide(stored_evidence(StoredArrays(candidate, history, alike), prior), 2, Rule())
    for index in range(5):
        one = decide(stored_evidence(StoredArrays(candidate[index], history[index], alike), prior), 2, Rule())
        assert one.worse.tolist() == whole.worse[index].tolist()
        assert one.p_worse.tolist() == pytest.approx(whole.p_worse[index].tolist())
