"""The simulation in ``benchmarks/gate_error_rates.py`` judges as the public API does."""

import math

import numpy as np
import pytest

from benchmarks.simulated_fleet import LAYOUT, Fleet
from benchmarks.suite_gate import judge_arrays
from pytest_gpuperf import compare_suite, record_from_values
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.values import ValueRecord

#: Names that callers give the metrics of ``LAYOUT``, and the sign that makes larger worse.
FIGURES = {"p50": ("p50_ns", 1), "p90": ("p90_ns", 1), "throughput": ("throughput", -1)}


def record(test: str, values: np.ndarray, device: int, invocation: str) -> ValueRecord:
    """Return the record of values of shape (series, runs)."""
    runs: list[dict[str, dict[str, float]]] = [{} for _ in values[0]]
    for (_, point, metric), series in zip(LAYOUT.keys[LAYOUT.metrics :], values, strict=True):
        name, sign = FIGURES[metric]
        for run, value in zip(runs, series.tolist(), strict=True):
            assert point
            run.setdefault(point.label, {})[name] = 1e6 * math.exp(sign * value)
    return record_from_values(test, runs, device=str(device), invocation=invocation)


@pytest.mark.parametrize(
    "fleet",
    [
        Fleet(tests=6, records=4, devices=2, device_sd=0.03, changed=1, effect=0.3),
        Fleet(tests=6, records=3, changed=6, effect=0.6),
        Fleet(tests=2, records=2, invocation_sd=0.003, run_sd=0.003, changed=1, effect=0.5),
    ],
)
def test_simulated_invocations_get_the_verdicts_of_compare_suite(fleet: Fleet) -> None:
    invocation = fleet.draw(np.random.default_rng(1))
    judged = judge_arrays(
        LAYOUT, invocation.candidate, invocation.history, Rule(tests=fleet.tests), devices=invocation.device
    )
    now, *before = invocation.device
    names = [str(test) for test in range(fleet.tests)]
    candidates = {name: record(name, invocation.candidate[int(name)], now, "now") for name in names}
    baselines = {
        name: [
            record(name, invocation.history[int(name), :, place], device, str(place))
            for place, device in enumerate(before)
        ]
        for name in names
    }
    comparisons = compare_suite(baselines, candidates)
    regressed = [comparisons[name].verdict == "regressed" for name in names]
    assert judged.regressed.tolist() == regressed
    assert judged.common == (comparisons["all tests"].verdict == "regressed" if "all tests" in comparisons else False)
    assert judged.unchanged.tolist() == [
        all(row.verdict == "unchanged" for row in comparisons[name].rows) for name in names
    ]
    assert judged.common or regressed[0]
