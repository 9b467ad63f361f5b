"""``gpuperf.scaling``: a sweep for each number of replicas, here of a callable that sleeps."""

from __future__ import annotations

import json

import pytest

from tests.e2e.invocations import Run, record_files

SUITE = """
    import time

    class Sleepers:
        name, max_replicas = "sleep", 4

        def at(self, replicas):
            from pytest_gpuperf.targets import as_target
            return as_target(lambda: time.sleep(0.008 / replicas))

    def test_scaling(gpuperf):
        scaling = gpuperf.scaling(Sleepers(), {arguments} concurrency=1, window_s=0.1)
        needed = scaling.needed(concurrency=1, p50_ms=6)
        print("NEEDED", scaling.replicas, needed.replicas, needed.point.p50_ms)
        assert needed.replicas == (2 if gpuperf.enabled else 1)
        assert scaling.speedup(2) > 1.5
"""


def test_a_sweep_for_each_number(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE.format(arguments="replicas=[2, 1],"))
    result = run()
    result.assert_outcomes(passed=1)
    (stored,) = record_files(pytester.path)
    record = json.loads(stored.read_text())["record"]
    assert {run["sweep"] for run in record["runs"]} == {"sleep x1", "sleep x2"}


def test_all_numbers_when_none_is_given_and_in_a_smoke_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE.format(arguments=""))
    result = pytester.runpytest_subprocess("-p", "no:benchmark", "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*NEEDED (1, 2, 3, 4) 1 0.0*"])


def test_what_cannot_be_scaled(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        from pytest_gpuperf.targets.fleet import TritonFleet

        def test_no_replicas(gpuperf):
            gpuperf.scaling(lambda: 1)

        def test_none(gpuperf):
            gpuperf.scaling(TritonFleet.create("m.onnx", replicas=2), [0])

        def test_more_than_there_are(gpuperf):
            gpuperf.scaling(TritonFleet.create("m.onnx", replicas=2), [1, 4])
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:benchmark")
    result.assert_outcomes(failed=3)
    for message in (
        "has no replicas to scale: pass a fleet from triton_fleet",
        "replicas=[[]0[]]",
        "this fleet has 2 server",
    ):
        result.stdout.fnmatch_lines_random([f"*{message}*"])
