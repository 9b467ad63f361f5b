from __future__ import annotations

from pytest_gpuperf.analysis.knee import knee, power
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


def test_where_waiting_begins() -> None:
    found = knee(points(1, 2, 4, 8, 16, 32))
    assert found is not None
    assert found.concurrency == 8


def test_it_doesn_t_move_with_how_far_the_sweep_went() -> None:
    for loads in ((1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 512, 1024, 4096)):
        found = knee(points(*loads))
        assert found is not None
        assert found.concurrency == 8


def test_none_without_an_answer() -> None:
    assert knee([curve_point(throughput=0.0)]) is None
    assert knee([]) is None
    assert power(100.0, 0.0) == 0.0
    assert power(100.0, 1e9) == 100.0
