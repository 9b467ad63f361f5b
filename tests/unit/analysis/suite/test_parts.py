"""The parts of the judgement of a suite, each against closed forms and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_gpuperf.analysis.multiplicity import deciding_levels, families, reject
from pytest_gpuperf.analysis.suite.common import common_movement, excess_spread, movements
from pytest_gpuperf.analysis.suite.forecast import DRIFTS, DevicePrior, DevicesShown, forecast, moments
from pytest_gpuperf.analysis.suite.spread import BorrowedSpread, borrowed_spread, shrunk

NO_DRIFT = np.array([1.0, 0.0])
ALIKE = np.ones(len(DRIFTS))


@pytest.mark.parametrize(
    ("devices", "device"),
    [("AABBB", "A"), ("AABBB", "C"), ("BBBBBBBBBA", "A"), ("ABCDE", "E"), ("BBBB", "A")],
)
@pytest.mark.parametrize("between", [0.0001, 0.0009, 0.04])
def test_a_forecast_is_the_best_linear_unbiased_prediction(devices: str, device: str, between: float) -> None:
    """Its weights solve the equations of the smallest variance among all weights that sum to 1."""
    record = 0.0004
    made = forecast(
        devices, device, record_variance=record, device_prior=(between, 7.0), drifts=NO_DRIFT, drift_variances=ALIKE
    )
    labels = np.array([*devices, device])
    covariance = between * (labels[:, None] == labels) + record * np.eye(len(labels))
    count = len(devices)
    system = np.ones((count + 1, count + 1))
    system[:count, :count], system[count, count] = covariance[:count, :count], 0.0
    solved = np.linalg.solve(system, np.append(covariance[:count, count], 1.0))[:count]
    assert made.weights == pytest.approx(solved, abs=1e-6)
    contrast = np.append(made.weights, -1.0)
    variance = record * (1 + made.record_factor) * made.drift_factor + made.device_variance
    assert variance == pytest.approx(contrast @ covariance @ contrast, rel=1e-4)
    assert (made.known, made.devices) == (devices.count(device), len(set(devices)))


def test_records_of_a_device_alone_have_equal_weights() -> None:
    made = forecast("AAAA", "A", record_variance=1e-4, device_prior=(1e-3, 5.0), drifts=NO_DRIFT, drift_variances=ALIKE)
    assert made.weights.tolist() == [0.25] * 4
    assert (made.device_variance, made.device_sd, made.drift_factor) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("between", [0.0, 0.02])
def test_the_variance_between_devices_is_found(between: float) -> None:
    generator = np.random.default_rng(1)
    labels, record_sd = "AAABBCDDDD", 0.01
    shown = [
        moments(
            generator.normal(0, between, 4)[[*map("ABCD".index, labels)]] + generator.normal(0, record_sd, 10), labels
        )
        for _ in range(1500)
    ]
    within = sum(each.within for each in shown) / sum(each.within_freedom for each in shown)
    found, _ = DevicesShown.of(shown, independent=True).variance(within, DevicePrior(0.03, 1e-9))
    assert within == pytest.approx(record_sd**2, rel=0.05)
    assert found == pytest.approx(between**2, rel=0.08, abs=3e-6)


def test_devices_that_nothing_shows_differ_by_what_is_assumed() -> None:
    shown = DevicesShown.of([moments(np.zeros(5), "AAAAA")], independent=True)
    assert shown.variance(1e-4, DevicePrior(0.03, 4.0)) == pytest.approx((0.0009, 4.0))


@pytest.mark.parametrize("true_freedom", [4.0, 12.0])
def test_what_tests_show_about_spreads_is_found(true_freedom: float) -> None:
    """Variances are drawn as the model has them: scaled inverse chi-squared, and each estimated from 15 records."""
    generator = np.random.default_rng(2)
    true = 0.01**2 * true_freedom / generator.chisquare(true_freedom, 3000)
    estimates = true * generator.chisquare(14, 3000) / 14
    borrowed = borrowed_spread(estimates, np.full(3000, 14.0))
    assert borrowed is not None
    assert borrowed.variance == pytest.approx(0.01**2, rel=0.2)
    # The largest tenth is winsorised, which makes the tests look somewhat more alike.
    assert true_freedom * 0.9 < borrowed.freedom < true_freedom * 2
    nearer = np.abs(np.log(shrunk(estimates, np.full(3000, 14.0), borrowed) / true)).mean()
    assert nearer < np.abs(np.log(estimates / true)).mean()


def test_a_test_that_spreads_more_than_the_others_borrows_less() -> None:
    borrowed = BorrowedSpread(1e-6, 40.0)
    assert borrowed.for_test(0.0, 0.0, 4.0) == BorrowedSpread(4e-6, 40.0)
    kept = [borrowed.for_test(1e-6 * ratio, 3.0, 1.0).freedom for ratio in (0.1, 1.0, 2.0, 5.0, 20.0, 100.0)]
    assert kept[:3] == [40.0] * 3
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < 1e-3


def test_nothing_is_borrowed_where_nothing_is_shown() -> None:
    assert borrowed_spread(np.zeros(5), np.zeros(5)) is None


def test_tests_that_changed_hardly_move_what_all_moved_by_together() -> None:
    generator = np.random.default_rng(3)
    pulled = []
    for _ in range(200):
        differences, variances = 0.03 + generator.normal(0, 0.01, 10), np.full(10, 1e-4)
        changed = differences.copy()
        changed[0] += 5.0
        before, after = common_movement(differences, variances), common_movement(changed, variances)
        pulled.append(after.together - before.together)
        # What the others moved by doesn't know of the test itself: its change stays.
        assert after.of_others[0] == pytest.approx(differences[1:].mean(), abs=0.01)
        assert changed[0] - after.of_others[0] > 4.9
    assert abs(np.mean(pulled)) < 0.003  # a third of a test's standard deviation; the plain mean moves by 0.5


def test_earlier_movements_are_found_and_few_tests_show_none() -> None:
    generator = np.random.default_rng(4)
    moved = generator.normal(0, 0.05, 12)
    values = generator.normal(0, 1, (10, 1)) + moved + generator.normal(0, 0.002, (10, 12))
    values[0, 3] += 3.0
    values[7:, 5:] = np.nan
    found = movements(values)
    assert found - found.mean() == pytest.approx(moved - moved.mean(), abs=0.006)
    values[2:, 0] = np.nan
    assert movements(values)[0] == 0.0


@pytest.mark.parametrize("tests", [5, 8, 20])
@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_the_excess_of_the_spread_is_found(ratio: float, tests: int) -> None:
    generator = np.random.default_rng(5)
    variances = np.full(tests, 1e-4)
    excesses = []
    for _ in range(600):
        differences = 0.1 + generator.normal(0, np.sqrt(ratio * variances))
        movement = common_movement(differences, variances).together
        excesses.append(excess_spread(differences, variances, movement)[0])
    assert np.mean(excesses) == pytest.approx(ratio, rel=0.2)


def test_two_tests_that_changed_do_not_look_like_a_wider_spread() -> None:
    variances = np.full(5, 1e-4)
    differences = np.array([0.5, 0.7, 0.003, -0.004, 0.002])
    assert excess_spread(differences, variances, 0.002)[0] < 1


def test_a_hypothesis_is_rejected_where_its_p_value_is_at_most_the_level_that_decides() -> None:
    generator = np.random.default_rng(6)
    for sweeps, points in ((0, 1), (0, 7), (1, 2), (4, 40)):
        split = families(sweeps, points, 0.05)
        p_values = generator.uniform(0, 1, (2000, sweeps + points)) ** generator.integers(1, 12, (2000, 1))
        p_values[::3] = np.round(p_values[::3], 3)  # ties
        assert (reject(p_values, split) == (p_values <= deciding_levels(p_values, split))).all()
