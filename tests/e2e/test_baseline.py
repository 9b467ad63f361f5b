"""The options that choose the baseline."""

from __future__ import annotations

import json

import pytest

from tests.e2e.invocations import GPUPERF, Run, record_files

SUITE = """
    import time

    import pytest

    @pytest.mark.gpuperf(metrics=["p50", "throughput"])
    def test_sleep(gpuperf):
        gpuperf.sweep(lambda: time.sleep(0.004), name="sleep", window_s=0.1)
"""


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--gpuperf-key=+drivr", "*--gpuperf-key +drivr: there is no field drivr; fields that can be added:*"),
        ("--gpuperf-key=-test", "*--gpuperf-key=-test: test is part of every key*"),
        ("--gpuperf-max-runs=1", "*--gpuperf-max-runs 1: write a whole number of fresh starts*"),
        ("--gpuperf-baseline=newest", "*--gpuperf-baseline newest: write both, rolling, pinned*"),
    ],
)
def test_mistakes_end_pytest_before_any_test(run: Run, pytester: pytest.Pytester, option: str, message: str) -> None:
    result = run(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert not record_files(pytester.path)


def test_a_missing_required_baseline_fails_and_is_recorded_for_the_next_run(
    run: Run, pytester: pytest.Pytester
) -> None:
    first = run("--gpuperf-require-baseline")
    first.assert_outcomes(failed=1)
    first.stdout.fnmatch_lines(["*NO BASELINE yet: 2 runs, nothing to compare with*"])
    pytester.makeini("[pytest]\ngpuperf_require_baseline = true")
    run().assert_outcomes(passed=1)
    more_key = run("--gpuperf-key=+host", "--gpuperf-key=-cores")
    more_key.assert_outcomes(failed=1)
    more_key.stdout.fnmatch_lines(["*has a different key: cores is *, not None; host is None, not **"])
    keys = [json.loads(path.read_text())["record"]["key"] for path in record_files(pytester.path)]
    assert [("host" in key, "cores" in key) for key in keys] == [(False, True), (False, True), (True, False)]


def test_only_the_metrics_of_the_marker_gate_and_the_pinned_record_counts(run: Run, pytester: pytest.Pytester) -> None:
    run()
    first = json.loads(record_files(pytester.path)[0].read_text())["record"]["id"]
    assert pytester.run(*GPUPERF, "baseline", "pin", first, "--reason", "release").ret == 0
    run().stdout.fnmatch_lines(["*2 runs compared with 1 baseline record*"])  # rolling and pinned are the same record
    result = run("--gpuperf-baseline=pinned")
    result.stdout.fnmatch_lines(["*2 runs compared with 1 baseline record*"])
    compared = pytester.run(*GPUPERF, "compare", "--format", "json", "--metrics", "p50,throughput")
    (comparison,) = json.loads(compared.stdout.str())["comparisons"]
    assert {row["against"] for row in comparison["rows"]} == {"baseline", "pinned"}
    assert first in comparison["baseline"]
    assert len(comparison["baseline"]) == 2
    assert "p90" not in result.stdout.str().partition("verdict")[2].partition("stored as")[0]
