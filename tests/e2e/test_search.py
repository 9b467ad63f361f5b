"""Searches and adaptive sweeps, and the load points that they share with the baseline."""

from __future__ import annotations

import json

import pytest

from tests.e2e.invocations import GPUPERF, Run, record_files

#: Every load is within the budget, so the highest is the answer.
SUITE = """
    import json
    import os
    import time

    def test_capacity(gpuperf):
        asked = json.loads(os.environ["ASKED"])
        gpuperf.search(lambda: time.sleep(0.002), p50_ms=5000, name="capacity", window_s=0.1, **asked)
"""


def measured(pytester: pytest.Pytester) -> set[str]:
    """Return the load points of the newest record."""
    newest = record_files(pytester.path)[-1]
    runs = json.loads(newest.read_text())["record"]["runs"]
    points = [window["point"] for run in runs for window in run["windows"]]
    return {f"{point['concurrency'] or point['rate']:g} {point['arrivals']}".strip() for point in points}


def test_a_search_measures_the_previous_answer_and_no_earlier_answer(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE)
    for highest, points in ((2, {"2"}), (3, {"2", "3"}), (4, {"3", "4"})):
        result = run(ASKED=json.dumps({"lowest": 2, "highest": highest}))
        result.assert_outcomes(passed=1)
        assert measured(pytester) == points
        answer = f"  capacity: highest load with p50 <= 5000 ms is concurrency {highest} (*confirmed): *"
        result.stdout.fnmatch_lines([answer])


def test_pinned_points_are_always_measured(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE)
    run(ASKED=json.dumps({"lowest": 2, "highest": 2})).assert_outcomes(passed=1)
    (record,) = record_files(pytester.path)
    name = record.stem.rpartition("-")[2]
    assert pytester.run(*GPUPERF, "baseline", "pin", name, "--reason", "the release").ret == 0
    for highest, points in ((3, {"2", "3"}), (4, {"2", "3", "4"})):
        run(ASKED=json.dumps({"lowest": 2, "highest": highest})).assert_outcomes(passed=1)
        assert measured(pytester) == points


def test_an_adaptive_sweep_keeps_its_points_and_adds_the_knee_of_today(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import os
        import time

        def test_curve(gpuperf):
            highest = int(os.environ["HIGHEST"])
            gpuperf.adaptive_sweep(lambda: time.sleep(0.002), 4, highest=highest, name="curve", window_s=0.1)
        """
    )
    # Throughput of sleeps grows with every client, so the knee is at the end, or near it on a busy machine.
    result = run(HIGHEST="4")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  curve: knee at concurrency * (*saturated): throughput *"])
    first = measured(pytester)
    assert first == {"1", "2", "3", "4"}
    for highest in (5, 6):
        run(HIGHEST=str(highest)).assert_outcomes(passed=1)
        assert first <= measured(pytester)
        assert len(measured(pytester)) <= 5


def test_a_search_of_another_kind_does_not_measure_the_points_of_the_baseline(
    run: Run, pytester: pytest.Pytester
) -> None:
    """The baseline names points by a number: a rate of 20 must not be measured as concurrency 20, nor the reverse."""
    pytester.makepyfile(test_suite=SUITE)
    twenty = {"open_loop": True, "lowest": 20, "highest": 20}
    for asked, expected in (
        ({"lowest": 2, "highest": 2}, "2"),
        (twenty, "20 poisson"),
        ({**twenty, "arrivals": "constant"}, "20 constant"),
        ({"lowest": 2, "highest": 2}, "2"),
    ):
        run(ASKED=json.dumps(asked)).assert_outcomes(passed=1)
        assert measured(pytester) == {expected}
