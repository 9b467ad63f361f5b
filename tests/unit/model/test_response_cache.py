"""Answers from a server's response cache: counted, said, and never compared with computed ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.guard import cache_findings
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import (
    Finding,
    LoadPoint,
    PointFigures,
    Record,
    ServerTimes,
    Verdict,
    curve_of,
    with_cached_points,
)
from pytest_gpuperf.model.finding import CACHE_HITS, CACHED
from pytest_gpuperf.report.findings import words
from pytest_gpuperf.report.latency_parts import latency_parts
from pytest_gpuperf.report.notes import curve_notes
from pytest_gpuperf.targets.kserve.client import times_of_statistics
from tests.unit.comparing import compare
from tests.unit.factories import record, run, window

POINT = LoadPoint(2)
#: As a tritonserver sent it after 15 requests, of which one was computed.
STATISTICS = {
    "name": "slow",
    "execution_count": 1,
    "inference_stats": {
        "success": {"count": 15, "ns": 216_000_000},
        "queue": {"count": 15, "ns": 150_000},
        "compute_input": {"count": 1, "ns": 20_000},
        "compute_infer": {"count": 1, "ns": 200_000_000},
        "compute_output": {"count": 1, "ns": 100_000},
        "cache_hit": {"count": "14", "ns": "28000"},
        "cache_miss": {"count": 1, "ns": 9_000},
    },
}


def served(hits: int, requests: int = 100) -> ServerTimes:
    return ServerTimes(requests, requests - hits, 0, 0, 10**6 * (requests - hits), 0, cache_hits=hits, cache_hit_ns=9)


def test_hits_are_read_from_the_server_s_statistics() -> None:
    times = times_of_statistics([STATISTICS])
    assert (times.requests, times.computed, times.cache_hits, times.cache_hit_ns) == (15, 1, 14, 28_000)
    assert (times - times_of_statistics([])).cache_hits == 14


def test_a_server_without_a_cache_has_none() -> None:
    statistics = {**STATISTICS, "inference_stats": {"success": {"count": 15}}}
    assert times_of_statistics([statistics]).cache_hits == 0


def test_averages_of_queueing_are_those_of_all_requests_and_of_computing_those_of_the_computed_ones() -> None:
    """Triton counts the queue time of every request: ``queue`` above has the count of ``success``."""
    cached = replace(window(POINT, requests=15), server=times_of_statistics([STATISTICS]))
    parts = latency_parts(PointFigures((cached,)))
    assert parts.queue_ns == pytest.approx(10_000)
    assert parts.infer_ns == pytest.approx(200_000_000)
    note = curve_notes(curve_of("serving", [POINT], [run(cached)]))[0]
    assert "queue 10.00 us" in note
    assert "compute 200.1 ms" in note


@pytest.mark.parametrize(
    ("server", "share"),
    [
        (None, None),
        (served(0), None),
        (served(1), None),  # a hundredth moves no figure
        (served(99), 0.99),
        (replace(served(0), stages={"resize": served(100)}), 1.0),  # a step of an ensemble
    ],
)
def test_a_window_with_hits_says_so(server: ServerTimes | None, share: float | None) -> None:
    findings = cache_findings(server)
    assert findings == (() if share is None else (Finding(CACHE_HITS, CACHED, share),))
    if findings:
        assert f"response cache answered {share:.0%} of the requests" in words(findings)
        assert replace(window(), findings=findings).undisturbed


class TestComparison:
    def test_the_point_of_a_run_says_that_it_is_cached(self) -> None:
        hits = [replace(window(POINT), server=served(count)) for count in (0, 99)]
        plain = replace(window(LoadPoint(4)), server=served(0))
        points = [each.point for each in with_cached_points([*hits, plain, window(LoadPoint(8))])]
        assert points == [replace(POINT, cached=True)] * 2 + [LoadPoint(4), LoadPoint(8)]
        assert points[0].label == "concurrency 2, cached"

    def test_cached_and_computed_points_are_not_compared(self) -> None:
        def measured(hits: int, p50_ms: float) -> Record:
            windows = [replace(window(POINT, p50_ms=p50_ms, visit=n), server=served(hits)) for n in range(3)]
            runs = tuple(replace(run(*with_cached_points(windows)), index=index) for index in range(3))
            return replace(record(), runs=runs)

        comparison = compare(measured(99, 0.4), [measured(0, 200.0)], Rule())
        assert comparison.verdict is Verdict.NO_BASELINE
        assert any("cached" in label for label in comparison.new_points)
        assert any("cached" not in label for label in comparison.missing_points)

    def test_the_curve_has_the_point_under_the_load_that_the_test_states(self) -> None:
        windows = with_cached_points([replace(window(POINT), server=served(99))])
        curve = curve_of("serving", [POINT], [run(*windows)])
        assert curve.at(2) is curve.of(POINT)
        assert curve.at(2).cached
