"""The public plain-number API."""

from __future__ import annotations

import math
from dataclasses import fields
from inspect import signature
from typing import Any

import numpy as np
import pytest

import pytest_gpuperf
from pytest_gpuperf import (
    Prior,
    ValueComparison,
    ValueRecord,
    ValueRow,
    compare,
    compare_suite,
    record_from_values,
    session_from_values,
)
from pytest_gpuperf.errors import OptionError

METRICS = ("p50_ns", "p90_ns", "throughput")


def record(
    factor: float = 1.0,
    *,
    seed: int = 0,
    runs: int = 3,
    points: int = 2,
    sd: float = 0.002,
    test: str = "resnet50",
    key: dict[str, Any] | None = None,
) -> ValueRecord:
    """Latencies ``factor`` times as long."""
    generator = np.random.default_rng(seed)
    values = [
        {
            f"concurrency {2**point}": {
                metric: 1e6 * (1 / factor if metric == "throughput" else factor) * math.exp(generator.normal(0, sd))
                for metric in METRICS
            }
            for point in range(points)
        }
        for _ in range(runs)
    ]
    return record_from_values(test, values, key=key)


BASELINE = [record(seed=seed) for seed in range(1, 11)]


def test_the_names_are_public() -> None:
    for name in ("compare", "record_from_values", "Prior"):
        assert name in pytest_gpuperf.__all__
        assert callable(getattr(pytest_gpuperf, name))


def test_what_is_promised_to_stay() -> None:
    """docs/values.md; more may come, with defaults."""
    assert list(signature(record_from_values).parameters) == ["test", "values", "key", "device", "invocation"]
    assert session_from_values is record_from_values
    defaults = {
        name: one.default for name, one in signature(compare).parameters.items() if one.kind is one.KEYWORD_ONLY
    }
    assert list(signature(compare).parameters)[:2] == ["baseline", "candidate"]
    assert defaults == {"mode": "stored", "alpha": 0.05, "min_effect": 0.01, "equivalence": 0.05, "prior": None}
    assert [field.name for field in fields(ValueRow)] == [
        *("test", "point", "metric", "ratio", "low", "high", "p_value", "verdict", "min_detectable", "confidence")
    ]
    assert [field.name for field in fields(ValueComparison)] == [
        *("verdict", "rows", "differing", "left_out", "new_points", "missing_points", "suspect")
    ]
    suite = {
        name: each.default
        for name, each in signature(compare_suite).parameters.items()
        if each.kind is each.KEYWORD_ONLY
    }
    assert list(signature(compare_suite).parameters)[:2] == ["baselines", "candidates"]
    assert suite == {"alpha": 0.05, "min_effect": 0.01, "equivalence": 0.05, "priors": None}


def test_nothing_changed() -> None:
    found = compare(BASELINE, record())
    assert found.verdict == "unchanged"
    assert {row.verdict for row in found.rows} == {"unchanged"}


def test_twice_as_slow() -> None:
    found = compare(BASELINE, record(2.0))
    assert found.verdict == "regressed"
    row = next(row for row in found.rows if row.point == "concurrency 2" and row.metric == "p90_ns")
    assert row.test == "resnet50"
    assert row.ratio == pytest.approx(2.0, rel=0.02)
    assert row.low < row.ratio < row.high
    assert row.p_value < 0.001
    assert 0 < row.min_detectable < 1
    throughput = next(row for row in found.rows if row.point == "concurrency 2" and row.metric == "throughput")
    assert throughput.ratio == pytest.approx(0.5, rel=0.02)
    assert throughput.verdict == "regressed"


def test_twice_as_fast() -> None:
    assert compare(BASELINE, record(0.5)).verdict == "improved"


def test_the_mean_over_the_points_has_a_row_of_its_own() -> None:
    rows = compare(BASELINE, record()).rows
    assert [(row.point, row.metric) for row in rows if row.point is None] == [(None, metric) for metric in METRICS]
    assert len(rows) == len(METRICS) * 3


def test_without_a_baseline() -> None:
    assert compare([], record()).verdict == "no baseline"
    assert compare(None, record()).rows == ()


def test_one_record_may_stand_without_a_list() -> None:
    assert compare(BASELINE[0], record(2.0)).verdict == "regressed"


def test_other_keys_are_not_comparable() -> None:
    here, there = record(key={"device": "NVIDIA L4"}), record(key={"device": "NVIDIA T4"})
    found = compare([there], here)
    assert (found.verdict, found.rows) == ("not comparable", ())
    assert found.differing == {"device": ("NVIDIA T4", "NVIDIA L4")}
    assert compare([record(test="bert")], record()).differing == {"test": ("bert", "resnet50")}
    assert compare([record(key={"device": "NVIDIA L4"}, seed=1)], here).verdict != "not comparable"


def test_a_duet_pairs_its_runs() -> None:
    """What moves both sides of a block alike is no difference."""
    drift = [1.0, 1.5, 0.8, 1.3, 2.0]
    reference, same, slower = (
        record_from_values("resnet50", [{"all": {"p50_ns": 1e6 * factor * one}} for one in drift])
        for factor in (1.0, 1.001, 1.2)
    )
    assert compare(reference, same, mode="duet").verdict == "unchanged"
    assert compare([reference], slower, mode="duet").verdict == "regressed"
    assert compare([reference], slower).verdict != "regressed"


def test_a_prior_is_believed() -> None:
    one = [record(seed=1)]
    quiet = compare(one, record(1.05), prior=Prior(0.002, 50, measured=True))
    noisy = compare(one, record(1.05), prior=(0.5, 50))
    assert quiet.verdict == "regressed"
    assert noisy.verdict == "inconclusive"
    assert compare(one, record(1.05), prior=0.5).verdict == "inconclusive"


def test_a_prior_is_the_same_however_it_is_written() -> None:
    """Also beside a history that is longer than the prior's weight."""
    history = [record(seed=seed) for seed in range(1, 21)]
    written = [compare(history, record(1.03), prior=prior) for prior in ((0.05, 10), Prior(0.05, 10))]
    assert written[0] == written[1]
    assert written[0] != compare(history, record(1.03))


def test_the_minimum_effect_and_equivalence() -> None:
    assert compare(BASELINE, record(1.5), min_effect=0.6, equivalence=0.9).verdict == "unchanged"
    assert compare(BASELINE, record(1.5), min_effect=0.2).verdict == "regressed"


def test_numbers_of_numpy_are_numbers() -> None:
    made = record_from_values("resnet50", [{"all": {"p50_ns": np.float64(1e6), "throughput": np.int64(5)}}])
    assert made.test == "resnet50"


@pytest.mark.parametrize("metric", ["energy_j", "memory_bytes", "mean_ns", "first_token_ms", "energy_per_inference_j"])
def test_figures_with_a_unit_are_better_when_they_are_less(metric: str) -> None:
    before, after = (record_from_values("t", [{"all": {metric: value}}] * 3) for value in (1.0, 3.0))
    found = compare([before], after)
    assert found.verdict == "regressed"
    assert [row.metric for row in found.rows] == [metric]


def test_latencies_in_other_units_are_the_same_latencies() -> None:
    before = record_from_values("t", [{"all": {"p50_ns": 1.9e6, "energy_j": 0.2}}] * 3)
    same = record_from_values(
        "t", [{"all": {"p50_ms": 1.9, "energy_mj": 200}}, {"all": {"p50_us": 1.9e3, "energy_j": 0.2}}] * 2
    )
    slower = record_from_values("t", [{"all": {"p50_ms": 3.8}}] * 3)
    assert [row.ratio for row in compare([before], same).rows] == pytest.approx([1.0, 1.0])
    found = compare([before], slower)
    assert found.verdict == "regressed"
    assert {row.metric for row in found.rows} == {"p50_ms"}
    assert [row.ratio for row in found.rows] == pytest.approx([2.0])


def test_what_is_no_positive_number_never_gates() -> None:
    before = record_from_values("t", [{"all": {"p50_ns": 1e6, "p90_ns": 2e6}}] * 3)
    for bad in (math.nan, math.inf, 0.0, -1.0):
        after = record_from_values("t", [{"all": {"p50_ns": 9e6, "p90_ns": bad}}] * 3)
        found = compare([before], after)
        assert [row.metric for row in found.rows] == ["p50_ns"]
        assert len(found.left_out) == 1
        assert "p90" in found.left_out[0]


def test_points_of_one_side_are_told() -> None:
    before = record_from_values("t", [{"a": {"p50_ns": 1e6}, "b": {"p50_ns": 1e6}}] * 3)
    after = record_from_values("t", [{"b": {"p50_ns": 1e6}, "c": {"p50_ns": 1e6}}] * 3)
    found = compare([before], after)
    assert (found.new_points, found.missing_points) == (("c",), ("a",))
    assert {row.point for row in found.rows} == {"b"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"values=\{\}: write a list"),
        ("p50", r"values='p50': write a list"),
        ([], "there is no run"),
        ([[]], r"values\[0\]=\[\]: write the run's points"),
        ([{"a": {"p50_ns": 1}}, {}], r"values\[1\]=\{\}: the run has no point"),
        ([{1: {"p50_ns": 1}}], r"values\[0\]\[1\]: a point is named by a non-empty string"),
        ([{"": {"p50_ns": 1}}], r"values\[0\]\[''\]: a point is named"),
        ([{"a": 5}], r"values\[0\]\['a'\]=5: write its metrics"),
        ([{"a": {}}], r"values\[0\]\['a'\]=\{\}: write its metrics"),
        ([{"a": {"p50_ns": 1}}, {"a": {"p50_ns": "1"}}], r"values\[1\]\['a'\]\['p50_ns'\]='1': write a number"),
        ([{"a": {"p50_ns": None}}], r"\['p50_ns'\]=None: write a number"),
        ([{"a": {"p50_ns": True}}], r"\['p50_ns'\]=True: write a number"),
        ([{"a": {"p50_ns": [1]}}], r"\['p50_ns'\]=\[1\]: write a number"),
        ([{"a": {"througput": 1}}], r"\['througput'\]: write throughput, or a figure with its unit"),
        ([{"a": {"requests_per_ms": 1}}], r"\['requests_per_ms'\]: write throughput"),
        ([{"a": {5: 1}}], r"\[5\]: write throughput"),
        ([{"a": {"p50_ns": 1, "p50": 1}}], "p50_ns and p50 are the same metric"),
        ([{"a": {"p50_ns": 1e6, "p50_ms": 1}}], "p50_ns and p50_ms are the same metric"),
        ([{"a": {"p50_j": 1}}], r"\['p50_j'\]: write p50_ns or p50_us or p50_ms or p50_s"),
        ([{"a": {"memory_mb": 1}}], r"\['memory_mb'\]: write memory_bytes"),
        ([{"a": {"throughput_ms": 1}}], r"\['throughput_ms'\]: write throughput, in inferences/s"),
    ],
)
def test_malformed_values_are_named_by_their_path(values: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        record_from_values("t", values)


@pytest.mark.parametrize("test", ["", None, 5])
def test_a_test_has_a_name(test: Any) -> None:
    with pytest.raises(OptionError, match="name what was measured"):
        record_from_values(test, [{"a": {"p50_ns": 1}}])


@pytest.mark.parametrize(
    ("key", "message"), [([], "key="), ({"device": []}, r"key\['device'\]"), ({5: 1}, r"key\[5\]")]
)
def test_a_key_has_names_and_values(key: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        record_from_values("t", [{"a": {"p50_ns": 1}}], key=key)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "stroed"}, "mode='stroed': write 'stored' or 'duet'"),
        ({"mode": "duet"}, "a duet has one record as its reference, measured .*; 10 were passed"),
        ({"alpha": 0}, "alpha=0: write a share, above 0 and up to 0.5"),
        ({"alpha": 5}, "alpha=5"),
        ({"alpha": "5%"}, "alpha='5%'"),
        ({"min_effect": -0.1}, "min_effect=-0.1: write a share, 0 or more and below 1"),
        ({"min_effect": math.nan}, "min_effect=nan"),
        ({"equivalence": 0}, "equivalence=0"),
        ({"prior": "2%"}, "prior='2%'"),
        ({"prior": (0.01,)}, r"prior=\(0.01,\)"),
        ({"prior": Prior}, "prior="),
        ({"prior": 0}, "prior=0"),
        ({"prior": Prior(math.nan, 10)}, r"prior=Prior\(record_sd=nan"),
        ({"prior": Prior(-0.02, 10)}, "record_sd=-0.02"),
        ({"prior": Prior(0.02, 0)}, "weight=0"),
    ],
)
def test_arguments_that_can_t_be_used(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        compare(BASELINE, record(), **arguments)


def test_only_records_are_compared() -> None:
    with pytest.raises(OptionError, match=r"candidate=\{\}: pass the result of record_from_values"):
        compare(BASELINE, {})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"baseline\[1\]=5"):
        compare([BASELINE[0], 5], record())  # type: ignore[list-item]


def suite_record(rng: np.random.Generator, name: str, invocation: str, level: float, device: str = "a") -> ValueRecord:
    runs = [
        {f"c{point}": {"p50_ms": 10 * math.exp(level + start + 0.002 * rng.standard_normal())} for point in range(3)}
        for start in 0.01 * rng.standard_normal(3)
    ]
    return record_from_values(name, runs, device=device, invocation=invocation)


def suite(
    seed: int, *, tests: int = 12, records: int = 6, slower: tuple[int, ...] = (), by: float = 0.0, devices: str = "a"
) -> dict[str, ValueComparison]:
    """Compare a suite whose invocations move all tests by 1%, and whose devices do so by 5% (each its own way)."""
    rng = np.random.default_rng(seed)
    level = dict(zip("abc", (0.0, 0.05, -0.05), strict=True))
    moved = 0.01 * rng.standard_normal(records + 1)

    def record(test: int, index: int, device: str, change: float = 0.0) -> ValueRecord:
        own = moved[index] + level[device] + change
        return suite_record(rng, f"test {test}", f"invocation {index}", own, device)

    candidates = {
        f"test {test}": record(test, 0, devices[0], math.log1p(by) if test in slower else 0.0) for test in range(tests)
    }
    baselines = {
        f"test {test}": [record(test, 1 + index, devices[index % len(devices)]) for index in range(records)]
        for test in range(tests)
    }
    return compare_suite(baselines, candidates)


def test_a_suite_finds_the_test_that_became_slower() -> None:
    result = suite(1, slower=(4,), by=0.1)
    assert [name for name, each in result.items() if each.verdict == "regressed"] == ["test 4"]
    assert all(each.verdict == "unchanged" for name, each in result.items() if name != "test 4")


def test_a_suite_of_which_every_test_became_slower_is_told_once() -> None:
    result = suite(2, slower=tuple(range(12)), by=0.15, records=12)
    assert [name for name, each in result.items() if each.verdict == "regressed"] == ["all tests"]
    (row,) = result["all tests"].rows
    assert (row.point, row.metric, row.verdict) == (None, "p50_ms", "regressed")
    assert row.low < 1.15 < row.high


def test_another_device_of_the_same_model_is_no_regression() -> None:
    for devices in ("ab", "cb", "ba"):
        assert all(each.verdict != "regressed" for each in suite(3, devices=devices, records=12).values())
    rng = np.random.default_rng(4)
    history = [suite_record(rng, "t", f"i{index}", 0.0, "a") for index in range(20)]
    elsewhere = suite_record(rng, "t", "now", 0.06, "b")
    assert compare(history, elsewhere).verdict != "regressed"
    assert compare(history, suite_record(rng, "t", "now", 0.06, "a")).verdict == "regressed"


def test_two_records_show_that_nothing_changed_in_a_quiet_suite() -> None:
    result = suite(5, records=2)
    assert {each.verdict for each in result.values()} == {"unchanged"}


def test_a_suite_names_the_argument_that_is_wrong() -> None:
    rng = np.random.default_rng(6)
    good = suite_record(rng, "t", "i", 0.0)
    with pytest.raises(OptionError, match=r"candidates\['t'\]=5: "):
        compare_suite({}, {"t": 5})  # type: ignore[dict-item]
    with pytest.raises(OptionError, match=r"baselines\['t'\]\[0\]=5: "):
        compare_suite({"t": [5]}, {"t": good})  # type: ignore[list-item]
    assert compare_suite({}, {"t": good})["t"].verdict == "no baseline"
    other = record_from_values("t", [{"c": {"p50_ms": 1.0}}], key={"device": "another"})
    assert compare_suite({"t": [other]}, {"t": good})["t"].verdict == "not comparable"


def test_tests_that_stay_as_they_are_beside_faster_ones_have_not_regressed() -> None:
    for seed, by, wrong in ((7, -0.1, "regressed"), (8, 0.11, "improved")):
        result = suite(seed, tests=10, records=12, slower=tuple(range(7)), by=by)
        assert result["all tests"].verdict == ("improved" if by < 0 else "regressed")
        assert [name for name in ("test 7", "test 8", "test 9") if result[name].verdict == wrong] == []
