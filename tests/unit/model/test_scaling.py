"""How many replicas a demand needs, by what was measured and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Budget, BudgetMissed, Curve, LoadPoint, Scaling, smoke_curve
from tests.unit.factories import curve, curve_point

#: An ideal machine: a replica answers 100/s, and what is in flight waits its turn. p90 is 20% above p50.
CONCURRENCIES = (1, 2, 4, 8, 16)


def ideal(replicas: int) -> Curve:
    points = []
    for concurrency in CONCURRENCIES:
        busy = min(concurrency, replicas)
        points.append(curve_point(concurrency, p50_ms=10.0 * concurrency / busy, throughput=100.0 * busy))
    return curve(*points, name=f"flower x{replicas}")


SCALING = Scaling("flower", tuple((count, ideal(count)) for count in range(1, 8)))


@pytest.mark.parametrize(
    ("throughput", "p90_ms", "replicas"),
    [(50, 50, 1), (100, 50, 1), (101, 50, 2), (200, 50, 2), (700, 50, 7), (400, 13, 4), (100, 12, 1)],
)
def test_replicas_for_a_throughput_within_a_budget(throughput: float, p90_ms: float, replicas: int) -> None:
    needed = SCALING.needed(throughput=throughput, p90_ms=p90_ms)
    assert needed.replicas == replicas
    assert needed.point.throughput >= throughput
    assert needed.point.p90_ms <= p90_ms


@pytest.mark.parametrize(("concurrency", "replicas"), [(1, 1), (4, 1), (8, 2), (16, 4)])
def test_replicas_for_a_concurrency_within_50_ms(concurrency: int, replicas: int) -> None:
    """The question of the article's last figure: at which concurrency one more slice is needed."""
    needed = SCALING.needed(concurrency=concurrency, p90_ms=50)
    assert needed.replicas == replicas
    assert needed.point.concurrency == concurrency


def test_demands_beyond_the_measured_loads_are_not_extrapolated() -> None:
    with pytest.raises(BudgetMissed, match=r"none of 1, 2, 3, 4, 5, 6, 7 replicas serves 800/s(?s:.*)at most 700/s"):
        SCALING.needed(throughput=800, p90_ms=50)
    with pytest.raises(BudgetMissed, match=r"flower x1 has no load point with p90 <= 1 ms"):
        SCALING.needed(throughput=1, p90_ms=1)


def test_a_point_with_too_few_requests_is_no_proof() -> None:
    thin = Scaling("flower", ((1, curve(curve_point(supported=frozenset({"p50"})), name="flower x1")),))
    assert thin.needed(throughput=1, p50_ms=50).replicas == 1
    with pytest.raises(BudgetMissed, match="flower x1: too few requests for its p99"):
        thin.needed(throughput=1, p99_ms=50)


def test_a_required_budget_is_noted_for_every_curve() -> None:
    noted: list[Budget] = []
    curves = tuple((count, replace(swept, on_require=noted.append)) for count, swept in SCALING)
    scaling = replace(SCALING, curves=curves)
    assert scaling.require(throughput=300, p90_ms=50).replicas == scaling.needed(throughput=300, p90_ms=50).replicas
    assert noted == [Budget.of_ms(p90_ms=50)] * len(curves)
    with pytest.raises(OptionError, match=r"^require\(\): a latency budget needs a limit"):
        scaling.require(throughput=300)


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(OptionError, match="give a demand"):
        SCALING.needed(p90_ms=50)
    with pytest.raises(OptionError, match="not measured at that load, only at concurrency 1, concurrency 2"):
        SCALING.needed(concurrency=3, p90_ms=50)
    with pytest.raises(KeyError, match="was not measured with 9 replicas"):
        SCALING.at(9)


def test_speedup_is_relative_to_the_fewest_replicas() -> None:
    assert SCALING.speedup(1) == 1
    assert SCALING.speedup(7) == pytest.approx(7)
    assert SCALING.at(2).name == "flower x2"
    assert [count for count, _ in SCALING] == list(SCALING.replicas)


def test_replicas_in_open_loop() -> None:
    curves = tuple(
        (count, smoke_curve(f"flower x{count}", [LoadPoint(0, 1, rate, "poisson") for rate in (100.0, 200.0)]))
        for count in (2, 4)
    )
    smoke = Scaling("flower", curves)
    assert not smoke.measured
    assert smoke.needed(rate=200, p90_ms=50).replicas == 2
    assert smoke.speedup(4) == 2
    with pytest.raises(OptionError, match="only at 100/s poisson, 200/s poisson"):
        smoke.needed(rate=300)
