from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_gpuperf.analysis.changepoint import MOST_VALUES, change_points

#: Annual flow of the Nile at Aswan, 1871 to 1970, in 1e8 cubic metres. Cobb, "The problem of the Nile: conditional
#: solution to a changepoint problem", Biometrika 65 (1978): the level changed after 1898.
NILE = (
    1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020, 960, 1180, 799, 958, 1140,
    1100, 1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969,
    831, 726, 456, 824, 702, 1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796, 1040, 759,
    781, 865, 845, 944, 984, 897, 822, 1010, 771, 676, 649, 846, 812, 742, 801, 1040, 860, 874, 848, 890,
    744, 749, 838, 1050, 918, 986, 797, 923, 975, 815, 1020, 906, 901, 1170, 912, 746, 919, 718, 714, 740,
)  # fmt: skip
#: Beginnings of the examples of Apache Otava (once DataStax Hunter), whose change the tool finds.
OTAVA = (1.02, 0.95, 0.99, 1.00, 1.12, 0.90, 0.50, 0.51, 0.48, 0.48, 0.55)


def noise(size: int, seed: int = 0, sd: float = 0.01) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(0, sd, size)


def indices(values: object) -> list[int]:
    return [one.index for one in change_points(np.asarray(values).tolist())]


# Published examples


def test_the_change_of_the_nile_is_detected() -> None:
    (change,) = change_points(NILE)
    assert 1871 + change.index == 1899
    assert (change.before, change.after) == (1130, 842.5)
    assert change.p_value == 1 / 400


def test_a_benchmark_that_became_twice_as_fast() -> None:
    (change,) = change_points(OTAVA)
    assert (change.index, change.before, change.after) == (6, 0.995, 0.5)


# Simulated series


@pytest.mark.parametrize("at", [10, 25, 37])
def test_a_step_is_located(at: int) -> None:
    values = noise(40)
    values[at:] += 0.08
    (change,) = change_points(values.tolist())
    assert change.index == at
    assert change.after - change.before == pytest.approx(0.08, abs=0.02)


def test_several_steps_are_located() -> None:
    values = noise(90) + np.repeat([0.0, 0.1, 0.05], 30)
    assert indices(values) == pytest.approx([30, 60], abs=1)


def test_a_passing_change_is_marked_at_both_ends() -> None:
    values = noise(60)
    values[30:40] += 0.1
    assert indices(values) == [30, 40]


def test_slow_creep_becomes_a_staircase_upwards() -> None:
    changes = change_points((noise(100) + np.linspace(0, 0.1, 100)).tolist())
    assert len(changes) >= 2
    assert all(change.after > change.before for change in changes)
    assert changes[-1].after - changes[0].before == pytest.approx(0.08, abs=0.02)


def test_a_single_outlier_is_no_level() -> None:
    for at in (0, 20, 39):
        values = noise(40)
        values[at] += 1.0
        assert indices(values) == []


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "two modes"])
def test_a_series_without_a_change_is_seldom_marked(kind: str) -> None:
    """At most 1% by construction: of 400, more than 10 would come once in 300 tries."""
    generator = np.random.default_rng(7)
    marked = 0
    for seed in range(400):
        values = {
            "normal": generator.normal(size=30),
            "heavy tails": generator.standard_t(2, 30),
            "two modes": generator.normal(size=30) * 0.2 + (generator.random(30) < 0.3),
        }[kind]
        marked += bool(change_points(values.tolist(), seed=seed))
    assert marked <= 10


# Edges


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 1.0, 2.0, 9.0], [3.0] * 50, [0.1, 0.2] * 30])
def test_short_and_constant_series_have_no_change(values: list[float]) -> None:
    assert change_points(values) == []


def test_the_smallest_p_value_is_above_alpha_in_a_short_series() -> None:
    """Of ten orders two are as good a split as 3 + 3."""
    assert change_points([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) == []


def test_a_step_without_noise() -> None:
    (change,) = change_points([1.0] * 10 + [2.0] * 10)
    assert (change.index, change.before, change.after) == (10, 1.0, 2.0)


def test_the_same_series_has_the_same_marks() -> None:
    values = (noise(50) + np.repeat([0.0, 0.012], 25)).tolist()
    assert change_points(values) == change_points(values)


def test_levels_and_units_do_not_matter() -> None:
    values = noise(40, seed=3) + np.repeat([0.0, 0.05], 20)
    assert indices(values) == indices(values * 1e6 - 5) == [20]


def test_only_the_newest_values_of_a_long_series_are_analysed() -> None:
    values = np.concatenate([noise(200) + 5, noise(MOST_VALUES // 2), noise(MOST_VALUES // 2, seed=1) + 0.1])
    (change,) = change_points(values.tolist())
    assert change.index == 200 + MOST_VALUES // 2


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        change_points([1.0, number])
