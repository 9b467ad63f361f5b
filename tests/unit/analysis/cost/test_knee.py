from __future__ import annotations

from pytest_gpuperf.analysis.cost.knee import knee, power
from pytest_gpuperf.model import CurvePoint
from tests.unit.factories import curve_point


def saturating(*loads: int) -> list[tuple[float, float]]:
    """Throughput and latency of a closed loop that saturates at 8: 1 ms at first, then waiting."""
    return [(1000.0 * min(load, 8), max(1.0, load / 8)) for load in loads]


def points(*loads: int) -> list[CurvePoint]:
    return [
        curve_point(load, throughput=rate, p50_ms=latency_ms)
        for load, (rate, latency_ms) in zip(loads, saturating(*loads), strict=True)
    ]


def test_the_knee_is_where_waiting_begins() -> None:
    result = knee(points(1, 2, 4, 8, 16, 32))
    assert result is not None
    assert result.concurrency == 8


def test_the_knee_does_not_depend_on_the_end_of_the_sweep() -> None:
    for loads in ((1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 512, 1024, 4096)):
        result = knee(points(*loads))
        assert result is not None
        assert result.concurrency == 8


def test_without_answers_there_is_no_knee() -> None:
    assert knee([curve_point(throughput=0.0)]) is None
    assert knee([]) is None
    assert power(100.0, 0.0) == 0.0
    assert power(100.0, 1e9) == 100.0
