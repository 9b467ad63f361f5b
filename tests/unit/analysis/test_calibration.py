from __future__ import annotations

import math
import uuid
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pytest_gpuperf.analysis.calibration import CalibrationResult, Proportion, SeriesSpread, calibrate
from pytest_gpuperf.analysis.priors import HISTORY_WEIGHT, RECORD_PRIOR, Prior, Priors, calibrated_priors
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import Record, Verdict
from tests.unit.comparing import compare
from tests.unit.factories import KEY, SINGLE, record

#: Throughputs are exact; latencies are read from buckets.
RULE = Rule(prior=RECORD_PRIOR, metrics=frozenset({"throughput"}))


def aa(
    seed: int, count: int, *, record_sd: float, run_sd: float, points: int = 1, runs: int = 3, test: str = "a"
) -> list[Record]:
    """Records of a machine that is known, nothing changed; their points share its moods."""
    rng = np.random.default_rng(seed)
    result = []
    for index in range(count):
        logs = (
            rng.normal(0, record_sd) + rng.normal(0, run_sd, (runs, points)) + np.log(1000 * np.arange(1, points + 1))
        )
        one = record(
            np.ones((runs, points)).tolist(),
            throughput=np.exp(logs).tolist(),
            name=f"{seed:04}{index:04}",
            minute=index,
            key={**KEY, "test": test},
        )
        result.append(replace(one, invocation=uuid.UUID(int=index).hex))
    return result


def only(result: CalibrationResult) -> SeriesSpread:
    (one,) = result.tests[0].series
    return one


def test_calibration_recovers_simulated_spreads() -> None:
    result = calibrate([aa(1, 40, record_sd=0.02, run_sd=0.01)], [RULE])
    one = only(result)
    assert (one.sweep, one.point, one.metric) == ("serving", SINGLE, "throughput")
    assert one.run_sd == pytest.approx(0.01, rel=0.25)  # 80 degrees of freedom
    assert one.record_sd == pytest.approx(0.02, rel=0.35)  # 39
    assert result.pooled.record_sd["throughput"] == pytest.approx(math.hypot(0.02, 0.01 / math.sqrt(3)), rel=0.35)
    assert result.pooled.freedom == {"throughput": 39}


def test_differences_between_runs_are_no_spread_between_records() -> None:
    one = only(calibrate([aa(2, 40, record_sd=0, run_sd=0.02)], [RULE]))
    assert one.record_sd < 0.008
    assert one.run_sd == pytest.approx(0.02, rel=0.25)


def test_degrees_of_freedom_count_records_of_all_tests_and_not_points() -> None:
    tests = [aa(3, 5, record_sd=0.01, run_sd=0.005, points=8), aa(4, 7, record_sd=0.01, run_sd=0.005, test="b")]
    result = calibrate(tests, [RULE, RULE])
    assert result.pooled.freedom == {"throughput": 4 + 6}
    assert [one.test for one in result.tests] == ["a", "b"]
    assert [len(one.series) for one in result.tests] == [9, 1]  # with the sweep's mean
    assert result.false_alarms.of == 7  # invocations


def test_smaller_effects_are_detectable_with_more_records_and_runs() -> None:
    sizes = only(calibrate([aa(5, 12, record_sd=0.003, run_sd=0.02)], [RULE])).detectable
    assert sizes[1, 3] > sizes[5, 3] > sizes[20, 3] > RULE.min_effect
    assert sizes[5, 3] > sizes[5, 5] > sizes[5, 8]


def test_the_smallest_detectable_effect_has_a_power_of_80_percent() -> None:
    """By the gate itself, of records with the spread that was measured."""
    result = calibrate([aa(6, 60, record_sd=0.01, run_sd=0.01)], [RULE])
    effect = only(result).detectable[5, 3]
    rule = replace(RULE, prior=calibrated_priors(RECORD_PRIOR, result.pooled.record_sd, result.pooled.freedom))
    hits = 0
    for seed in range(200):
        *before, now = aa(1000 + seed, 6, record_sd=0.01, run_sd=0.01)
        slow = tuple(
            replace(run, windows=tuple(replace(one, throughput=one.throughput / (1 + effect)) for one in run.windows))
            for run in now.runs
        )
        hits += compare(replace(now, runs=slow), before, rule).verdict is Verdict.REGRESSED
    assert 0.70 <= hits / 200 <= 0.92


def test_a_slow_record_counts_as_a_false_alarm() -> None:
    *calm, odd = aa(7, 10, record_sd=0.002, run_sd=0.002)
    slow = tuple(
        replace(run, windows=tuple(replace(one, throughput=one.throughput / 1.5) for one in run.windows))
        for run in odd.runs
    )
    assert calibrate([[*calm, replace(odd, runs=slow)]], [RULE]).false_alarms == Proportion(1, 10)
    assert calibrate([calm], [RULE]).false_alarms == Proportion(0, 9)


@pytest.mark.parametrize(("count", "of"), [(0, 5), (1, 20), (7, 20), (5, 5)])
def test_the_interval_of_a_proportion_is_exact(count: int, of: int) -> None:
    expected = stats.binomtest(count, of).proportion_ci(0.95, method="exact")
    assert (Proportion(count, of).low, Proportion(count, of).high) == pytest.approx((expected.low, expected.high))


def test_single_runs_have_no_spread_between_runs() -> None:
    one = only(calibrate([aa(8, 6, record_sd=0.01, run_sd=0, runs=1)], [RULE]))
    assert math.isnan(one.run_sd)
    assert one.record_sd > 0


def test_a_measured_prior_covers_its_metrics_and_its_weight_is_limited() -> None:
    result = calibrated_priors(RECORD_PRIOR, {"p50": 0.01, "energy": 0.02}, {"p50": 200, "energy": 0})
    assert isinstance(result, Priors)
    assert result.of("serving", "concurrency 1", "p50") == Prior(0.01, HISTORY_WEIGHT, measured=True)
    assert result.of("serving", "", "energy") == result.of("serving", "", "p90") == RECORD_PRIOR
    assert calibrated_priors(RECORD_PRIOR, {}, {}) == RECORD_PRIOR
