"""The gate, asked about simulated values: arrays go through the functions that decide about an invocation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pytest_gpuperf.analysis.decision import Spending, decide
from pytest_gpuperf.analysis.evidence import Evidence, StoredArrays, averaging_matrix
from pytest_gpuperf.analysis.panel import with_means
from pytest_gpuperf.analysis.priors import SeriesPriors
from pytest_gpuperf.analysis.robust import BoolArray, FloatArray
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.arrays import TestArrays
from pytest_gpuperf.analysis.suite.judge import judge
from pytest_gpuperf.analysis.values import SeriesKey
from pytest_gpuperf.model import NamedPoint

_METRICS = ("p50", "p90", "throughput", "p95")


@dataclass(frozen=True)
class Layout:
    """The series of a test: each metric's points, metric by metric."""

    points: int
    metrics: int

    @property
    def series(self) -> int:
        return self.points * self.metrics

    @cached_property
    def groups(self) -> list[list[int]]:
        """Series of each metric's points."""
        return [list(range(metric * self.points, (metric + 1) * self.points)) for metric in range(self.metrics)]

    @cached_property
    def keys(self) -> tuple[SeriesKey, ...]:
        """Keys, those of the means over the sweep first."""
        metrics = _METRICS[: self.metrics]
        single = [("", NamedPoint(str(point)), metric) for metric in metrics for point in range(self.points)]
        return (*(("", None, metric) for metric in metrics), *single)

    @cached_property
    def averaging_matrix(self) -> FloatArray:
        return averaging_matrix([(point is None, metric) for _, point, metric in self.keys])


@dataclass(frozen=True)
class Judged:
    """What the gate says of an invocation.

    Attributes:
        regressed, unchanged: Shape (tests,).
        common: Whether what all tests moved by together regressed.
    """

    regressed: BoolArray
    unchanged: BoolArray
    common: bool = False


def judge_arrays(
    layout: Layout,
    candidate: FloatArray,
    history: FloatArray,
    rule: Rule,
    *,
    devices: Sequence[int] | None = None,
    spending: Spending | None = None,
) -> Judged:
    """Judge the tests of an invocation; the records in one place of the tests' histories share their invocation.

    Args:
        candidate: Shape (tests, series, runs).
        history: Shape (tests, series, records, runs), the newest record first.
        devices: Number of the candidate's device, and of that of each record; None if all have the same.
        spending: What the look may spend.
    """
    candidate, history = with_means(candidate, layout.groups, axis=1), with_means(history, layout.groups, axis=1)
    device, *earlier = map(str, [0] * (history.shape[2] + 1) if devices is None else devices)
    prior = SeriesPriors.of([rule.prior.of("", "", metric) for *_, metric in layout.keys])
    invocations = tuple(map(str, range(len(earlier))))
    tests = {
        str(test): TestArrays(
            keys=layout.keys,
            sweeps=layout.metrics,
            values=StoredArrays(candidate[test], history[test], layout.averaging_matrix),
            prior=prior,
            device=device,
            devices=tuple(earlier),
            invocations=invocations,
        )
        for test in range(len(candidate))
    }
    suite = judge(tests)
    decision = decide(_stacked([suite.evidence[name] for name in tests]), layout.metrics, rule, spending=spending)
    common = replace(rule, tests=1, alpha=rule.common_alpha)
    return Judged(
        np.asarray(decision.worse.any(axis=-1)),
        np.asarray(decision.same.all(axis=-1)),
        any(decide(movement.evidence, 0, common).worse.any() for movement in suite.movements),
    )


def _stacked(each: Sequence[Evidence]) -> Evidence:
    def numbers(name: str) -> npt.NDArray[np.float64]:
        return np.stack([getattr(evidence, name) for evidence in each])

    return Evidence(
        numbers("difference"), numbers("error"), numbers("freedom"), numbers("replicates"), numbers("further_variance")
    )
