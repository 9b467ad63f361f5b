from __future__ import annotations

import math
import uuid
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pytest_gpuperf.analysis.calibration import CalibrationResult, Proportion, SeriesSpread, calibrate
from pytest_gpuperf.analysis.compare import compare
from pytest_gpuperf.analysis.priors import HISTORY_WEIGHT, RECORD_PRIOR, Prior, Priors, calibrated_priors
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import Record, Verdict
from tests.unit.factories import KEY, SINGLE, record

#: Throughputs are exact; latencies are read from buckets.
RULE = Rule(prior=RECORD_PRIOR, metrics=frozenset({"throughput"}))


def aa(
    seed: int, count: int, *, record_sd: float, run_sd: float, points: int = 1, runs: int = 3, test: str = "a"
) -> list[Record]:
    """Records of a machine that is known, nothing changed; their points share its moods."""
    rng = np.random.default_rng(seed)
    found = []
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
        found.append(replace(one, invocation=uuid.UUID(int=index).hex))
    return found


def only(found: CalibrationResult) -> SeriesSpread:
    (one,) = found.tests[0].series
    return one


def test_the_spreads_are_recovered() -> None:
    found = calibrate([aa(1, 40, record_sd=0.02, run_sd=0.01)], [RULE])
    one = only(found)
    assert (one.sweep, one.point, one.metric) == ("serving", SINGLE, "throughput")
    assert one.run_sd == pytest.approx(0.01, rel=0.25)  # 80 degrees of freedom
    assert one.record_sd == pytest.approx(0.02, rel=0.35)  # 39
    assert found.pooled.record_sd["throughput"] == pytest.approx(math.hypot(0.02, 0.01 / math.sqrt(3)), rel=0.35)
    assert found.pooled.freedom == {"throughput": 39}


def test_runs_alone_make_no_spread_between_records() -> None:
    one = only(calibrate([aa(2, 40, record_sd=0, run_sd=0.02)], [RULE]))
    assert one.record_sd < 0.008
    assert one.run_sd == pytest.approx(0.02, rel=0.25)


def test_points_that_share_a_record_count_once_and_tests_add_up() -> None:
    tests = [aa(3, 5, record_sd=0.01, run_sd=0.005, points=8), aa(4, 7, record_sd=0.01, run_sd=0.005, test="b")]
    found = calibrate(tests, [RULE, RULE])
    assert found.pooled.freedom == {"throughput": 4 + 6}
    assert [one.test for one in found.tests] == ["a", "b"]
    assert [len(one.series) for one in found.tests] == [9, 1]  # with the sweep's mean
    assert found.false_alarms.of == 7  # invocations


def test_more_records_and_more_runs_find_smaller_effects() -> None:
    sizes = only(calibrate([aa(5, 12, record_sd=0.003, run_sd=0.02)], [RULE])).detectable
    assert sizes[1, 3] > sizes[5, 3] > sizes[20, 3] > RULE.min_effect
    assert sizes[5, 3] > sizes[5, 5] > sizes[5, 8]


def test_the_smallest_effect_is_found_four_times_of_five() -> None:
    """By the gate itself, of records with the spread that was measured."""
    found = calibrate([aa(6, 60, record_sd=0.01, run_sd=0.01)], [RULE])
    effect = only(found).detectable[5, 3]
    rule = replace(RULE, prior=calibrated_priors(RECORD_PRIOR, found.pooled.record_sd, found.pooled.freedom))
    hits = 0
    for seed in range(200):
        *before, now = aa(1000 + seed, 6, record_sd=0.01, run_sd=0.01)
        slow = tuple(
            replace(run, windows=tuple(replace(one, throughput=one.throughput / (1 + effect)) for one in run.windows))
            for run in now.runs
        )
        hits += compare(replace(now, runs=slow), before, rule).verdict is Verdict.REGRESSED
    assert 0.70 <= hits / 200 <= 0.92


def test_a_record_that_is_off_is_a_false_alarm_and_named_in_the_rate() -> None:
    *calm, odd = aa(7, 10, record_sd=0.002, run_sd=0.002)
    slow = tuple(
        replace(run, windows=tuple(replace(one, throughput=one.throughput / 1.5) for one in run.windows))
        for run in odd.runs
    )
    assert calibrate([[*calm, replace(odd, runs=slow)]], [RULE]).false_alarms == Proportion(1, 10)
    assert calibrate([calm], [RULE]).false_alarms == Proportion(0, 9)


@pytest.mark.parametrize(("count", "of"), [(0, 5), (1, 20), (7, 20), (5, 5)])
def test_the_interval_is_exact(count: int, of: int) -> None:
    expected = stats.binomtest(count, of).proportion_ci(0.95, method="exact")
    assert (Proportion(count, of).low, Proportion(count, of).high) == pytest.approx((expected.low, expected.high))


def test_one_run_a_record_shows_no_spread_of_runs() -> None:
    one = only(calibrate([aa(8, 6, record_sd=0.01, run_sd=0, runs=1)], [RULE]))
    assert math.isnan(one.run_sd)
    assert one.record_sd > 0


def test_a_measured_prior_is_of_its_metrics_only_and_never_weighs_more_than_the_limit() -> None:
    found = calibrated_priors(RECORD_PRIOR, {"p50": 0.01, "energy": 0.02}, {"p50": 200, "energy": 0})
    assert isinstance(found, Priors)
    assert found.of("serving", "concurrency 1", "p50") == Prior(0.01, HISTORY_WEIGHT, measured=True)
    assert found.of("serving", "", "energy") == found.of("serving", "", "p90") == RECORD_PRIOR
    assert calibrated_priors(RECORD_PRIOR, {}, {}) == RECORD_PRIOR
